"""Disk space and file errors, as failures that say what to do.

Called by the sources and the cache. It never frees space by itself.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

from roost.domain.errors import ModelUnavailable

FreeBytes = Callable[[Path], int]
"""How many bytes may still be written under a folder."""


def free_bytes(folder: Path) -> int:
    """Bytes free for this user on the file system of ``folder``."""
    return shutil.disk_usage(folder).free


def shown(size: int) -> str:
    """A size for people, such as ``98.4 MB``."""
    if size < 1_000_000:
        return f"{size / 1e3:.1f} kB" if size >= 1000 else f"{size} bytes"
    return f"{size / 1e6:.1f} MB" if size < 1_000_000_000 else f"{size / 1e9:.1f} GB"


def disk_full(folder: Path, needed: int | None, free: int) -> ModelUnavailable:
    """The failure of a full disk; ``needed`` bytes are still to be written (None: unknown)."""
    more = (
        f"{shown(needed)} more are needed and {shown(free)} are free"
        if needed is not None
        else f"{shown(free)} are free"
    )
    return ModelUnavailable(
        f"The disk is full: under {folder} {more}. Free some space and start again; what has arrived is kept.",
        code="disk_full",
    )


def require_space(folder: Path, needed: int, free: FreeBytes) -> None:
    """Raise ``disk_full`` unless ``needed`` more bytes fit under ``folder``."""
    available = free(folder)
    if available < needed:
        raise disk_full(folder, needed, available)


def failure(error: OSError, folder: Path, needed: int | None, free: FreeBytes) -> ModelUnavailable:
    """What an error of the file system means for a download into ``folder``."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return disk_full(folder, needed, free(folder))
    place = error.filename or folder
    reason = error.strerror or str(error)
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return ModelUnavailable(
            f"No permission to use {place}: {reason}. Let the user that runs the server read and write it.",
            code="permission",
        )
    return ModelUnavailable(
        f"The file system failed at {place}: {reason}. Check the disk, then start again.", code="disk_error"
    )
