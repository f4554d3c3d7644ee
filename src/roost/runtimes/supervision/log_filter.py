"""What may be kept of an engine's output, by the rule that the engine declares (``domain.launch.OutputRule``).

Used by the supervisor only, before anything reaches memory or disk. It must never let a line through that no pattern
knows, once the engine serves: such lines may hold parts of requests.
"""

from __future__ import annotations

import re

from .log_tail import MAX_LINE_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CUT = b" [...]"
"""Stands for the rest of a line that was not kept."""


class LogFilter:
    """Feed it bytes, get those to keep. The patterns are those of an ``OutputRule``."""

    def __init__(self, open_until: str, keep: Sequence[str]) -> None:
        self._open_until = re.compile(open_until.encode())
        self._keep = [re.compile(pattern.encode()) for pattern in keep]
        self._open = True
        self._partial = b""

    def feed(self, data: bytes) -> bytes:
        """What is kept of the lines that ``data`` completes. Of an endless line only its start is remembered."""
        *lines, rest = (self._partial + data).split(b"\n")
        self._partial = rest[:MAX_LINE_BYTES]
        return b"".join(self._kept(line) for line in lines)

    def end(self) -> bytes:
        """What is kept of an unfinished last line."""
        rest, self._partial = self._partial, b""
        return self._kept(rest) if rest else b""

    def _kept(self, line: bytes) -> bytes:
        if self._open:
            self._open = self._open_until.match(line) is None
            return line + b"\n"
        for pattern in self._keep:
            found = pattern.match(line)
            if found is not None:
                return found[0] + (CUT if found.end() < len(line) else b"") + b"\n"
        return b""
