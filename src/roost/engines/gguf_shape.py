"""How much memory a GGUF model's context takes, from the few numbers at the head of the file.

Called by the llama.cpp engine before a launch. It reads the first part of the header only, never the vocabulary or a
tensor, trusts no number in it, and answers None where the file does not say.
"""

from __future__ import annotations

import struct
from pathlib import Path

from roost.policy import sizing

HEAD_BYTES = 256 * 1024
"""The numbers stand before the vocabulary, which is the bulk of a header."""
VOCABULARY = "tokenizer."
"""The entries to stop at."""

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def kv_bytes_per_token(path: Path) -> int | None:
    """Bytes of key-value cache that one token of context takes; None when the header does not tell.

    Raises ``OSError``.
    """
    with path.open("rb") as file:
        return sizing.kv_bytes_per_token(facts(file.read(HEAD_BYTES)))


def facts(head: bytes) -> dict[str, int | float | str | list[int]]:
    """The entries at the head of a GGUF file, as many as are whole in ``head``; empty when it is none."""
    found: dict[str, int | float | str | list[int]] = {}
    try:
        magic, _version, _tensors, pairs = struct.unpack_from("<4sIQQ", head)
        if magic != b"GGUF":
            return found
        at = 24
        for _ in range(pairs):
            key, at = _string(head, at)
            if key.startswith(VOCABULARY):
                break
            (kind,) = struct.unpack_from("<I", head, at)
            value, at = _value(head, at + 4, kind)
            if value is not None:
                found[key] = value
    except (struct.error, UnicodeDecodeError, KeyError):
        return found  # the rest is not in ``head``, or nothing that can be read
    return found


def _value(head: bytes, at: int, kind: int) -> tuple[int | float | str | list[int] | None, int]:
    if kind == _STRING:
        return _string(head, at)
    if kind != _ARRAY:
        code = "<" + _SCALARS[kind]
        return struct.unpack_from(code, head, at)[0], at + struct.calcsize(code)
    element, count = struct.unpack_from("<IQ", head, at)
    at += 12
    if element == _STRING:
        for _ in range(count):
            _, at = _string(head, at)
        return None, at
    code = f"<{count}{_SCALARS[element]}"
    if count > len(head):
        raise struct.error("an array longer than the head")
    values = struct.unpack_from(code, head, at)
    whole = [each for each in values if isinstance(each, int) and each >= 0]
    return whole if len(whole) == count else None, at + struct.calcsize(code)


def _string(head: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", head, at)
    end = at + 8 + length
    if end > len(head):
        raise struct.error("a string beyond the head")
    return head[at + 8 : end].decode(), end
