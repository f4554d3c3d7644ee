"""The store on a SQL database: SQLite in the home directory, or PostgreSQL by its URL.

Made by ``store.registry``. Reads are single statements; writes are the functions of ``transactions``, one at a time in
this process: the control plane is the only writer, and events become visible in the order of their sequence. A write
runs to its end even when its caller is cancelled, so no cancellation leaves a transaction open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, select
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from roost.domain.creation import Creation
from roost.domain.endpoint import Endpoint, EndpointSpec
from roost.domain.errors import NotReady
from roost.domain.event import Event
from roost.domain.key import ApiKey
from roost.domain.model import Model
from roost.domain.replica import Replica
from roost.domain.usage import UsageBatch, UsageRow
from roost.store import connections, rows, rules, schema, tables, transactions, usage_sums
from roost.store.base import StatusChange

T = TypeVar("T")


class SqlStore:
    """``roost.store.base.Store`` on ``sqlite:///path`` or ``postgresql+psycopg://user@host/database``."""

    def __init__(self, url: str, *, busy_timeout: timedelta = timedelta(seconds=10)) -> None:
        """``busy_timeout`` is how long SQLite waits for other processes that hold the file. Raises
        ``InvalidSettings`` for a URL that cannot be used."""
        self._location = connections.locate(url)
        self._busy_timeout = busy_timeout
        self._opened: AsyncEngine | None = None
        self._file: connections.Identity | None = None
        self._one_writer = asyncio.Lock()
        self._writes: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """See ``Store.open``."""
        if self._opened is not None:
            return
        engine = connections.connect(self._location, self._busy_timeout)
        try:
            await connections.use_write_ahead_log(self._location, engine, self._busy_timeout)
            async with engine.execution_options(**{connections.WRITING: True}).begin() as connection:
                await connection.run_sync(partial(connections.require_unicode, self._location))
                await connection.run_sync(schema.migrate, self._location.shown)
        except DBAPIError as error:
            await engine.dispose()
            raise connections.unusable(self._location, error) from error
        except BaseException:
            await engine.dispose()
            raise
        self._opened, self._file = engine, connections.identify(self._location)

    async def close(self) -> None:
        """See ``Store.close``. Waits for writes under way."""
        while self._writes:
            await asyncio.wait(self._writes)
        engine, self._opened = self._opened, None
        if engine is not None:
            await engine.dispose()

    async def installation(self, fresh: str) -> str:
        """See ``Store.installation``."""
        return await self._write(partial(transactions.fix_installation, fresh=fresh))

    async def next_term(self) -> int:
        """See ``Store.next_term``."""
        return await self._write(transactions.raise_term)

    async def insert_endpoint(
        self, endpoint: Endpoint, events: Sequence[Event], creation: Creation | None = None
    ) -> None:
        """See ``Store.insert_endpoint``."""
        new, record = rules.prepare_endpoint(endpoint), rules.prepare_events(events)
        asked = None if creation is None else rules.prepare_creation(creation, endpoint.id)
        await self._write(lambda connection: transactions.insert_endpoint(connection, new, record, asked))

    async def update_creation(self, creation: Creation) -> None:
        """See ``Store.update_creation``."""
        await self._write(partial(transactions.update_creation, creation=rules.canonical(creation)))

    async def creations(self, since: datetime) -> Sequence[Creation]:
        """See ``Store.creations``."""
        table, owners = tables.creations, tables.endpoints
        query = select(table).join(owners, owners.c.id == table.c.endpoint_id)
        query = query.where(table.c.at >= since, owners.c.deleted_at.is_(None))
        return [rows.creation_from(row) for row in await self._read(query.order_by(table.c.at, table.c.endpoint_id))]

    async def endpoint(self, endpoint_id: str) -> Endpoint | None:
        """See ``Store.endpoint``."""
        return await self._endpoint(tables.endpoints.c.id, endpoint_id)

    async def endpoint_by_name(self, name: str) -> Endpoint | None:
        """See ``Store.endpoint_by_name``."""
        return await self._endpoint(tables.endpoints.c.name, name)

    async def endpoints(self, *, owner: str | None = None, deleted: bool = False) -> Sequence[Endpoint]:
        """See ``Store.endpoints``."""
        table = tables.endpoints
        query = select(table).where(table.c.purged.is_(False))
        query = query.order_by(table.c.created_at.desc(), table.c.id.desc())
        if owner is not None:
            if not rules.storable(owner):
                return ()
            query = query.where(table.c.owner == owner)
        if not deleted:
            query = query.where(table.c.deleted_at.is_(None))
        return [rows.endpoint_from(row) for row in await self._read(query)]

    async def update_spec(
        self, endpoint_id: str, expected_version: int, spec: EndpointSpec, now: datetime, events: Sequence[Event]
    ) -> Endpoint:
        """See ``Store.update_spec``."""
        self._require(endpoint_id, rules.endpoint_missing)
        at, record = rules.canonical(now), rules.prepare_events(events)
        return await self._write(
            lambda connection: transactions.update_spec(connection, endpoint_id, expected_version, spec, at, record)
        )

    async def mark_deleted(self, endpoint_id: str, now: datetime, events: Sequence[Event]) -> None:
        """See ``Store.mark_deleted``."""
        self._require(endpoint_id, rules.endpoint_missing)
        at, record = rules.canonical(now), rules.prepare_events(events)
        await self._write(lambda connection: transactions.mark_deleted(connection, endpoint_id, at, record))

    async def purge_endpoint(self, endpoint_id: str, events: Sequence[Event]) -> None:
        """See ``Store.purge_endpoint``."""
        self._require(endpoint_id, rules.tombstone_missing)
        record = rules.prepare_events(events)
        await self._write(lambda connection: transactions.purge_endpoint(connection, endpoint_id, record))

    async def apply(self, change: StatusChange) -> Endpoint:
        """See ``Store.apply``."""
        self._require(change.endpoint_id, rules.endpoint_missing)
        return await self._write(partial(transactions.apply, change=rules.prepare_change(change)))

    async def replicas(self, endpoint_id: str | None = None) -> Sequence[Replica]:
        """See ``Store.replicas``."""
        table = tables.replicas
        query = select(table).order_by(table.c.created_at, table.c.id)
        if endpoint_id is not None:
            if not rules.storable(endpoint_id):
                return ()
            query = query.where(table.c.endpoint_id == endpoint_id)
        return [rows.replica_from(row) for row in await self._read(query)]

    async def insert_key(self, key: ApiKey, events: Sequence[Event]) -> None:
        """See ``Store.insert_key``."""
        new, record = rules.prepare_key(key), rules.prepare_events(events)
        await self._write(lambda connection: transactions.insert_key(connection, new, record))

    async def key_by_digest(self, digest: str) -> ApiKey | None:
        """See ``Store.key_by_digest``."""
        if not rules.storable(digest):
            return None
        found = await self._read(select(tables.api_keys).where(tables.api_keys.c.digest == digest))
        return rows.key_from(found[0]) if found else None

    async def keys(self) -> Sequence[ApiKey]:
        """See ``Store.keys``."""
        table = tables.api_keys
        return [rows.key_from(row) for row in await self._read(select(table).order_by(table.c.created_at, table.c.id))]

    async def limit_key(self, key_id: str, limits: Mapping[str, int | None], events: Sequence[Event]) -> ApiKey:
        """See ``Store.limit_key``."""
        self._require(key_id, rules.key_missing)
        record = rules.prepare_events(events)
        return await self._write(lambda connection: transactions.limit_key(connection, key_id, limits, record))

    async def revoke_key(
        self, key_id: str, now: datetime, events: Sequence[Event], *, keep_admin: bool = False
    ) -> ApiKey:
        """See ``Store.revoke_key``."""
        self._require(key_id, rules.key_missing)
        at, record = rules.canonical(now), rules.prepare_events(events)
        return await self._write(
            lambda connection: transactions.revoke_key(connection, key_id, at, record, keep_admin=keep_admin)
        )

    async def put_model(self, model: Model, events: Sequence[Event]) -> None:
        """See ``Store.put_model``."""
        new, record = rules.prepare_model(model), rules.prepare_events(events)
        await self._write(lambda connection: transactions.put_model(connection, new, record))

    async def models(self) -> Sequence[Model]:
        """See ``Store.models``."""
        query = select(tables.models).order_by(tables.models.c.id)
        return [rows.model_from(row) for row in await self._read(query)]

    async def delete_model(self, model_id: str, events: Sequence[Event]) -> None:
        """See ``Store.delete_model``."""
        self._require(model_id, rules.model_missing)
        record = rules.prepare_events(events)
        await self._write(lambda connection: transactions.delete_model(connection, model_id, record))

    async def append_events(self, events: Sequence[Event]) -> None:
        """See ``Store.append_events``."""
        record = rules.prepare_events(events)
        await self._write(lambda connection: transactions.append_events(connection, record))

    async def events(
        self, *, endpoint_id: str | None = None, after: int = 0, limit: int = 1000, newest_first: bool = False
    ) -> Sequence[Event]:
        """See ``Store.events``."""
        rules.check_limit(limit)
        sequence = tables.events.c.sequence
        query = select(tables.events).where(sequence > max(0, min(after, rules.MAX_INTEGER)))
        query = query.order_by(sequence.desc() if newest_first else sequence).limit(min(limit, rules.MAX_INTEGER))
        if endpoint_id is not None:
            if not rules.storable(endpoint_id):
                return ()
            query = query.where(tables.events.c.endpoint_id == endpoint_id)
        return [rows.event_from(row) for row in await self._read(query)]

    async def add_usage(self, batch: UsageBatch, now: datetime) -> bool:
        """See ``Store.add_usage``."""
        new, at = rules.prepare_usage(batch), rules.canonical(now)
        return await self._write(lambda connection: usage_sums.add(connection, new, at))

    async def usage(
        self, since: datetime, until: datetime, *, owner: str | None = None, endpoint_id: str | None = None
    ) -> Sequence[UsageRow]:
        """See ``Store.usage``."""
        if not rules.storable((owner or "") + (endpoint_id or "")):
            return ()
        query = usage_sums.between(since, until, owner=owner, endpoint_id=endpoint_id)
        return [usage_sums.row_from(row) for row in await self._read(query)]

    async def _endpoint(self, column: Any, value: str) -> Endpoint | None:
        if not rules.storable(value):
            return None
        found = await self._read(select(tables.endpoints).where(column == value))
        return rows.endpoint_from(found[0]) if found else None

    @staticmethod
    def _require(identifier: str, missing: Callable[[str], Exception]) -> None:
        if not rules.storable(identifier):
            raise missing(identifier)

    @property
    def _engine(self) -> AsyncEngine:
        if self._opened is None:
            raise RuntimeError("the store is not open")
        return self._opened

    async def _read(self, query: Select[Any]) -> Sequence[Row[Any]]:
        async with self._translated(), self._engine.connect() as connection:
            found: Sequence[Row[Any]] = (await connection.execute(query)).all()
            return found

    async def _write(self, transaction: Callable[[Connection], T]) -> T:
        engine = self._engine
        task = asyncio.get_running_loop().create_task(self._transact(engine, transaction))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)

    async def _transact(self, engine: AsyncEngine, transaction: Callable[[Connection], T]) -> T:
        writer = engine.execution_options(**{connections.WRITING: True})
        async with self._one_writer, self._translated(), writer.begin() as connection:
            return await connection.run_sync(transaction)

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """Drivers' errors as Roost's. Errors of our own statements (wrong SQL, wrong types) stay what they are.

        Raises ``NotReady`` when the database file is no longer the one that was opened.
        """
        if self._file is not None:
            connections.require_same(self._location, self._file)
        try:
            yield
        except IntegrityError as error:
            raise rules.row_exists() from error
        except (OperationalError, InterfaceError) as error:
            raise connections.unavailable(self._location, error) from error
        except PoolTimeout as error:
            raise NotReady("The database is overloaded; try again.", code="store_unavailable") from error
