"""The sums of usage in a SQL store: adding a report, and reading.

Called by ``sql`` like ``transactions``: a function runs inside one transaction. Only statements that SQLite and
PostgreSQL both take; never begins, commits or retries.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, func, insert, select, update

from roost.domain.usage import SUM_NAMES, UsageBatch, UsageRow, UsageSums
from roost.store.tables import usage, usage_reports

FORGOTTEN = timedelta(days=90)
"""A gateway's run that has reported nothing for so long is not going to repeat a report."""

_KEY = ("minute", "endpoint_id", "replica_id", "key_id", "outcome")
_ADD = (
    update(usage)
    .where(*(usage.c[name] == bindparam(f"_{name}") for name in _KEY))
    .values({name: usage.c[name] + bindparam(f"_{name}") for name in SUM_NAMES})
)


def add(connection: Connection, batch: UsageBatch, now: datetime) -> bool:
    """Add a report to the sums and note that it is in them; False when it was."""
    mine = usage_reports.c.gateway == batch.gateway
    last = connection.execute(select(usage_reports.c.sequence).where(mine)).scalar_one_or_none()
    if last is not None and last >= batch.sequence:
        return False
    values = {"sequence": batch.sequence, "at": now}
    if last is None:
        connection.execute(delete(usage_reports).where(usage_reports.c.at < now - FORGOTTEN))
        connection.execute(insert(usage_reports).values(gateway=batch.gateway, **values))
    else:
        connection.execute(update(usage_reports).where(mine).values(values))
    fresh = []
    # Update, then insert: databases differ in the syntax for both at once.
    for row in batch.rows:
        of_row = _values(row)
        named = {f"_{name}": of_row[name] for name in (*_KEY, *SUM_NAMES)}
        if connection.execute(_ADD, named).rowcount != 1:
            fresh.append(of_row)
    if fresh:
        connection.execute(insert(usage), fresh)
    return True


def between(since: datetime, until: datetime, *, owner: str | None, endpoint_id: str | None) -> Select[Any]:
    """The query behind ``Store.usage``."""
    groups = [usage.c[name] for name in _KEY[1:]]
    # PostgreSQL's sum of integers is a numeric, which drivers read as a Decimal: ``row_from`` makes it one again.
    sums = [func.sum(usage.c[name]).label(name) for name in SUM_NAMES]
    query = select(
        *groups, func.min(usage.c.minute).label("minute"), func.min(usage.c.owner).label("owner"), *sums
    ).where(usage.c.minute >= since, usage.c.minute < until)
    if owner is not None:
        query = query.where(usage.c.owner == owner)
    if endpoint_id is not None:
        query = query.where(usage.c.endpoint_id == endpoint_id)
    return query.group_by(*groups).order_by(*groups)


def row_from(row: Row[Any]) -> UsageRow:
    """A row of ``between``'s result."""
    return UsageRow(
        row.minute,
        row.endpoint_id,
        row.replica_id or None,
        row.key_id or None,
        row.outcome,
        row.owner,
        UsageSums(*(type(default)(getattr(row, name)) for name, default in zip(SUM_NAMES, _ZERO, strict=True))),
    )


_ZERO = tuple(getattr(UsageSums(), name) for name in SUM_NAMES)


def _values(row: UsageRow) -> dict[str, Any]:
    return {
        "minute": row.minute,
        "endpoint_id": row.endpoint_id,
        "replica_id": row.replica_id or "",
        "key_id": row.key_id or "",
        "outcome": row.outcome,
        "owner": row.owner,
        **{name: getattr(row.sums, name) for name in SUM_NAMES},
    }
