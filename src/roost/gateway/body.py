"""Request bodies of inference: decode, check, rewrite. Pure.

Called by ``front`` and ``exchange``. Whatever the bytes are, the outcome is a dictionary or a ``Refusal``, never an
exception.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson

from roost.gateway.answers import Refusal

_EMPTY = Refusal(400, "The request body is empty: send a JSON object.", "invalid_json")
_NOT_OBJECT = Refusal(400, "The request body must be a JSON object.", "invalid_json")
MAX_DEPTH = 200
"""A body that has to be rewritten may be nested this deep; one that passes untouched as deep as it can be read."""
_TOO_DEEP = Refusal(400, "The request body is nested too deep.", "invalid_json")


UNCOUNTED = 1 << 20
"""Bodies up to this many bytes are decoded in little time, whatever is in them."""
MOST_VALUES = 1_310_720
"""Values in a longer one, about: more than ``limits.MOST_TOKENS``, and so few that nobody else has to wait long."""
MOST_NAMES = 262_144
"""Names of values in a longer one, about: they take several times as long."""
MOST_LENIENT = 16 << 20
"""Bytes of a body that is read by the lenient parser, which is slow."""
_TOO_MANY_VALUES = Refusal(
    413,
    f"The request body has too many values: with more than {UNCOUNTED} bytes it may have about {MOST_VALUES} commas "
    f"and opening brackets and {MOST_NAMES} colons, those in texts included. Send it in several requests.",
    "too_many_values",
    should_retry=False,
)


def decode(raw: bytes) -> dict[str, Any] | Refusal:
    """The JSON object in ``raw``, or why it is none, or has too much in it."""
    if len(raw) > UNCOUNTED and _is_heavy(raw):
        return _TOO_MANY_VALUES
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        value = _decode_leniently(raw, error)
    if isinstance(value, dict):
        return value
    return value if isinstance(value, Refusal) else _NOT_OBJECT


def _is_heavy(raw: bytes) -> bool:
    # Before anything is made of it. Counting takes a nanosecond for each byte or less.
    return raw.count(b":") > MOST_NAMES or raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MOST_VALUES


def _decode_leniently(raw: bytes, error: orjson.JSONDecodeError) -> Any:
    # orjson refuses lone surrogates and some numbers that other parsers, engines included, accept.
    if not raw.strip():
        return _EMPTY
    try:
        if len(raw) > MOST_LENIENT:
            raise error
        return json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        return _TOO_DEEP
    except ValueError:
        if "depth limit" in str(error) or "ecursion" in str(error):
            return _TOO_DEEP
        return Refusal(400, f"The request body is not valid JSON: {error}.", "invalid_json")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


HALF_A_PAIR = Refusal(
    400,
    "The request body is not valid JSON text: a string holds half a surrogate pair (\\ud800 to \\udfff without its "
    "other half).",
    "invalid_json",
)


def holds_half_a_pair(raw: bytes, body: dict[str, Any]) -> bool:
    """Whether a string of ``body``, decoded from ``raw``, has half a surrogate pair, which JSON can name and UTF-8
    cannot hold."""
    if b"\\ud" not in raw and b"\\uD" not in raw:
        return False
    try:
        orjson.dumps(body)
    except TypeError:  # that, or a number or a depth that orjson does not write
        return any(_broken(text) for text in _strings(body))
    return False


def _strings(body: dict[str, Any]) -> Iterator[str]:
    left: list[Any] = [body]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)


def _broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def encode(body: dict[str, Any] | list[Any]) -> bytes | Refusal:
    """``body``, or a part of one, as JSON bytes, or why it cannot be written again: it is nested deeper than
    ``MAX_DEPTH``. What orjson does not write (lone surrogates, wide integers) goes through ``json``."""
    try:
        encoded = orjson.dumps(body)
    except TypeError:
        if _deeper(body, MAX_DEPTH):
            return _TOO_DEEP
        return json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    # Most bodies have too few brackets to be deep: counting them is much cheaper than looking at each value.
    if encoded.count(b"[") + encoded.count(b"{") > MAX_DEPTH and _deeper(body, MAX_DEPTH):
        return _TOO_DEEP
    return encoded


def _deeper(body: dict[str, Any] | list[Any], limit: int) -> bool:
    level: list[Any] = [body]
    for _ in range(limit):
        level = [
            v for item in level for v in (item.values() if type(item) is dict else item) if type(v) in (dict, list)
        ]
        if not level:
            return False
    return True
