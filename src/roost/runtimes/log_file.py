"""The last lines of a replica's log file, for replicas whose supervisor is gone. Used by the local runtime."""

from __future__ import annotations

import os
from pathlib import Path

from roost.runtimes.supervision.log_tail import text

_MAX_BYTES = 1024 * 1024


def last_lines(path: Path, count: int) -> tuple[str, ...]:
    """The last ``count`` lines of ``path``, continued from ``<path>.1`` where it was rotated; empty when there is no
    file. Reads at most 1 MiB of each."""
    lines = _tail(path)
    if len(lines) < count:
        lines = _tail(path.with_name(f"{path.name}.1")) + lines
    return tuple(lines[-count:]) if count > 0 else ()


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - _MAX_BYTES)
            file.seek(start)
            pieces = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    if pieces and not pieces[-1]:
        pieces.pop()
    return [text(piece) for piece in (pieces[1:] if start else pieces)]
