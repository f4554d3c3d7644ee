"""The folder in which one model's weights arrive, held by one process at a time.

Called by the cache. What an interrupted attempt left is kept as long as the source is the same.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from roost.models.blocking import in_thread

POLL_S = 0.2
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MARK = "source"


def folder_name(model_id: str) -> str:
    """A folder name for a model: readable, short, and different for different ids."""
    readable = _UNSAFE.sub("-", model_id).strip(".-")[-60:]
    return f"{readable}-{hashlib.sha256(model_id.encode()).hexdigest()[:12]}"


@asynccontextmanager
async def held(folder: Path, fingerprint: str) -> AsyncIterator[Path]:
    """Hold ``folder`` (made where missing) while in the context, waiting while another process does.

    Left-overs of a source other than ``fingerprint`` are removed. Raises ``OSError``.
    """
    handle = await _lock(folder)
    try:
        await in_thread(lambda _: _prepare(folder, fingerprint))
        yield folder
    finally:
        os.close(handle)


def empty(folder: Path) -> None:
    """Remove what has arrived, keeping the folder. Raises ``OSError``."""
    for path in folder.iterdir():
        if path.name == _MARK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove(folder: Path) -> None:
    """Remove the folder. Raises ``OSError``."""
    shutil.rmtree(folder)


def discard(folder: Path) -> int:
    """Remove the folder and return the bytes freed; none where there is no folder, or somebody holds it. Blocks.

    Raises ``OSError``.
    """
    handle = _try_lock(folder) if folder.is_dir() else None
    if handle is None:
        return 0
    try:
        size = size_of(folder)
        remove(folder)
        return size
    finally:
        os.close(handle)


def size_of(folder: Path) -> int:
    """The bytes that have arrived. Somebody may be at work there. Blocks; raises ``OSError``."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a file that was complete just now has its place elsewhere
            size += path.stat().st_size if path.name != _MARK and path.is_file() else 0
    return size


def resumable(folder: Path) -> bool:
    """Whether an earlier attempt left something there. Raises ``OSError``."""
    return any(path.name != _MARK for path in folder.iterdir())


async def _lock(folder: Path) -> int:
    while True:
        # Not in a thread: a cancelled wait would leave a lock behind that nobody knows of. It takes microseconds.
        handle = _try_lock(folder)
        if handle is not None:
            return handle
        await asyncio.sleep(POLL_S)


def _try_lock(folder: Path) -> int | None:
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it may have removed the folder when it was done: then this is a lock on nothing.
        if os.path.samestat(os.fstat(handle), os.stat(folder)):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _prepare(folder: Path, fingerprint: str) -> None:
    mark = folder / _MARK
    if not mark.exists() or mark.read_text() != fingerprint:
        empty(folder)
        mark.write_text(fingerprint)
