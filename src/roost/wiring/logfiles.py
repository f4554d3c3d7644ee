"""The log files of the server's processes: opening, bounding, showing their end.

The parent opens them and gives them to its children as standard output and error, so that whatever a child says is
kept, its last words included. It must never lose a line that is already in the file, except by rotation.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import IO

MAX_BYTES = 20 * 1024 * 1024
"""A log that has grown beyond this is set aside as ``<name>.1``; the one before that is dropped."""


def open_log(path: Path) -> IO[bytes]:
    """The file, opened to append, readable by its owner only."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")


def rotate(path: Path, max_bytes: int = MAX_BYTES) -> bool:
    """Set the log aside when it is larger than ``max_bytes``; True when it was.

    Writers keep their descriptor, so the file is copied and then emptied; they append, so they go on at its start.
    Lines written between the copy and the cut (microseconds) are lost. When there is no room for the copy, the log is
    emptied all the same: it must not be what keeps a full disk full. Raises the ``OSError`` of the copy then.
    """
    if not path.exists() or path.stat().st_size <= max_bytes:
        return False
    aside = path.with_name(f"{path.name}.1")
    try:
        with open_log(aside) as target, path.open("rb") as source:
            target.truncate(0)
            shutil.copyfileobj(source, target)
    except OSError:
        os.truncate(path, 0)
        aside.unlink(missing_ok=True)
        raise
    os.truncate(path, 0)
    return True


def size(path: Path) -> int:
    """Bytes in the file, 0 when there is none: where what comes next will begin."""
    return path.stat().st_size if path.exists() else 0


def tail(path: Path, lines: int = 15, start: int = 0) -> list[str]:
    """The last ``lines`` lines written after byte ``start`` (at most 64 KiB are looked at)."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(min(start, end), end - 65536))
        return file.read().decode(errors="replace").splitlines()[-lines:]
