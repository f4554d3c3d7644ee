"""The store interface: an extension point.

The control plane is its only writer. Every implementation passes ``roost.testing.store_contract``. Each writing method
is one transaction: all of it or nothing, its events included. Times are timezone-aware UTC; a time without a zone is a
``ValueError``. Texts hold anything, NUL and lone surrogates included, but identifiers (ids, names, owners, digests,
actors, kinds) hold neither: writing such a one is a ``BadRequest``, looking it up finds nothing.

Every method may raise ``NotReady`` (code ``store_unavailable``) when the database stops working; nothing was written
then. Every method that takes events raises ``Conflict`` when the id of one exists already. Using a store that is not
open is a ``RuntimeError``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from roost.domain.creation import Creation
from roost.domain.endpoint import Endpoint, EndpointSpec, EndpointStatus
from roost.domain.event import Event
from roost.domain.key import ApiKey
from roost.domain.model import Model
from roost.domain.replica import Replica
from roost.domain.usage import UsageBatch, UsageRow


@dataclass(frozen=True, slots=True)
class StatusChange:
    """What one reconciler pass writes for one endpoint: its status (compare-and-set on ``expected_version``), replica
    rows to insert or replace, ids of rows to delete, events to append. Nothing else writes replicas."""

    endpoint_id: str
    expected_version: int
    status: EndpointStatus
    upsert_replicas: tuple[Replica, ...] = ()
    delete_replicas: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()


class Store(Protocol):
    """What every store offers."""

    async def open(self) -> None:
        """Connect and migrate to the newest schema; a no-op when open. Raises ``InvalidSettings`` with what to do when
        it cannot."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...

    async def installation(self, fresh: str) -> str:
        """This installation's id; ``fresh`` becomes it when there is none yet."""
        ...

    async def next_term(self) -> int:
        """Raise the leader term by one and return it; the first term is 1."""
        ...

    async def insert_endpoint(
        self, endpoint: Endpoint, events: Sequence[Event], creation: Creation | None = None
    ) -> None:
        """Add an endpoint, and keep what asked for it. Raises ``Conflict`` when its id or name was ever used.

        Creations older than ``policy.creates.WINDOW`` go when another is kept.
        """
        ...

    async def update_creation(self, creation: Creation) -> None:
        """Replace what is kept of an endpoint's creation; a no-op when nothing is."""
        ...

    async def creations(self, since: datetime) -> Sequence[Creation]:
        """The creations asked for at or after ``since`` whose endpoints are not deleted, oldest first."""
        ...

    async def endpoint(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint, deleted (tombstone) ones included."""
        ...

    async def endpoint_by_name(self, name: str) -> Endpoint | None:
        """The endpoint of that name, deleted ones included."""
        ...

    async def endpoints(self, *, owner: str | None = None, deleted: bool = False) -> Sequence[Endpoint]:
        """Endpoints, newest first (created_at, then id, descending); of ``owner`` only, if given; tombstones only if
        ``deleted`` asks for them too."""
        ...

    async def update_spec(
        self, endpoint_id: str, expected_version: int, spec: EndpointSpec, now: datetime, events: Sequence[Event]
    ) -> Endpoint:
        """Replace the spec, raise ``spec_version`` by one, set ``updated_at``. Raises ``VersionConflict`` when the
        version is another, ``NotFound`` when there is no such endpoint or it is a tombstone."""
        ...

    async def mark_deleted(self, endpoint_id: str, now: datetime, events: Sequence[Event]) -> None:
        """Turn the endpoint into a tombstone and set ``updated_at``; a no-op (no events) when it is one. Raises
        ``NotFound``."""
        ...

    async def purge_endpoint(self, endpoint_id: str, events: Sequence[Event]) -> None:
        """Forget a tombstone's replicas and mark it finished: ``endpoints(deleted=True)`` no longer shows it, its name
        stays used; a no-op (no events) when it is finished. Raises ``NotFound`` for what is not a tombstone."""
        ...

    async def apply(self, change: StatusChange) -> Endpoint:
        """Write one pass's result and raise ``status_version`` by one; tombstones are written too, until purged. Raises
        ``VersionConflict``, ``NotFound`` (also for purged ones), ``ValueError`` for a replica of another endpoint."""
        ...

    async def replicas(self, endpoint_id: str | None = None) -> Sequence[Replica]:
        """Replica rows, oldest first; of one endpoint if given."""
        ...

    async def insert_key(self, key: ApiKey, events: Sequence[Event]) -> None:
        """Add an API key. Raises ``Conflict`` when its id or digest exists."""
        ...

    async def key_by_digest(self, digest: str) -> ApiKey | None:
        """The key with that digest, revoked and expired ones included."""
        ...

    async def keys(self) -> Sequence[ApiKey]:
        """All keys, oldest first."""
        ...

    async def limit_key(self, key_id: str, limits: Mapping[str, int | None], events: Sequence[Event]) -> ApiKey:
        """Set some of a key's limits, by the fields of ``KeyLimits``; the others stay. Raises ``NotFound``, and
        ``BadRequest`` (code ``key_revoked``) for a revoked one."""
        ...

    async def revoke_key(
        self, key_id: str, now: datetime, events: Sequence[Event], *, keep_admin: bool = False
    ) -> ApiKey:
        """Set ``revoked_at``; a no-op (no events) when it is set. Raises ``NotFound``, and with ``keep_admin``
        ``BadRequest`` (code ``last_admin_key``) for the only admin key that is usable at ``now``."""
        ...

    async def put_model(self, model: Model, events: Sequence[Event]) -> None:
        """Add or replace a user's catalog entry (built-in entries are never stored)."""
        ...

    async def models(self) -> Sequence[Model]:
        """All stored catalog entries, by id."""
        ...

    async def delete_model(self, model_id: str, events: Sequence[Event]) -> None:
        """Remove a stored entry. Raises ``NotFound``."""
        ...

    async def append_events(self, events: Sequence[Event]) -> None:
        """Append events in order."""
        ...

    async def events(
        self, *, endpoint_id: str | None = None, after: int = 0, limit: int = 1000, newest_first: bool = False
    ) -> Sequence[Event]:
        """Events with ``sequence`` above ``after``, ascending (or the newest, descending), at most ``limit``. Sequences
        rise, but may have gaps. Raises ``ValueError`` for a negative limit."""
        ...

    async def add_usage(self, batch: UsageBatch, now: datetime) -> bool:
        """Add a gateway's report to the sums, all of it or nothing; False (and nothing is added) when a report of that
        gateway with the same or a higher sequence was taken before. Raises ``BadRequest`` for identifiers and sums
        that no database takes."""
        ...

    async def usage(
        self, since: datetime, until: datetime, *, owner: str | None = None, endpoint_id: str | None = None
    ) -> Sequence[UsageRow]:
        """The sums of the minutes from ``since`` until before ``until``, of one owner or endpoint if given: a row per
        endpoint, replica, key and outcome, in that order; ``minute`` is the first that is in it."""
        ...
