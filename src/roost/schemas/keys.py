"""API keys on the wire. The key itself is in the answer to its creation and nowhere else."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from roost.domain.key import MAX_LIMIT
from roost.schemas.base import Answer, Body, Listing

State = Literal["active", "expired", "revoked"]
"""Whether a key is accepted."""

Role = Literal["admin", "member", "inference"]
"""What a key may do."""


def _limit(what: str) -> Any:
    return Field(default=None, description=f"{what}; null: any number.")


def _settable(what: str) -> Any:
    return Field(default=None, ge=1, le=MAX_LIMIT, description=f"{what}; null: any number.")


_REQUESTS = "Inference requests per minute, of which a minute's may come at once"
_TOKENS = "Prompt and completion tokens per minute"
_CONCURRENCY = "Inference requests at once, waiting ones included"
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
    requests_per_minute: int | None = _limit(_REQUESTS)
    tokens_per_minute: int | None = _limit(_TOKENS)
    concurrency: int | None = _limit(_CONCURRENCY)


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
    requests_per_minute: int | None = _settable(_REQUESTS)
    tokens_per_minute: int | None = _settable(_TOKENS)
    concurrency: int | None = _settable(_CONCURRENCY)


class ApiKeyUpdate(Body):
    """The body of ``PATCH /keys/{id}``: any subset; what is absent stays. Unknown fields are refused, as when a key is
    made."""

    model_config = ConfigDict(extra="forbid")

    requests_per_minute: int | None = _settable(_REQUESTS)
    tokens_per_minute: int | None = _settable(_TOKENS)
    concurrency: int | None = _settable(_CONCURRENCY)
