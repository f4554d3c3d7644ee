"""The store contract: sums of usage."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from roost.domain.errors import BadRequest
from roost.domain.usage import UsageBatch, UsageRow, UsageSums
from roost.store.base import Store
from roost.testing.clock import START
from roost.testing.store_contract.base import UNSTORABLE, WRITERS, Connect, StoreFixtures

MINUTE = timedelta(minutes=1)
FAR = START + timedelta(days=1)
SUMS = UsageSums(
    requests=2,
    estimated=1,
    prompt_tokens=300,
    cached_tokens=100,
    completion_tokens=2**40,
    wasted_tokens=7,
    first_tokens=2,
    gaps=39,
    first_token_s=0.25,
    gap_s=1.5,
    duration_s=2.75,
)


def row(**over: Any) -> UsageRow:
    """A row with all sums set."""
    values: dict[str, Any] = {
        "minute": START,
        "endpoint_id": "endpoint-1",
        "replica_id": "replica-1",
        "key_id": "key-1",
        "outcome": "completed",
        "owner": "ann",
        "sums": SUMS,
    }
    return UsageRow(**{**values, **over})


class UsageContract(StoreFixtures):
    """What gateways report is summed, each report once."""

    async def test_a_report_is_added(self, store: Store) -> None:
        assert await store.add_usage(UsageBatch("g", 1, (row(),)), START) is True
        assert await store.usage(START, FAR) == [row()]

    async def test_a_report_is_added_once(self, store: Store) -> None:
        batch = UsageBatch("g", 1, (row(),))
        assert await store.add_usage(batch, START) is True
        assert await store.add_usage(batch, START) is False
        assert await store.usage(START, FAR) == [row()]

    async def test_a_report_sent_many_times_at_once_is_added_once(self, store: Store) -> None:
        batch = UsageBatch("g", 1, (row(),))
        taken = await asyncio.gather(*(store.add_usage(batch, START) for _ in range(WRITERS)))
        assert sorted(taken) == [False] * (WRITERS - 1) + [True]
        assert await store.usage(START, FAR) == [row()]

    async def test_an_earlier_report_comes_too_late(self, store: Store) -> None:
        assert await store.add_usage(UsageBatch("g", 5, (row(),)), START) is True
        assert await store.add_usage(UsageBatch("g", 4, (row(),)), START) is False
        assert await store.usage(START, FAR) == [row()]

    async def test_reports_of_all_gateways_add_up(self, store: Store) -> None:
        await store.add_usage(UsageBatch("g", 1, (row(),)), START)
        await store.add_usage(UsageBatch("g", 2, (row(),)), START)
        await store.add_usage(UsageBatch("h", 1, (row(),)), START)
        assert await store.usage(START, FAR) == [row(sums=SUMS.plus(SUMS).plus(SUMS))]

    async def test_rows_are_told_apart(self, store: Store) -> None:
        rows = (
            row(),
            row(outcome="broken_off"),
            row(key_id=None),
            row(replica_id=None),
            row(endpoint_id="endpoint-2", owner="bob"),
        )
        await store.add_usage(UsageBatch("g", 1, rows), START)
        assert await store.usage(START, FAR) == sorted(rows, key=lambda each: each.key)
        assert await store.usage(START, FAR, owner="bob") == [rows[4]]
        assert await store.usage(START, FAR, endpoint_id="endpoint-2") == [rows[4]]
        assert await store.usage(START, FAR, owner="ann", endpoint_id="endpoint-2") == []
        assert await store.usage(START, FAR, owner=UNSTORABLE[0]) in ([], ())

    async def test_minutes_are_summed_from_the_first_until_before_the_last(self, store: Store) -> None:
        rows = tuple(row(minute=START + number * MINUTE) for number in range(4))
        await store.add_usage(UsageBatch("g", 1, rows), START)
        two = await store.usage(START + MINUTE, START + 3 * MINUTE)
        assert two == [row(minute=START + MINUTE, sums=SUMS.plus(SUMS))]
        assert list(await store.usage(START + timedelta(hours=1), FAR)) == []

    @pytest.mark.parametrize("field", ["endpoint_id", "replica_id", "key_id", "outcome", "owner"])
    async def test_what_no_database_takes_is_refused_whole(self, store: Store, field: str) -> None:
        bad = row(minute=START + MINUTE, **{field: UNSTORABLE[0]})
        with pytest.raises(BadRequest):
            await store.add_usage(UsageBatch("g", 1, (row(), bad)), START)
        assert list(await store.usage(START, FAR)) == []
        assert await store.add_usage(UsageBatch("g", 1, (row(),)), START) is True

    async def test_a_row_that_occurs_twice_is_refused(self, store: Store) -> None:
        with pytest.raises(BadRequest):
            await store.add_usage(UsageBatch("g", 1, (row(), row(sums=UsageSums()))), START)

    async def test_the_sums_are_there_after_reopening(self, connect: Connect) -> None:
        first = connect()
        await first.open()
        batch = UsageBatch("g", 1, (row(),))
        await first.add_usage(batch, START)
        await first.close()
        second = connect()
        await second.open()
        assert await second.add_usage(batch, START) is False
        assert await second.usage(START, FAR) == [row()]
        assert await second.add_usage(replace(batch, sequence=2), START) is True
        await second.close()
