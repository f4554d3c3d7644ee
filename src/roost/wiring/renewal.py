"""Restarts in place: new gateway workers, or a whole new server, while requests go on.

Run by ``wiring.parent`` as one task. What became of the last restart stands in ``run/restart.json``, for ``roost
restart``. It must never end what serves before what takes its place has shown that it can.
"""

from __future__ import annotations

import asyncio
import json
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roost._version import __version__
from roost.wiring import takeover
from roost.wiring.child import Child
from roost.wiring.home import write_private
from roost.wiring.takeover import CannotRestart, Handover

CHECK_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 60.0
"""How long a new process may take to be ready."""

FILE = "restart.json"
IDLE, CHECKING, RENEWING, DONE, FAILED = "idle", "checking", "renewing", "done", "failed"
"""States of a restart; ``roost restart`` waits for one of the last two."""


@dataclass(frozen=True, slots=True)
class Crew:
    """The children of the server, and how long a gateway worker may take to leave, in seconds."""

    control: Child
    gateways: Sequence[Child]
    leave_s: float

    @property
    def all(self) -> list[Child]:
        """All of them, the control plane first."""
        return [self.control, *self.gateways]


class Renewal:
    """The restarts of one parent, one after the other. ``argv`` is the command line that starts the server anew (empty:
    it cannot be). ``hold`` tells what the next program takes over, for restart ``number``."""

    def __init__(
        self, run_dir: Path, argv: Sequence[str], say: Callable[[str], None], hold: Callable[[int], Handover]
    ) -> None:
        self._path = run_dir / FILE
        self._argv = argv
        self._say = say
        self._hold = hold
        self._wished = asyncio.Event()
        self._all = False
        self._number = 0
        self._stopped = False

    def wish(self, *, gateways_only: bool) -> None:
        """Restart as soon as the one under way, if any, is over."""
        self._all = self._all or not gateways_only
        self._wished.set()

    def stop(self) -> None:
        """Begin no more restarts: the server stops."""
        self._stopped = True

    async def run(self, crew: Crew, handover: Handover | None) -> None:
        """Restart whenever it is wished for; first finish what the program before began. Runs until cancelled."""
        if handover is None:
            self._tell(IDLE)
        else:
            self._number = handover.number
            await self._attempt(self._renew_all(crew))
        while True:
            await self._wished.wait()
            self._wished.clear()
            if self._stopped:
                return
            whole, self._all = self._all, False
            self._number += 1
            await self._attempt(self._execute() if whole else self._roll(crew))

    async def _attempt(self, restart: Coroutine[Any, Any, None]) -> None:
        try:
            await restart
        except CannotRestart as error:
            self._say(f"Not restarted: {error.message}")
            self._tell(FAILED, error.message)
        else:
            self._say(f"Restarted: this is Roost {__version__}.")
            self._tell(DONE)

    async def _execute(self) -> None:
        """Become the new program, if a dry start of it works."""
        self._tell(CHECKING)
        await self._check()
        if self._stopped:
            raise CannotRestart("The server is stopping.")
        self._tell(RENEWING)
        takeover.execute(self._argv, self._hold(self._number), self._take_wishes())

    def _take_wishes(self) -> tuple[int, ...]:
        """What was wished for meanwhile, as the signal that asks for it: the next program is to do it."""
        if not self._wished.is_set():
            return ()
        whole, self._all = self._all, False
        self._wished.clear()
        return (signal.SIGUSR2 if whole else takeover.RESTART_GATEWAYS,)

    async def _check(self) -> None:
        if not self._argv:
            raise CannotRestart("This server does not know the command line that it was started by.")
        process = await asyncio.create_subprocess_exec(
            *self._argv, "--check", stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                output, errors = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise CannotRestart(f"The new program's check of itself took more than {CHECK_TIMEOUT_S:g} s.") from None
        if process.returncode != 0:
            last = errors.decode(errors="replace").strip().rpartition("\n")[2].removeprefix("Error: ")
            raise CannotRestart(last or f"The new program's check of itself ended with code {process.returncode}.")
        try:
            protocol = json.loads(output)["protocol"]
        except (ValueError, KeyError, TypeError):
            protocol = None
        if protocol != takeover.PROTOCOL:
            raise CannotRestart(
                "The installed version cannot take over from the running one: "
                "`roost stop --keep-replicas`, then `roost serve`."
            )

    async def _renew_all(self, crew: Crew) -> None:
        """In the new program: a new control plane first, then gateway workers that heard from it."""
        self._tell(RENEWING)
        # Its end by this signal leaves the replicas running; the gateways serve by their last table meanwhile.
        failure = await crew.control.renew(end=signal.SIGUSR1, timeout_s=READY_TIMEOUT_S)
        if failure is not None:
            raise CannotRestart(
                f"{failure.message}\nThe gateway workers of before go on serving, and the control plane is tried again."
            )
        await self._roll(crew)

    async def _roll(self, crew: Crew) -> None:
        """A new worker for each gateway, one after the other."""
        self._tell(RENEWING)
        for gateway in crew.gateways:
            failure = await gateway.replace(hand_over=signal.SIGUSR1, timeout_s=READY_TIMEOUT_S, leave_s=crew.leave_s)
            if failure is not None:
                raise CannotRestart(f"{failure.message}\nThe gateway worker of before goes on serving.")

    def _tell(self, state: str, message: str | None = None) -> None:
        told = {"number": self._number, "state": state, "message": message, "version": __version__}
        try:
            write_private(self._path, json.dumps(told))
        except OSError as error:
            self._say(f"Cannot write {self._path}: {error.strerror}.")
