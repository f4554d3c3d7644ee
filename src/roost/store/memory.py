"""The store in memory: for tests and for trying things out. Nothing survives the process.

Made by ``store.registry`` for ``memory://``. Behaves like the SQL store, checked by the same contract suite. No threads
and no suspension points: a method runs to its end, so each is atomic if it checks before it changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from roost.domain.creation import Creation
from roost.domain.endpoint import Endpoint, EndpointSpec
from roost.domain.event import Event
from roost.domain.key import ApiKey
from roost.domain.model import Model
from roost.domain.replica import Replica
from roost.domain.usage import UsageBatch, UsageRow, added
from roost.policy.creates import WINDOW
from roost.store import rules
from roost.store.base import StatusChange


class MemoryStore:
    """``roost.store.base.Store`` in dictionaries."""

    def __init__(self, url: str = "memory://") -> None:
        """``url`` is taken for the registry's sake."""
        self._url = url
        self._is_open = False
        self._installation: str | None = None
        self._term = 0
        self._endpoints: dict[str, Endpoint] = {}
        self._ids_by_name: dict[str, str] = {}
        self._purged: set[str] = set()
        self._creations: list[Creation] = []
        self._replicas: dict[str, Replica] = {}
        self._keys: dict[str, ApiKey] = {}
        self._models: dict[str, Model] = {}
        self._events: list[Event] = []
        self._event_ids: set[str] = set()
        self._usage: dict[tuple[datetime, str, str, str, str], UsageRow] = {}
        self._usage_reports: dict[str, int] = {}

    async def open(self) -> None:
        """See ``Store.open``. What was there before a ``close`` is there again."""
        self._is_open = True

    async def close(self) -> None:
        """See ``Store.close``."""
        self._is_open = False

    async def installation(self, fresh: str) -> str:
        """See ``Store.installation``."""
        self._require_open()
        if self._installation is None:
            self._installation = fresh
        return self._installation

    async def next_term(self) -> int:
        """See ``Store.next_term``."""
        self._require_open()
        self._term += 1
        return self._term

    async def insert_endpoint(
        self, endpoint: Endpoint, events: Sequence[Event], creation: Creation | None = None
    ) -> None:
        """See ``Store.insert_endpoint``."""
        self._require_open()
        new, record = rules.prepare_endpoint(endpoint), rules.prepare_events(events)
        asked = None if creation is None else rules.prepare_creation(creation, endpoint.id)
        if new.id in self._endpoints:
            raise rules.endpoint_exists("id", new.id)
        if new.name in self._ids_by_name:
            raise rules.endpoint_exists("name", new.name)
        self._append(record)
        self._endpoints[new.id] = new
        self._ids_by_name[new.name] = new.id
        if asked is not None:
            kept = [known for known in self._creations if known.at >= asked.at - WINDOW]
            self._creations = [*kept, asked]

    async def update_creation(self, creation: Creation) -> None:
        """See ``Store.update_creation``."""
        self._require_open()
        new = rules.canonical(creation)
        self._creations = [new if known.endpoint_id == new.endpoint_id else known for known in self._creations]

    async def creations(self, since: datetime) -> Sequence[Creation]:
        """See ``Store.creations``."""
        self._require_open()
        alive = {endpoint.id for endpoint in self._endpoints.values() if endpoint.deleted_at is None}
        found = [known for known in self._creations if known.at >= since and known.endpoint_id in alive]
        return sorted(found, key=lambda known: (known.at, known.endpoint_id))

    async def endpoint(self, endpoint_id: str) -> Endpoint | None:
        """See ``Store.endpoint``."""
        self._require_open()
        return self._endpoints.get(endpoint_id)

    async def endpoint_by_name(self, name: str) -> Endpoint | None:
        """See ``Store.endpoint_by_name``."""
        self._require_open()
        return self._endpoints.get(self._ids_by_name.get(name, ""))

    async def endpoints(self, *, owner: str | None = None, deleted: bool = False) -> Sequence[Endpoint]:
        """See ``Store.endpoints``."""
        self._require_open()
        found = [
            endpoint
            for endpoint in self._endpoints.values()
            if endpoint.id not in self._purged
            and (owner is None or endpoint.owner == owner)
            and (deleted or endpoint.deleted_at is None)
        ]
        return sorted(found, key=lambda endpoint: (endpoint.created_at, endpoint.id), reverse=True)

    async def update_spec(
        self, endpoint_id: str, expected_version: int, spec: EndpointSpec, now: datetime, events: Sequence[Event]
    ) -> Endpoint:
        """See ``Store.update_spec``."""
        self._require_open()
        at, record = rules.canonical(now), rules.prepare_events(events)
        before = self._endpoints.get(endpoint_id)
        if before is None or before.deleted_at is not None:
            raise rules.endpoint_missing(endpoint_id)
        if before.spec_version != expected_version:
            raise rules.version_lost(endpoint_id, expected_version, before.spec_version)
        after = replace(before, spec=spec, spec_version=expected_version + 1, updated_at=at)
        self._append(record)
        self._endpoints[endpoint_id] = after
        return after

    async def mark_deleted(self, endpoint_id: str, now: datetime, events: Sequence[Event]) -> None:
        """See ``Store.mark_deleted``."""
        self._require_open()
        at, record = rules.canonical(now), rules.prepare_events(events)
        before = self._endpoints.get(endpoint_id)
        if before is None:
            raise rules.endpoint_missing(endpoint_id)
        if before.deleted_at is None:
            self._append(record)
            self._endpoints[endpoint_id] = replace(before, deleted_at=at, updated_at=at)

    async def purge_endpoint(self, endpoint_id: str, events: Sequence[Event]) -> None:
        """See ``Store.purge_endpoint``."""
        self._require_open()
        record = rules.prepare_events(events)
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None or endpoint.deleted_at is None:
            raise rules.tombstone_missing(endpoint_id)
        if endpoint_id not in self._purged:
            self._append(record)
            self._purged.add(endpoint_id)
            self._replicas = {r.id: r for r in self._replicas.values() if r.endpoint_id != endpoint_id}

    async def apply(self, change: StatusChange) -> Endpoint:
        """See ``Store.apply``."""
        self._require_open()
        change = rules.prepare_change(change)
        before = self._endpoints.get(change.endpoint_id)
        if before is None or change.endpoint_id in self._purged:
            raise rules.endpoint_missing(change.endpoint_id)
        if before.status_version != change.expected_version:
            raise rules.version_lost(change.endpoint_id, change.expected_version, before.status_version)
        for replica in change.upsert_replicas:
            known = self._replicas.get(replica.id, replica)
            if known.endpoint_id != change.endpoint_id:
                raise rules.row_exists()
        self._append(change.events)
        after = replace(before, status=change.status, status_version=change.expected_version + 1)
        self._endpoints[after.id] = after
        for replica_id in change.delete_replicas:
            if replica_id in self._replicas and self._replicas[replica_id].endpoint_id == after.id:
                del self._replicas[replica_id]
        self._replicas.update((replica.id, replica) for replica in change.upsert_replicas)
        return after

    async def replicas(self, endpoint_id: str | None = None) -> Sequence[Replica]:
        """See ``Store.replicas``."""
        self._require_open()
        found = [r for r in self._replicas.values() if endpoint_id is None or r.endpoint_id == endpoint_id]
        return sorted(found, key=lambda replica: (replica.created_at, replica.id))

    async def insert_key(self, key: ApiKey, events: Sequence[Event]) -> None:
        """See ``Store.insert_key``."""
        self._require_open()
        new, record = rules.prepare_key(key), rules.prepare_events(events)
        if new.id in self._keys or any(known.digest == new.digest for known in self._keys.values()):
            raise rules.key_exists()
        self._append(record)
        self._keys[new.id] = new

    async def key_by_digest(self, digest: str) -> ApiKey | None:
        """See ``Store.key_by_digest``."""
        self._require_open()
        return next((key for key in self._keys.values() if key.digest == digest), None)

    async def keys(self) -> Sequence[ApiKey]:
        """See ``Store.keys``."""
        self._require_open()
        return sorted(self._keys.values(), key=lambda key: (key.created_at, key.id))

    async def limit_key(self, key_id: str, limits: Mapping[str, int | None], events: Sequence[Event]) -> ApiKey:
        """See ``Store.limit_key``."""
        self._require_open()
        record = rules.prepare_events(events)
        before = self._keys.get(key_id)
        if before is None:
            raise rules.key_missing(key_id)
        if before.revoked_at is not None:
            raise rules.key_revoked(key_id)
        self._append(record)
        after = self._keys[key_id] = replace(before, limits=replace(before.limits, **limits))
        return after

    async def revoke_key(
        self, key_id: str, now: datetime, events: Sequence[Event], *, keep_admin: bool = False
    ) -> ApiKey:
        """See ``Store.revoke_key``."""
        self._require_open()
        at, record = rules.canonical(now), rules.prepare_events(events)
        before = self._keys.get(key_id)
        if before is None:
            raise rules.key_missing(key_id)
        if before.revoked_at is not None:
            return before
        if keep_admin:
            rules.check_other_admin(key_id, self._keys.values(), at)
        self._append(record)
        after = replace(before, revoked_at=at)
        self._keys[key_id] = after
        return after

    async def put_model(self, model: Model, events: Sequence[Event]) -> None:
        """See ``Store.put_model``."""
        self._require_open()
        new, record = rules.prepare_model(model), rules.prepare_events(events)
        self._append(record)
        self._models[new.id] = new

    async def models(self) -> Sequence[Model]:
        """See ``Store.models``."""
        self._require_open()
        return [rules.canonical(self._models[model_id]) for model_id in sorted(self._models)]

    async def delete_model(self, model_id: str, events: Sequence[Event]) -> None:
        """See ``Store.delete_model``."""
        self._require_open()
        record = rules.prepare_events(events)
        if model_id not in self._models:
            raise rules.model_missing(model_id)
        self._append(record)
        del self._models[model_id]

    async def append_events(self, events: Sequence[Event]) -> None:
        """See ``Store.append_events``."""
        self._require_open()
        self._append(rules.prepare_events(events))

    async def events(
        self, *, endpoint_id: str | None = None, after: int = 0, limit: int = 1000, newest_first: bool = False
    ) -> Sequence[Event]:
        """See ``Store.events``."""
        self._require_open()
        rules.check_limit(limit)
        # Sequences are 1, 2, 3 ... without gaps here, so a position is a sequence.
        found = self._events[max(after, 0) :]
        if endpoint_id is not None:
            found = [event for event in found if event.endpoint_id == endpoint_id]
        page = found[::-1][:limit] if newest_first else found[:limit]
        return [rules.canonical(event) for event in page]

    async def add_usage(self, batch: UsageBatch, now: datetime) -> bool:
        """See ``Store.add_usage``."""
        self._require_open()
        new = rules.prepare_usage(batch)
        if self._usage_reports.get(new.gateway, -1) >= new.sequence:
            return False
        self._usage_reports[new.gateway] = new.sequence
        for row in new.rows:
            self._usage[row.key] = added(self._usage.get(row.key), row)
        return True

    async def usage(
        self, since: datetime, until: datetime, *, owner: str | None = None, endpoint_id: str | None = None
    ) -> Sequence[UsageRow]:
        """See ``Store.usage``."""
        self._require_open()
        sums: dict[tuple[str, str, str, str], UsageRow] = {}
        for row in sorted(self._usage.values(), key=lambda row: row.key):
            mine = owner in (None, row.owner) and endpoint_id in (None, row.endpoint_id)
            if mine and since <= row.minute < until:
                sums[row.key[1:]] = added(sums.get(row.key[1:]), row)
        return [sums[key] for key in sorted(sums)]

    def _require_open(self) -> None:
        if not self._is_open:
            raise RuntimeError("the store is not open")

    def _append(self, record: Sequence[Event]) -> None:
        """Append events. Raises ``Conflict`` when an id is taken: called before the method changes anything else."""
        ids = {event.id for event in record}
        if len(ids) != len(record) or not self._event_ids.isdisjoint(ids):
            raise rules.row_exists()
        for event in record:
            self._events.append(replace(event, sequence=len(self._events) + 1))
            self._event_ids.add(event.id)
