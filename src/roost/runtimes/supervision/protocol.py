"""What supervisors and runtimes say to each other: JSON objects, one a line, each with the protocol's number.

Supervisor to runtime: ``status`` (at once on connecting, then on every change), ``refused`` (this id was launched
before), ``failed`` (it cannot even begin), ``logs``. Runtime to supervisor: ``launch`` (the first line on the
supervisor's standard input), ``stop``, ``logs``. Fields are only ever added; the number rises when the meaning of one
changes. Unknown types are ignored.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1

MAX_LINE = 16 * 1024 * 1024
"""Bytes of the longest line either side takes; a peer that sends more is cut off."""


def encode(kind: str, **fields: Any) -> bytes:
    """One message as a line."""
    return json.dumps({"protocol": VERSION, "type": kind, **fields}, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message in ``line``. Raises ``ValueError`` when it is not a JSON object."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message


def split(buffer: bytearray) -> list[bytes]:
    """Take all complete lines out of ``buffer``."""
    *lines, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest
    return lines
