"""The writing half of a SQL store: one function per transaction.

Called by ``sql`` with a connection inside a transaction that ends when the function does: committed when it returns,
rolled back when it raises. Only statements that SQLite and PostgreSQL both take; never begins, commits or retries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, insert, or_, select, update

from roost.domain.creation import Creation
from roost.domain.endpoint import Endpoint, EndpointSpec
from roost.domain.errors import RoostError
from roost.domain.event import Event
from roost.domain.key import ApiKey
from roost.domain.model import Model
from roost.policy.creates import WINDOW
from roost.store import rows, rules
from roost.store.base import StatusChange
from roost.store.documents import encode
from roost.store.tables import api_keys, creations, endpoints, events, installation, models, replicas


def fix_installation(connection: Connection, fresh: str) -> str:
    """Give the installation its id unless it has one; return the one in force."""
    unset = installation.c.installation_id.is_(None)
    connection.execute(update(installation).where(unset).values(installation_id=fresh))
    return str(connection.execute(select(installation.c.installation_id)).scalar_one())


def raise_term(connection: Connection) -> int:
    """Raise the leader term by one and return it."""
    connection.execute(update(installation).values(term=installation.c.term + 1))
    return int(connection.execute(select(installation.c.term)).scalar_one())


def insert_endpoint(
    connection: Connection, endpoint: Endpoint, new_events: Sequence[Event], creation: Creation | None = None
) -> None:
    """Add an endpoint, and keep what asked for it, for as long as it can be meant. Raises ``Conflict`` when its id or
    name was ever used."""
    taken = select(endpoints.c.id).where(or_(endpoints.c.id == endpoint.id, endpoints.c.name == endpoint.name))
    found = connection.execute(taken).first()
    if found is not None:
        same_id = found.id == endpoint.id
        raise rules.endpoint_exists("id" if same_id else "name", endpoint.id if same_id else endpoint.name)
    connection.execute(insert(endpoints).values(rows.endpoint_values(endpoint)))
    if creation is not None:
        connection.execute(delete(creations).where(creations.c.at < creation.at - WINDOW))
        connection.execute(insert(creations).values(rows.creation_values(creation)))
    append_events(connection, new_events)


def update_creation(connection: Connection, creation: Creation) -> None:
    """Replace what is kept of an endpoint's creation, if anything is."""
    kept = creations.c.endpoint_id == creation.endpoint_id
    connection.execute(update(creations).where(kept).values(rows.creation_values(creation)))


def update_spec(
    connection: Connection,
    endpoint_id: str,
    expected_version: int,
    spec: EndpointSpec,
    now: datetime,
    new_events: Sequence[Event],
) -> Endpoint:
    """Compare-and-set the spec. Raises ``VersionConflict``; ``NotFound`` also for tombstones."""
    written = connection.execute(
        update(endpoints)
        .where(
            endpoints.c.id == endpoint_id,
            endpoints.c.spec_version == expected_version,
            endpoints.c.deleted_at.is_(None),
        )
        .values(spec=encode(spec), spec_version=expected_version + 1, updated_at=now)
    )
    if written.rowcount != 1:
        raise _spec_lost(connection, endpoint_id, expected_version)
    append_events(connection, new_events)
    return _endpoint(connection, endpoint_id)


def mark_deleted(connection: Connection, endpoint_id: str, now: datetime, new_events: Sequence[Event]) -> None:
    """Turn the endpoint into a tombstone, or leave it one. Raises ``NotFound``."""
    alive = (endpoints.c.id == endpoint_id, endpoints.c.deleted_at.is_(None))
    written = connection.execute(update(endpoints).where(*alive).values(deleted_at=now, updated_at=now))
    if written.rowcount == 1:
        append_events(connection, new_events)
    elif connection.execute(select(endpoints.c.id).where(endpoints.c.id == endpoint_id)).first() is None:
        raise rules.endpoint_missing(endpoint_id)


def purge_endpoint(connection: Connection, endpoint_id: str, new_events: Sequence[Event]) -> None:
    """Finish a tombstone, or leave it finished. Raises ``NotFound`` for what is not a tombstone."""
    tombstone = (endpoints.c.id == endpoint_id, endpoints.c.deleted_at.is_not(None))
    written = connection.execute(update(endpoints).where(*tombstone, endpoints.c.purged.is_(False)).values(purged=True))
    if written.rowcount == 1:
        connection.execute(delete(replicas).where(replicas.c.endpoint_id == endpoint_id))
        append_events(connection, new_events)
    elif connection.execute(select(endpoints.c.id).where(*tombstone)).first() is None:
        raise rules.tombstone_missing(endpoint_id)


def apply(connection: Connection, change: StatusChange) -> Endpoint:
    """Write one pass's result. Raises ``VersionConflict``; ``NotFound`` also for finished tombstones."""
    written = connection.execute(
        update(endpoints)
        .where(
            endpoints.c.id == change.endpoint_id,
            endpoints.c.status_version == change.expected_version,
            endpoints.c.purged.is_(False),
        )
        .values(status=encode(change.status), status_version=change.expected_version + 1)
    )
    if written.rowcount != 1:
        raise _status_lost(connection, change)
    # Delete and insert replaces rows without the upsert syntax, in which databases differ.
    leaving = [*change.delete_replicas, *(replica.id for replica in change.upsert_replicas)]
    if leaving:
        own = replicas.c.endpoint_id == change.endpoint_id
        connection.execute(delete(replicas).where(own, replicas.c.id.in_(leaving)))
    if change.upsert_replicas:
        connection.execute(insert(replicas), [rows.replica_values(replica) for replica in change.upsert_replicas])
    append_events(connection, change.events)
    return _endpoint(connection, change.endpoint_id)


def insert_key(connection: Connection, key: ApiKey, new_events: Sequence[Event]) -> None:
    """Add an API key. Raises ``Conflict`` when its id or digest exists."""
    taken = select(api_keys.c.id).where(or_(api_keys.c.id == key.id, api_keys.c.digest == key.digest))
    if connection.execute(taken).first() is not None:
        raise rules.key_exists()
    connection.execute(insert(api_keys).values(rows.key_values(key)))
    append_events(connection, new_events)


def limit_key(
    connection: Connection, key_id: str, limits: Mapping[str, int | None], new_events: Sequence[Event]
) -> ApiKey:
    """Set some of a key's limits. Raises ``NotFound``, and ``BadRequest`` for a revoked one."""
    usable = (api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    # With nothing to set, the row is written as it is: an UPDATE needs a column.
    values: rows.Values = dict(limits) or {"id": key_id}
    written = connection.execute(update(api_keys).where(*usable).values(values))
    row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
    if row is None:
        raise rules.key_missing(key_id)
    if written.rowcount != 1:
        raise rules.key_revoked(key_id)
    append_events(connection, new_events)
    return rows.key_from(row)


def revoke_key(
    connection: Connection, key_id: str, now: datetime, new_events: Sequence[Event], *, keep_admin: bool
) -> ApiKey:
    """Revoke a key, or leave it revoked. Raises ``NotFound``, and with ``keep_admin`` ``BadRequest`` for the only
    usable admin key."""
    if keep_admin:
        rules.check_other_admin(key_id, map(rows.key_from, connection.execute(select(api_keys))), now)
    usable = (api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    written = connection.execute(update(api_keys).where(*usable).values(revoked_at=now))
    if written.rowcount == 1:
        append_events(connection, new_events)
    row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
    if row is None:
        raise rules.key_missing(key_id)
    return rows.key_from(row)


def put_model(connection: Connection, model: Model, new_events: Sequence[Event]) -> None:
    """Add or replace a catalog entry."""
    connection.execute(delete(models).where(models.c.id == model.id))
    connection.execute(insert(models).values(rows.model_values(model)))
    append_events(connection, new_events)


def delete_model(connection: Connection, model_id: str, new_events: Sequence[Event]) -> None:
    """Remove a catalog entry. Raises ``NotFound``."""
    if connection.execute(delete(models).where(models.c.id == model_id)).rowcount != 1:
        raise rules.model_missing(model_id)
    append_events(connection, new_events)


def append_events(connection: Connection, new_events: Sequence[Event]) -> None:
    """Append events in order."""
    if new_events:
        connection.execute(insert(events), [rows.event_values(event) for event in new_events])


def _endpoint(connection: Connection, endpoint_id: str) -> Endpoint:
    return rows.endpoint_from(connection.execute(select(endpoints).where(endpoints.c.id == endpoint_id)).one())


def _spec_lost(connection: Connection, endpoint_id: str, expected: int) -> RoostError:
    alive = (endpoints.c.id == endpoint_id, endpoints.c.deleted_at.is_(None))
    found = connection.execute(select(endpoints.c.spec_version).where(*alive)).scalar_one_or_none()
    if found is None:
        return rules.endpoint_missing(endpoint_id)
    return rules.version_lost(endpoint_id, expected, found)


def _status_lost(connection: Connection, change: StatusChange) -> RoostError:
    unfinished = (endpoints.c.id == change.endpoint_id, endpoints.c.purged.is_(False))
    found = connection.execute(select(endpoints.c.status_version).where(*unfinished)).scalar_one_or_none()
    if found is None:
        return rules.endpoint_missing(change.endpoint_id)
    return rules.version_lost(change.endpoint_id, change.expected_version, found)
