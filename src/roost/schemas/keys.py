"""API keys on the wire. The key itself is in the answer to its creation and nowhere else."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from roost.schemas.base import Answer, Body, Listing

State = Literal["active", "expired", "revoked"]
"""Whether a key is accepted."""

Role = Literal["admin", "member", "inference"]
"""What a key may do."""


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _rfc_3339(value: Any) -> Any:
    """``value`` unless it is something else than a time as RFC 3339 writes it (pydantic alone takes bare numbers)."""
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        return value
    raise PydanticCustomError("datetime_rfc_3339", "must be a time in RFC 3339 with a time zone")


class ApiKey(Answer):
    """An issued key, without the key."""

    object: Literal["api_key"] = "api_key"
    id: str
    owner: str
    role: Role
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    state: State
    name: str | None = None
    endpoints: list[str] | None = Field(
        default=None, description="Ids of the endpoints that the key is for; null: all of its owner's."
    )


class ApiKeyCreated(ApiKey):
    """A key that was made just now: the only time that ``key`` is shown."""

    key: str = Field(repr=False)


class ApiKeyList(Listing[ApiKey]):
    """All keys that the caller may see, oldest first."""


class ApiKeyCreate(Body):
    """The body of ``POST /keys``. ``owner`` defaults to the caller's.

    A field that is not known is refused: a misspelt limit must not make a key without it.
    """

    model_config = ConfigDict(extra="forbid")

    owner: str | None = None
    role: str = Field(default="member", description="admin, member or inference.")
    expires_at: Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_rfc_3339)] | None = Field(
        default=None, description="RFC 3339 with a time zone; absent: never."
    )
    name: str | None = Field(default=None, description="For people: what the key is used for.")
    endpoints: list[str] | None = Field(
        default=None,
        description="Ids or names of the endpoints that the key is for; absent: all of its owner's. Not for admins.",
    )
