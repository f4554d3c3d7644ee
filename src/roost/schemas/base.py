"""What all wire models have in common. Called by the other modules of this package only.

Answers ignore fields they do not know, so that an older client reads a newer server. Bodies are strict about types (no
``"3"`` or ``true`` for a number) and ignore unknown fields, since clients of several years send some.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """A document that the server sends."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Body(BaseModel):
    """A document that a client sends."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, protected_namespaces=())
