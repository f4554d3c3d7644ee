"""What all wire models have in common. Called by the other modules of this package only.

Answers ignore fields they do not know, so that an older client reads a newer server. Bodies are strict about types (no
``"3"`` or ``true`` for a number) and ignore unknown fields, since clients of several years send some; those that no
client but ours sends refuse them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class Answer(BaseModel):
    """A document that the server sends."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What differs from the default: the rest tells a reader nothing."""
        for name, value in super().__repr_args__():
            field = type(self).model_fields.get(name or "")
            if field is None or field.is_required() or value != field.get_default(call_default_factory=True):
                yield name, value


class Listing(Answer, Generic[T]):
    """A list that the server sends; iterating over it goes through ``data``."""

    object: Literal["list"] = "list"
    data: list[T]

    def __iter__(self) -> Iterator[T]:  # type: ignore[override]
        """The items. (Pydantic's own iteration, over field names, is of no use to anybody here.)"""
        return iter(self.data)


class Body(BaseModel):
    """A document that a client sends."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, protected_namespaces=())
