"""Domain objects as JSON documents and back.

Called by ``rows``. Times become ISO 8601 strings, durations seconds, enumerations their values. Reading ignores fields
it does not know and takes the default for fields that are missing, so that a field with a default can be added to a
domain class without a migration. Never validates: what is read was written by ``encode``.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Hashable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

Reader = Callable[[Any], Any]


def encode(value: Any) -> Any:
    """``value`` (a dataclass, or anything that a field of one may hold) as JSON-serialisable values."""
    if dataclasses.is_dataclass(value):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], document: Mapping[str, Any]) -> T:
    """The dataclass ``kind`` that ``encode`` wrote. Raises ``TypeError`` when a field without a default is missing."""
    readers = _readers(cast(Hashable, kind))
    return kind(**{name: readers[name](item) for name, item in document.items() if name in readers})


@cache
def _readers(kind: Any) -> Mapping[str, Reader]:
    hints = get_type_hints(kind)
    fields = dataclasses.fields(kind)
    return {field.name: _reader(hints[field.name]) for field in fields}


def _reader(hint: Any) -> Reader:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = _reader(next(argument for argument in arguments if argument is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        item = _reader(arguments[0])
        return lambda value: tuple(item(entry) for entry in value)
    if dataclasses.is_dataclass(hint):
        return lambda value: decode(cast(type[Any], hint), value)
    if hint is datetime:
        return datetime.fromisoformat
    if hint is timedelta:
        return lambda value: timedelta(seconds=value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    return lambda value: value
