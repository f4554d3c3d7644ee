"""JSON that engines write, read as leniently as their clients would, and written again. Pure.

Called by everything that has to look into an engine's answer: ``shaping``, ``chunks``, ``shape``. Models are cut off in
the middle of an emoji, so half a surrogate pair is nothing special in an answer.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def loads(data: bytes | str) -> Any:
    """The value in ``data``. Raises ``ValueError``, also for what is nested too deep."""
    escape: Any = ("\\ud", "\\uD") if isinstance(data, str) else (b"\\ud", b"\\uD")
    if escape[0] not in data and escape[1] not in data:
        return orjson.loads(data)
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deep") from None


def dumps(value: Any) -> bytes:
    """``value`` as JSON bytes; half a surrogate pair is escaped."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")
