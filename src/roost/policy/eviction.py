"""Which weights make way for others when the disk space that weights may take is limited. Called by the cache; the plan
takes the words from here.

Least recently used first; what is in use never. Pure: it deletes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXCEEDED = "quota_exceeded"
HINT_CROWDED = "Delete what is deployed from other weights, or raise models_quota_gb and restart the server."
HINT_TOO_LARGE = (
    "Raise models_quota_gb and restart the server, or choose smaller weights; then start the endpoint again."
)
SHOWN = 5
"""Models that a refusal names at most."""


@dataclass(frozen=True, slots=True)
class Held:
    """Disk space that weights hold: a file, whole or in part, of ``size`` bytes for ``models`` (ids; those of what an
    unfinished download left are unknown). ``used_at``: when a replica was last launched from it or it was fetched, in
    seconds since the epoch."""

    path: str
    models: tuple[str, ...]
    size: int
    used_at: float
    in_use: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """There is room once ``evict`` is gone (oldest first; empty: there is room already), for this ``reason``."""

    evict: tuple[Held, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class NoRoom:
    """There cannot be room; ``reason`` says what to free or to raise. ``ever`` False: whatever is freed."""

    reason: str
    ever: bool = True


def make_room(model: str, needed: int, held: Sequence[Held], quota: int, *, at_least: bool = False) -> Room | NoRoom:
    """What to evict so that ``needed`` bytes for ``model`` fit beside the rest of ``held`` within ``quota`` bytes.

    ``held`` does not count what ``model`` itself holds. ``at_least``: more than ``needed`` may follow, since nobody
    told the size. Nothing is evicted in vain, as far as ``needed`` tells: neither for what cannot fit, nor what could
    have stayed.
    """
    size = f"at least {shown(needed)}" if at_least else shown(needed)
    if needed > quota:
        return NoRoom(
            f"The weights of {model} need {size}, and all weights together may take {shown(quota)}: raise "
            "models_quota_gb.",
            ever=False,
        )
    pinned = [each for each in held if each.in_use]
    kept = sum(each.size for each in pinned)
    if kept + needed > quota:
        return NoRoom(
            f"The weights of {model} need {size}; of the {shown(quota)} that weights may take, {shown(kept)} "
            f"are in use or on their way ({_named(pinned)}): delete what is deployed from one of them, or raise "
            "models_quota_gb."
        )
    excess = sum(each.size for each in held) + needed - quota
    chosen: list[Held] = []
    for each in sorted((each for each in held if not each.in_use), key=lambda each: (each.used_at, each.path)):
        if excess <= 0:
            break
        chosen.append(each)
        excess -= each.size
    # A large one chosen late may have made earlier choices needless; of those, the latest used stay first.
    for each in reversed(chosen[:]):
        if excess + each.size <= 0:
            chosen.remove(each)
            excess += each.size
    return Room(
        tuple(chosen),
        f"its weights were used longest ago, and those of {model} ({size}) had to fit into the {shown(quota)} "
        "of models_quota_gb",
    )


def shown(size: int) -> str:
    """Bytes in the setting's unit, to three digits."""
    value = size / 1e9
    return f"{value:.0f} GB" if value >= 100 else f"{value:.3g} GB" if value >= 0.001 else f"{size} bytes"


def _named(held: Sequence[Held]) -> str:
    names = sorted({name for each in held for name in each.models})
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
