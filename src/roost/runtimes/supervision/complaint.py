"""What a supervisor has to say about itself: lines on its standard error, which is ``logs/supervisors.log``.

Used by the supervisor only. A complaint must never end a supervisor, and all complaints together must stay small: the
file is shared by the supervisors of a home, and nobody else watches its size.
"""

from __future__ import annotations

import os
import stat

MAX_FILE_BYTES = 1024 * 1024
"""A log that has grown to this begins anew."""

_STDERR = 2


def say(text: str) -> None:
    """Write a line. Nothing when that fails: the complaint may be that this very disk is full, and an exception here
    would end the supervisor and, with it, an engine that serves well."""
    bound()
    try:
        os.write(_STDERR, f"{text}\n".encode(errors="replace"))
    except OSError:
        return


def bound(max_bytes: int = MAX_FILE_BYTES) -> None:
    """Empty the log when it has grown to ``max_bytes``; all its writers append, so they go on at its start. Nothing
    when that fails, for the same reason."""
    try:
        found = os.fstat(_STDERR)
        if stat.S_ISREG(found.st_mode) and found.st_size >= max_bytes:
            os.ftruncate(_STDERR, 0)
    except OSError:
        return
