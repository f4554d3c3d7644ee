"""The tables of a SQL store, for SQLite and PostgreSQL alike.

Read by ``transactions``, ``sql`` and the migrations' check. A column exists for what is looked up, compared or sorted;
everything else is a JSON document (``documents``), which carries any text that an engine may print, NUL included.
Never changed without a migration: a test compares the two.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from roost.domain.usage import UsageSums

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

VERSION_TABLE = "roost_schema"
"""Where the migrations note the schema's version."""


class UtcDateTime(TypeDecorator[datetime]):
    """Timezone-aware UTC in and out, also where the database keeps no time zone (SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; raises ``ValueError`` for a time without a time zone, which could mean anything."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Aware UTC, whatever zone the driver's session speaks."""
        if value is None:
            return None
        read: datetime = value
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


# PostgreSQL would sort by the database's locale; byte order is what SQLite and Python do.
Key = Text().with_variant(Text(collation="C"), "postgresql")
# SQLite numbers rows by itself in INTEGER columns only.
Sequence = BigInteger().with_variant(Integer(), "sqlite")

installation = Table(
    "installation",
    metadata,
    Column("singleton", Integer, primary_key=True, autoincrement=False),
    Column("installation_id", Text),
    Column("term", BigInteger, nullable=False),
)
"""Exactly one row, inserted by the first migration; ``singleton`` is 1."""

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", Key, nullable=False, unique=True),
    Column("owner", Key, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("spec_version", BigInteger, nullable=False),
    Column("status", JSON, nullable=False),
    Column("status_version", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
    Column("purged", Boolean, nullable=False),
    Index(None, "owner", "created_at"),
)
"""Rows are never removed: tombstones keep ids and names from being used again."""

replicas = Table(
    "replicas",
    metadata,
    Column("id", Key, primary_key=True),
    Column("endpoint_id", Key, ForeignKey("endpoints.id"), nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("document", JSON, nullable=False),
)

creations = Table(
    "creations",
    metadata,
    Column("endpoint_id", Key, ForeignKey("endpoints.id"), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("document", JSON, nullable=False),
)
"""Kept for as long as a repeated request may mean them; older ones go when the next is written."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Key, primary_key=True),
    Column("digest", Key, nullable=False, unique=True),
    Column("owner", Key, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("name", Text),
    Column("endpoints", JSON(none_as_null=True)),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("concurrency", BigInteger),
)

usage = Table(
    "usage",
    metadata,
    Column("minute", UtcDateTime, primary_key=True),
    Column("endpoint_id", Key, primary_key=True),
    Column("replica_id", Key, primary_key=True),
    Column("key_id", Key, primary_key=True),
    Column("outcome", Key, primary_key=True),
    Column("owner", Key, nullable=False),
    *(Column(each.name, Double if each.type == "float" else BigInteger, nullable=False) for each in fields(UsageSums)),
    Index(None, "owner", "minute"),
)
"""Sums by the minute. ``replica_id`` and ``key_id`` are "" where there was none: a key's columns hold no NULL."""

usage_reports = Table(
    "usage_reports",
    metadata,
    Column("gateway", Key, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)
"""The last report of each gateway's run that is in the sums, written in one transaction with them."""

models = Table(
    "models",
    metadata,
    Column("id", Key, primary_key=True),
    Column("document", JSON, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("sequence", Sequence, primary_key=True, autoincrement=True),
    Column("id", Key, nullable=False, unique=True),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("endpoint_id", Key),
    Column("replica_id", Key),
    Column("details", JSON, nullable=False),
    Index(None, "endpoint_id", "sequence"),
    sqlite_autoincrement=True,
)
"""Append-only. ``details`` holds the reason and the data."""
