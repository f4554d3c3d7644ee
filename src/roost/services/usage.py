"""Usage: taking in what gateways report, and reading the sums.

Called by the internal API. It decides who may see which sums; it must never hold up a gateway for long, nor count a
report twice: the store does that in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from roost.domain.errors import BadRequest
from roost.domain.routing import PROTOCOL
from roost.domain.usage import UsageBatch, UsageRow, sums_from
from roost.services.access import Principal
from roost.store.base import Store

MOST_ROWS = 100_000
_LATEST = 2**40  # seconds since the epoch; what is beyond is no time


class UsageService:
    """The sums of usage."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    async def take(self, report: Mapping[str, Any]) -> bool:
        """Add a gateway's report to the sums, unless it is in them; whether it was not. Raises ``BadRequest`` on
        anything that is not one of this protocol's."""
        return await self._store.add_usage(batch_from(report), self._now())

    async def usage(
        self, asker: Principal, since: datetime, until: datetime, *, endpoint_id: str | None = None
    ) -> Sequence[UsageRow]:
        """The sums of the minutes from ``since`` until before ``until``, a row per endpoint, replica, key and outcome:
        of the endpoints that the asker's key may use, for admins of all."""
        owner = None if asker.is_admin else asker.owner
        rows = await self._store.usage(since, until, owner=owner, endpoint_id=endpoint_id)
        return [row for row in rows if asker.may_use(row.endpoint_id, row.owner)]


def batch_from(report: Mapping[str, Any]) -> UsageBatch:
    """A report as a gateway sends it. Raises ``BadRequest``."""
    if report.get("protocol") != PROTOCOL:
        raise BadRequest(f"This control plane speaks protocol {PROTOCOL} with gateways.", param="protocol")
    try:
        rows = report["rows"]
        if len(rows) > MOST_ROWS:
            raise ValueError(f"more than {MOST_ROWS} rows")
        return UsageBatch(str(report["gateway"]), int(report["sequence"]), tuple(_row(item) for item in rows))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadRequest(f"The report of usage lacks or garbles a field: {error}.") from error


def _row(item: Mapping[str, Any]) -> UsageRow:
    minute = int(item["minute"])
    if not 0 <= minute < _LATEST or minute % 60:
        raise ValueError("minute is not the beginning of one")
    return UsageRow(
        minute=datetime.fromtimestamp(minute, UTC),
        endpoint_id=str(item["endpoint"]),
        replica_id=_text(item.get("replica")),
        key_id=_text(item.get("key")),
        outcome=str(item["outcome"]),
        owner=str(item["owner"]),
        sums=sums_from(item),
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
