"""Which create a repeated request means."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from roost.domain.errors import BadRequest, NotReady
from roost.services.recent_creates import WINDOW, Ask, RecentCreates
from roost.testing.clock import FakeClock


@dataclass
class Client:
    """Somebody who asks, and may hang up."""

    is_gone: bool = False

    async def gone(self) -> bool:
        return self.is_gone

    def ask(self, body: str = "body", *, retry: int = 0, named: str | None = None, key: str = "key-1") -> Ask:
        return Ask(key, body, retry, named, self.gone)


@dataclass
class Maker:
    """Makes endpoints once ``open`` is set; ``begun`` tells that one is under way."""

    made: int = 0
    begun: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    open: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    async def create(self) -> str:
        self.begun.release()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.made += 1
        return f"endpoint-{self.made}"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def recent(clock: FakeClock) -> RecentCreates:
    return RecentCreates(clock.now)


@pytest.fixture
def maker() -> Maker:
    maker = Maker()
    maker.open.set()
    return maker


async def answered(recent: RecentCreates, ask: Ask, maker: Maker) -> tuple[str, bool]:
    """A request that is served to its end; a client that is gone never reads the answer."""
    made, new = await recent.once(ask, maker.create)
    await recent.answered(ask, made)
    return made, new


async def test_identical_creates_make_two(recent: RecentCreates, maker: Maker) -> None:
    client = Client()

    assert await answered(recent, client.ask(), maker) == ("endpoint-1", True)
    assert await answered(recent, client.ask(), maker) == ("endpoint-2", True)


async def test_a_retry_of_an_answered_create_makes_another(recent: RecentCreates, maker: Maker) -> None:
    client = Client()
    await answered(recent, client.ask(), maker)

    assert await answered(recent, client.ask(retry=1), maker) == ("endpoint-2", True)


async def test_a_retry_of_an_unanswered_create_means_it_once(recent: RecentCreates, maker: Maker) -> None:
    await answered(recent, Client(is_gone=True).ask(), maker)
    back = Client()

    assert await answered(recent, back.ask(retry=1), maker) == ("endpoint-1", False)
    assert await answered(recent, back.ask(retry=1), maker) == ("endpoint-2", True)


async def test_a_retry_that_is_lost_too_leaves_it_for_the_next(recent: RecentCreates, maker: Maker) -> None:
    lost = Client(is_gone=True)
    await answered(recent, lost.ask(), maker)
    await answered(recent, lost.ask(retry=1), maker)

    assert await answered(recent, Client().ask(retry=1), maker) == ("endpoint-1", False)


@pytest.mark.parametrize("change", [{"body": "other"}, {"key": "key-2"}, {"retry": 0}])
async def test_only_a_retry_of_the_same_body_and_key(
    recent: RecentCreates, maker: Maker, change: dict[str, Any]
) -> None:
    await answered(recent, Client(is_gone=True).ask(), maker)

    ask = Client().ask(**{"retry": 1, **change})

    assert await answered(recent, ask, maker) == ("endpoint-2", True)


async def test_a_retry_joins_a_create_under_way_whose_client_left(recent: RecentCreates) -> None:
    maker, lost = Maker(), Client()
    first = asyncio.create_task(recent.once(lost.ask(), maker.create))
    await maker.begun.acquire()
    lost.is_gone = True
    second = asyncio.create_task(recent.once(Client().ask(retry=1), maker.create))
    maker.open.set()

    assert [await first, await second] == [("endpoint-1", True), ("endpoint-1", False)]


async def test_a_create_goes_on_when_its_request_is_cancelled(recent: RecentCreates) -> None:
    maker = Maker()
    first = asyncio.create_task(recent.once(Client(is_gone=True).ask(), maker.create))
    await maker.begun.acquire()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    maker.open.set()

    assert await recent.once(Client().ask(retry=1), maker.create) == ("endpoint-1", False)


async def test_two_retries_at_once_do_not_share(recent: RecentCreates, maker: Maker) -> None:
    both_asked = asyncio.Barrier(2)

    class Leaving(Client):
        async def gone(self) -> bool:
            if self.is_gone:
                await both_asked.wait()
            return True

    lost = Leaving()
    await answered(recent, lost.ask(), maker)
    lost.is_gone = True

    results = await asyncio.gather(*(recent.once(Client().ask(retry=1), maker.create) for _ in range(2)))

    assert sorted(results) == [("endpoint-1", False), ("endpoint-2", True)]


async def test_parallel_creates_do_not_share(recent: RecentCreates) -> None:
    maker = Maker()
    both = [asyncio.create_task(recent.once(Client().ask(), maker.create)) for _ in range(2)]
    for _ in both:
        await maker.begun.acquire()
    retries = [asyncio.create_task(recent.once(Client().ask(retry=1), maker.create)) for _ in range(2)]
    maker.open.set()

    assert {await task for task in both} == {("endpoint-1", True), ("endpoint-2", True)}
    assert {await task for task in retries} == {("endpoint-1", False), ("endpoint-2", False)}


async def test_later_attempts_join_a_create_whose_clients_seem_to_be_there(recent: RecentCreates) -> None:
    maker, client = Maker(), Client()
    asks = [client.ask(retry=attempt) for attempt in (0, 1, 2)]
    tasks = [asyncio.create_task(recent.once(asks[0], maker.create))]
    await maker.begun.acquire()
    tasks += [asyncio.create_task(recent.once(ask, maker.create)) for ask in asks[1:]]
    maker.open.set()
    assert {(await task)[0] for task in tasks} == {"endpoint-1"}

    # Answers to attempts that were given up do not count.
    for ask in asks[:2]:
        await recent.answered(ask, "endpoint-1")
    assert await recent.once(client.ask(retry=3), maker.create) == ("endpoint-1", False)


async def test_a_create_answered_while_a_retry_looks_is_not_given_out(recent: RecentCreates, maker: Maker) -> None:
    looked = asyncio.Event()
    looking = asyncio.Event()

    class Slow(Client):
        async def gone(self) -> bool:
            looking.set()
            await looked.wait()
            return self.is_gone

    slow = Slow()
    ask = slow.ask()
    await recent.once(ask, maker.create)
    retrying = asyncio.create_task(recent.once(Client().ask(retry=1), maker.create))
    await looking.wait()
    recent.forget("endpoint-1")
    slow.is_gone = True
    looked.set()

    assert await retrying == ("endpoint-2", True)


async def test_the_same_name_means_the_same_endpoint(recent: RecentCreates, maker: Maker) -> None:
    client = Client()
    await answered(recent, client.ask(named="n"), maker)

    assert await answered(recent, client.ask(named="n"), maker) == ("endpoint-1", False)
    assert await answered(recent, client.ask(named="m"), maker) == ("endpoint-2", True)
    assert await answered(recent, client.ask(named="n", key="key-2"), maker) == ("endpoint-3", True)
    with pytest.raises(BadRequest, match="Idempotency-Key"):
        await recent.once(client.ask("other", named="n"), maker.create)


async def test_what_failed_is_tried_anew(recent: RecentCreates, maker: Maker) -> None:
    client = Client()
    maker.error = NotReady("not now")
    with pytest.raises(NotReady):
        await recent.once(client.ask(named="n"), maker.create)
    maker.error = None

    assert await recent.once(client.ask(named="n"), maker.create) == ("endpoint-1", True)


async def test_deleted_endpoints_are_not_meant(recent: RecentCreates, maker: Maker) -> None:
    client = Client()
    await answered(recent, client.ask(named="n"), maker)
    recent.forget("endpoint-1")

    assert await answered(recent, client.ask(named="n"), maker) == ("endpoint-2", True)


async def test_after_ten_minutes_all_is_forgotten(recent: RecentCreates, maker: Maker, clock: FakeClock) -> None:
    client = Client()
    await answered(recent, client.ask(named="n"), maker)
    clock.advance(WINDOW)
    assert await answered(recent, client.ask(named="n"), maker) == ("endpoint-1", False)
    clock.advance(timedelta(seconds=1))

    assert await answered(recent, client.ask(named="n"), maker) == ("endpoint-2", True)
