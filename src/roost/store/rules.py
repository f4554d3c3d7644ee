"""What every store checks and says the same way: times, text, and the sentences of its errors.

Pure. Called by ``memory`` and ``sql`` on everything that comes in, so that the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from roost.domain.creation import Creation
from roost.domain.endpoint import Endpoint
from roost.domain.errors import BadRequest, Conflict, NotFound, VersionConflict
from roost.domain.event import Event
from roost.domain.key import ApiKey, Role
from roost.domain.model import Model
from roost.domain.usage import UsageBatch
from roost.store.base import StatusChange

T = TypeVar("T")

MAX_INTEGER = 2**63 - 1
"""The largest integer that databases compare."""


def canonical(value: T) -> T:
    """``value`` with every time in UTC and every mapping copied, so that the caller's later changes do not reach it.

    Raises ``ValueError`` for a time without a time zone.
    """
    return cast(T, _canonical(value))


def _canonical(value: Any) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value if value.tzinfo is UTC else value.astimezone(UTC)
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        changes = {}
        for field in fields(value):
            before = getattr(value, field.name)
            after = _canonical(before)
            if after is not before:
                changes[field.name] = after
        return replace(value, **changes) if changes else value
    return value


def storable(text: str) -> bool:
    """Whether ``text`` can be an identifier: no NUL and no lone surrogates, which databases refuse."""
    return "\0" not in text and (text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text))


def prepare_endpoint(endpoint: Endpoint) -> Endpoint:
    """An endpoint as stores keep it. Raises ``BadRequest`` for identifiers that no database takes."""
    _require_storable(endpoint.id, endpoint.name, endpoint.owner)
    return canonical(endpoint)


def prepare_creation(creation: Creation, endpoint_id: str) -> Creation:
    """A creation as stores keep it. Raises ``ValueError`` for one of another endpoint."""
    if creation.endpoint_id != endpoint_id:
        raise ValueError(f"a creation of {creation.endpoint_id} cannot be kept for {endpoint_id}")
    return canonical(creation)


def prepare_key(key: ApiKey) -> ApiKey:
    """A key as stores keep it. Raises ``BadRequest`` for identifiers that no database takes."""
    _require_storable(key.id, key.digest, key.owner, key.name or "", *(key.endpoints or ()))
    return canonical(key)


def prepare_model(model: Model) -> Model:
    """A model as stores keep it. Raises ``BadRequest`` for an id that no database takes."""
    _require_storable(model.id)
    return canonical(model)


def prepare_events(events: Sequence[Event]) -> list[Event]:
    """Events as stores keep them. Raises ``BadRequest`` for identifiers that no database takes."""
    for event in events:
        _require_storable(event.id, event.kind, event.actor, event.endpoint_id or "", event.replica_id or "")
    return [canonical(event) for event in events]


def prepare_change(change: StatusChange) -> StatusChange:
    """A change as stores write it. Raises ``ValueError`` when it holds a replica of another endpoint or one twice."""
    ids = [replica.id for replica in change.upsert_replicas]
    for replica in change.upsert_replicas:
        _require_storable(replica.id)
        if replica.endpoint_id != change.endpoint_id:
            raise ValueError(f"{replica.id} belongs to {replica.endpoint_id}, not to {change.endpoint_id}")
    if len(set(ids)) != len(ids):
        raise ValueError(f"a replica occurs twice in one change of {change.endpoint_id}")
    return replace(
        change,
        status=canonical(change.status),
        upsert_replicas=tuple(canonical(replica) for replica in change.upsert_replicas),
        events=tuple(prepare_events(change.events)),
    )


def prepare_usage(batch: UsageBatch) -> UsageBatch:
    """A report as stores keep it: one row per key. Raises ``BadRequest`` for what no database takes, and when a row
    occurs twice."""
    _require_storable(batch.gateway)
    for row in batch.rows:
        _require_storable(row.endpoint_id, row.replica_id or "", row.key_id or "", row.outcome, row.owner)
    batch = replace(batch, rows=tuple(canonical(row) for row in batch.rows))
    if len({row.key for row in batch.rows}) != len(batch.rows):
        raise BadRequest("A row occurs twice in one report of usage.")
    return batch


def check_limit(limit: int) -> None:
    """Raise ``ValueError`` for a page of negative size, which databases read in different ways."""
    if limit < 0:
        raise ValueError(f"limit must not be negative, but is {limit}")


def _require_storable(*texts: str) -> None:
    for text in texts:
        if not storable(text):
            raise BadRequest(f"Identifiers hold neither NUL nor half a surrogate pair: {text!r}.")


def endpoint_missing(endpoint_id: str) -> NotFound:
    """No such endpoint."""
    return NotFound(f"The endpoint {endpoint_id} was not found.", code="endpoint_not_found")


def tombstone_missing(endpoint_id: str) -> NotFound:
    """No such endpoint, or it is not deleted."""
    return NotFound(f"A deleted endpoint {endpoint_id} was not found.", code="endpoint_not_found")


def key_missing(key_id: str) -> NotFound:
    """No such API key."""
    return NotFound(f"The API key {key_id} was not found.", code="key_not_found")


def key_revoked(key_id: str) -> BadRequest:
    """The key is over: nothing of it can be changed."""
    return BadRequest(
        f"The API key {key_id} was revoked and cannot be changed: create another.", param="id", code="key_revoked"
    )


def model_missing(model_id: str) -> NotFound:
    """No such stored model. Never says "endpoint": a client reads that word as the wrong thing missing."""
    return NotFound(f"The model {model_id} was not found among those added to this server.", code="model_not_found")


def endpoint_exists(field: str, value: str) -> Conflict:
    """The id or name was used before, by an endpoint that may be deleted."""
    return Conflict(f"An endpoint with the {field} {value} exists or existed; {field}s are never used twice.")


def check_other_admin(key_id: str, keys: Iterable[ApiKey], now: datetime) -> None:
    """Raise ``BadRequest`` when the key is the only admin key among ``keys`` that is usable at ``now``."""
    if [key.id for key in keys if key.role is Role.ADMIN and key.usable(now)] == [key_id]:
        raise BadRequest(
            "This is the last admin key: create another before revoking it.", param="id", code="last_admin_key"
        )


def key_exists() -> Conflict:
    """The key's id or digest is taken. Does not show the digest."""
    return Conflict("An API key with this id or digest exists already.")


def row_exists() -> Conflict:
    """An event or replica id is taken."""
    return Conflict("An event or replica with the same id exists already; nothing was written.")


def version_lost(endpoint_id: str, expected: int, found: int) -> VersionConflict:
    """A compare-and-set lost."""
    return VersionConflict(
        f"The endpoint {endpoint_id} was changed meanwhile (version {found}, expected {expected}); read it again."
    )
