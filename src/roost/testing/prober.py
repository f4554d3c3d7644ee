"""A prober that tests hold in their hands: a replica is proven when they say so."""

from __future__ import annotations

from datetime import timedelta

from roost.control.prober import Proof
from roost.engines.base import Probe


class ManualProber:
    """Keeps the promises of ``control.prober.Prober`` without asking anybody."""

    def __init__(self) -> None:
        self._proofs: dict[str, Proof] = {}
        self._elsewhere: set[str] = set()

    def start(self, replica_id: str, address: str, probe: Probe, api_key_env: str | None) -> None:
        """Remember that the replica is to be proven."""
        self._proofs.setdefault(replica_id, Proof(False))

    def watch(self, replica_id: str, address: str, health_path: str | None, *, managed: bool) -> None:
        """Remember that the replica is looked after."""
        self._proofs[replica_id] = Proof(True, watched=True)
        if not managed:
            self._elsewhere.add(replica_id)

    def lose(self, replica_id: str, fault: str) -> None:
        """The replica can no longer be reached."""
        self._proofs[replica_id] = Proof(False, fault, watched=True, lost=True)

    def fall_silent(self, replica_id: str, lasting: timedelta) -> None:
        """The replica has not answered its health check for so long."""
        self._proofs[replica_id] = Proof(True, "no answer", watched=True, unresponsive_for=lasting)

    def answer_again(self, replica_id: str) -> None:
        """The replica answers its health check."""
        self._proofs[replica_id] = Proof(True, watched=True)

    def watching(self) -> list[str]:
        """Servers elsewhere that are looked after and were not lost."""
        return [name for name in self._elsewhere if (p := self._proofs.get(name)) and p.watched and not p.lost]

    def proof(self, replica_id: str) -> Proof | None:
        """What was said of the replica; None before ``start``."""
        return self._proofs.get(replica_id)

    def forget(self, replica_id: str) -> None:
        """Forget the replica."""
        self._proofs.pop(replica_id, None)

    async def close(self) -> None:
        """Nothing to end."""

    def probing(self) -> list[str]:
        """Replicas that are being probed and not yet proven."""
        return [name for name, proof in self._proofs.items() if not proof.proven]

    def prove(self, replica_id: str) -> None:
        """The replica has answered."""
        self._proofs[replica_id] = Proof(True)

    def fall_short(self, replica_id: str, fault: str) -> None:
        """The replica has answered badly."""
        self._proofs[replica_id] = Proof(False, fault)
