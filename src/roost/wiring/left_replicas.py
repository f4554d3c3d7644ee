"""Replicas of a home that run though no server watches them: what a killed server, or one whose control plane had to
be killed, left behind.

Used by the parent, to say so, and by ``roost stop``, to end them. It goes by the records in ``run/replicas`` and
leaves the proof whose process is whose to the local runtime.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from roost.config import Settings
from roost.runtimes.local_paths import LocalPaths
from roost.runtimes.supervision import record
from roost.wiring import instance
from roost.wiring.leftovers import Leftovers
from roost.wiring.pids import write_pid


def running(home: Path) -> tuple[str, ...]:
    """The ids of the home's replicas that have not ended, by their supervisors' locks. Raises ``OSError``.

    To be called when no server runs: the locks are tried.
    """
    return tuple(path.stem for path in sorted(LocalPaths(home).records.glob("*.json")) if _runs(path))


def counted(replicas: int) -> str:
    """``1 replica``, ``2 replicas``."""
    return f"{replicas} replica{'' if replicas == 1 else 's'}"


def end(place: Path, say: Callable[[str], None], *, now: bool) -> None:
    """End the replicas of the home, after old gateways have finished their requests (``now``: at once).

    Raises ``Conflict`` when a server runs, and ``OSError``.
    """
    settings = _settings(place)
    lock = instance.acquire(settings)
    try:
        # Whoever holds the lock is named here: another `roost stop` signals this process and no stranger.
        write_pid(settings.run_dir / "serve.pid", os.getpid())
        with Leftovers(settings, say) as leftovers:
            leftovers.end_control()
            if not now:
                leftovers.await_gateways(settings.drain_deadline_s)
        asyncio.run(_end(place, timedelta(0) if now else timedelta(seconds=settings.stop_grace_s)))
    finally:
        (settings.run_dir / "serve.pid").unlink(missing_ok=True)
        lock.release()


def _runs(path: Path) -> bool:
    try:
        found = record.read(str(path))
    except ValueError:
        found = {}  # damaged: its lock still tells
    lock_path = path.with_suffix(".lock")
    if found is None or found.get("state") == "EXITED" or not lock_path.exists():
        return False
    lock = record.lock(str(lock_path))
    if lock is not None:
        os.close(lock)
    return lock is None


async def _end(home: Path, grace: timedelta) -> None:
    # Imported here: the parent, which uses the rest of this module, must stay small.
    from roost.runtimes.base import RuntimeSettings
    from roost.runtimes.local import LocalRuntime

    for installation in sorted(_installations(home)):
        runtime = LocalRuntime(RuntimeSettings(home, installation))
        await runtime.start()
        try:
            found = await runtime.list()
            await asyncio.gather(*(runtime.stop(one.replica_id, grace) for one in found))
        finally:
            await runtime.close()


def _installations(home: Path) -> set[str]:
    """Whose replicas there are. The store would say which installation the home has now, but the user wants an end of
    all, those of a store that was thrown away included."""
    found = set()
    for path in LocalPaths(home).records.glob("*.json"):
        try:
            raw = record.read(str(path)) or {}
        except ValueError:
            continue  # damaged: the runtime leaves it alone, too
        if isinstance(raw.get("installation"), str):
            found.add(raw["installation"])
    return found


def _settings(place: Path) -> Settings:
    """The settings of the server that left the replicas; the built-in ones when it did not leave those."""
    try:
        return replace(Settings.parse((place / "run" / "settings.json").read_text()), home=place)
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return Settings(home=place)
