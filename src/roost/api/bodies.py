"""Reading request bodies: bytes to JSON to wire models, every fault a 400 (or 413) that names the field.

Called by routes. The content type is not looked at: clients leave it out or send others. A message never repeats what
the body holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from roost.domain.errors import BadRequest, PayloadTooLarge

B = TypeVar("B", bound=BaseModel)

MAX_DEPTH = 64
"""How deep objects and arrays may lie in each other: far more than any body has, far less than troubles a parser."""

_EXPECTED: Mapping[str, str] = {
    "string_type": "must be a string",
    "string_pattern_mismatch": "has a form that is not accepted here",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be an array",
    "dict_type": "must be an object",
    "extra_forbidden": "is no field of this request",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not have fewer items than {min_length}",
    "too_long": "must not have more items than {max_length}",
}
"""What is said of a field by the kind of its fault, whose context fills the braces."""


async def json_object(request: Request, limit: int) -> dict[str, Any]:
    """The body as a JSON object. Raises ``BadRequest``, and ``PayloadTooLarge`` above ``limit`` bytes."""
    raw = await _read(request, limit)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        # Said in our own words, since the library's name what it found there.
        raise BadRequest(
            f"The request body is no JSON that can be read (line {error.lineno}, column {error.colno}).",
            code="bad_json",
        ) from error
    if not isinstance(value, dict):
        raise BadRequest("The request body must be a JSON object.", code="bad_json")
    # Counted first, since walking through a body costs more.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _is_deep(value):
        raise BadRequest(f"The request body is nested more than {MAX_DEPTH} levels deep.", code="bad_json")
    if b"\\u0000" in raw:
        for path, text in _texts(value):
            if "\0" in text:
                raise BadRequest(f"{path} must not hold NUL characters.", param=path)
    return value


def parsed(kind: type[B], value: Mapping[str, Any]) -> B:
    """``value`` as a wire model. Raises ``BadRequest`` naming the first field that does not fit."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])[:200]
        raise BadRequest(f"{field} {complaint(first)}.", param=field) from error


def complaint(fault: Mapping[str, Any]) -> str:
    """What is wrong with a field, as the rest of a sentence; ``fault`` is one of pydantic's errors."""
    kind, message = fault["type"], fault["msg"]
    if kind == "missing":
        return "is required"
    if kind.startswith(("datetime", "timezone")):
        return "must be a time in RFC 3339 with a time zone"
    if kind in _EXPECTED:
        return _EXPECTED[kind].format_map(fault.get("ctx", {}))
    return f"is not accepted: {message.removeprefix('Value error, ').rstrip('.')}"


async def _read(request: Request, limit: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body exceeds {limit} bytes.")


def _is_deep(value: Any) -> bool:
    """Whether a JSON value is nested more than ``MAX_DEPTH`` levels deep. Level by level, not recursive."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for item in level
            if isinstance(item, (dict, list))
            for part in (item.values() if isinstance(item, dict) else item)
        ]
    return any(isinstance(item, (dict, list)) for item in level)


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    """All strings in a JSON value, keys included, with the path of their field. Not recursive: bodies may be deep."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, str):
            yield path, item
        elif isinstance(item, list):
            waiting.extend((path, part) for part in item)
        elif isinstance(item, dict):
            for key, part in item.items():
                yield path or "A field name", key
                waiting.append((f"{path}.{key}" if path else key, part))
