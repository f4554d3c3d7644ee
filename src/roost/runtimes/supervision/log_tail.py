"""An engine's output: its last lines in memory and a file that cannot grow without bound.

Used by the supervisor only. A file that cannot be written never ends the replica: the lines stay in memory, and one of
them says what is wrong with the file.
"""

from __future__ import annotations

import os
from collections import deque

MAX_LINES = 500
MAX_LINE_BYTES = 4000
MAX_FILE_BYTES = 4 * 1024 * 1024


class LogTail:
    """Feed it bytes, ask it for lines. ``path`` grows to ``max_file_bytes``, then becomes ``<path>.1``."""

    def __init__(self, path: str, *, max_lines: int = MAX_LINES, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        self._path = path
        self._max_file_bytes = max_file_bytes
        self._lines: deque[str] = deque(maxlen=max_lines)
        self._partial = b""
        self._fd: int | None = None
        self._size = 0
        self._complained = False

    def feed(self, data: bytes) -> None:
        """Take the next piece of output."""
        self._write(data)
        *lines, rest = (self._partial + data).split(b"\n")
        for line in lines:
            self._add(line)
        while len(rest) > MAX_LINE_BYTES:
            self._add(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._partial = rest

    def lines(self, count: int) -> list[str]:
        """The last ``count`` lines, an unfinished last one included."""
        found = [*self._lines, text(self._partial)] if self._partial else list(self._lines)
        return found[-count:] if count > 0 else []

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _add(self, line: bytes) -> None:
        self._lines.append(text(line[:MAX_LINE_BYTES]))

    def _write(self, data: bytes) -> None:
        try:
            if self._fd is None:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                self._size = os.fstat(self._fd).st_size
            os.write(self._fd, data)
            self._size += len(data)
            if self._size >= self._max_file_bytes:
                self.close()
                os.replace(self._path, f"{self._path}.1")
        except OSError as error:
            if not self._complained:
                self._complained = True
                self._lines.append(f"[roost] cannot write {self._path}: {error.strerror}")


def text(line: bytes) -> str:
    """A line for people: of a line that was redrawn by carriage returns (progress bars) the last state."""
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")
