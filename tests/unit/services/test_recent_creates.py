"""Which create a repeated request means."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from roost.domain.creation import Delivery, Wish
from roost.domain.errors import BadRequest, NotReady
from roost.policy.creates import WINDOW
from roost.services.recent_creates import MAX_IDEMPOTENCY_KEY, Ask, RecentCreates
from roost.store.memory import MemoryStore
from roost.testing.builders import make_creation, make_endpoint
from roost.testing.clock import FakeClock

ANSWERS = itertools.count()


@dataclass
class Client:
    """Somebody who asks, and may hang up."""

    is_gone: bool = False

    async def gone(self) -> bool:
        return self.is_gone

    def ask(
        self, body: str = "body", *, retry: int = 0, named: str | None = None, key: str = "key-1", tracked: bool = False
    ) -> Ask:
        return Ask(Wish(key, body, retry, f"answer-{next(ANSWERS)}", named), self.gone, tracked)


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
async def store() -> MemoryStore:
    store = MemoryStore()
    await store.open()
    return store


@pytest.fixture
def recent(store: MemoryStore, clock: FakeClock) -> RecentCreates:
    """One that waits for no news, as if its time were over."""
    return RecentCreates(store, clock.now, news=timedelta(0))


@pytest.fixture
def patient(store: MemoryStore, clock: FakeClock) -> RecentCreates:
    """One that waits for news longer than any test."""
    return RecentCreates(store, clock.now, news=timedelta(hours=1))


@pytest.fixture
def maker() -> Maker:
    maker = Maker()
    maker.open.set()
    return maker


async def answered(recent: RecentCreates, ask: Ask, maker: Maker) -> tuple[str, bool]:
    """A request that is served to its end; a client that is gone never reads the answer."""
    made, new = await recent.once(ask, maker.create)
    await recent.answered(ask)
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
        await recent.answered(ask)
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


async def test_a_gateway_s_client_counts_as_answered_when_the_gateway_says_so(
    patient: RecentCreates, maker: Maker
) -> None:
    ask, other = Client().ask(tracked=True), Client().ask(tracked=True)
    await answered(patient, ask, maker)
    retrying = asyncio.create_task(patient.once(Client().ask(retry=1), maker.create))
    assert await answered(patient, other, maker) == ("endpoint-2", True), "a first attempt waits for nothing"

    for told in (other, ask):
        assert not retrying.done()
        await patient.told(told.wish.answer, Delivery.DELIVERED)

    assert await retrying == ("endpoint-3", True)


@pytest.mark.parametrize("news", [[Delivery.LOST], [Delivery.ACKNOWLEDGED, Delivery.LOST]])
async def test_a_retry_gets_the_endpoint_whose_answer_a_gateway_lost(
    patient: RecentCreates, maker: Maker, news: list[Delivery]
) -> None:
    ask = Client().ask(tracked=True)
    await answered(patient, ask, maker)
    retry = Client().ask(retry=1, tracked=True)
    retrying = asyncio.create_task(patient.once(retry, maker.create))

    for state in news:
        await patient.told(ask.wish.answer, state)

    assert await retrying == ("endpoint-1", False)
    await patient.told(ask.wish.answer, Delivery.DELIVERED)  # too late: another answer counts now
    lost = Client(is_gone=True).ask(retry=2)
    await patient.told(retry.wish.answer, Delivery.LOST)
    assert await patient.once(lost, maker.create) == ("endpoint-1", False)


@pytest.mark.parametrize(
    ("news", "meant"), [([], ("endpoint-1", False)), ([Delivery.ACKNOWLEDGED], ("endpoint-2", True))]
)
async def test_without_news_a_retry_gets_it_unless_it_was_acknowledged(
    recent: RecentCreates, maker: Maker, news: list[Delivery], meant: tuple[str, bool]
) -> None:
    ask = Client().ask(tracked=True)
    await answered(recent, ask, maker)
    for state in news:
        await recent.told(ask.wish.answer, state)

    assert await recent.once(Client().ask(retry=1), maker.create) == meant


async def test_a_retry_does_not_wait_for_what_is_asked_for_after_it(
    store: MemoryStore, clock: FakeClock, maker: Maker
) -> None:
    recent = RecentCreates(store, clock.now, news=timedelta(seconds=2))
    lost = Client().ask(tracked=True)
    await answered(recent, lost, maker)
    retry = asyncio.create_task(recent.once(Client().ask(retry=1), maker.create))
    for _ in range(4):
        clock.advance(timedelta(seconds=1))
        await answered(recent, Client().ask(tracked=True), maker)

    async with asyncio.timeout(1):
        assert await retry == ("endpoint-1", False)


@pytest.mark.parametrize("back", [timedelta(0), timedelta(seconds=5), timedelta(days=1)])
async def test_a_clock_that_is_set_back_does_not_make_an_earlier_create_a_later_one(
    recent: RecentCreates, maker: Maker, clock: FakeClock, back: timedelta
) -> None:
    await answered(recent, Client().ask(tracked=True), maker)
    clock.advance(-back)

    assert await recent.once(Client().ask(retry=1), maker.create) == ("endpoint-1", False)


async def test_a_later_attempt_gets_what_an_earlier_one_made_that_had_to_wait(
    store: MemoryStore, clock: FakeClock
) -> None:
    recent = RecentCreates(store, clock.now, news=timedelta(seconds=2))
    other, maker = Maker(), Maker()
    failing = asyncio.create_task(recent.once(Client().ask(retry=1), other.create))
    await other.begun.acquire()
    client = Client()
    earlier = asyncio.create_task(recent.once(client.ask(retry=1), maker.create))
    await asyncio.sleep(0)
    clock.advance(timedelta(seconds=1))
    client.is_gone = True
    later = asyncio.create_task(recent.once(Client().ask(retry=2), maker.create))
    await asyncio.sleep(0)
    clock.advance(timedelta(seconds=1))
    other.error = NotReady("nothing was made")
    other.open.set()
    with pytest.raises(NotReady):
        await failing
    await maker.begun.acquire()
    maker.open.set()

    async with asyncio.timeout(5):
        assert [await earlier, await later] == [("endpoint-1", True), ("endpoint-1", False)]


async def test_news_that_comes_before_the_endpoint_is_there_counts(patient: RecentCreates) -> None:
    maker, ask = Maker(), Client().ask(tracked=True)
    first = asyncio.create_task(patient.once(ask, maker.create))
    await maker.begun.acquire()
    await patient.told(ask.wish.answer, Delivery.LOST)
    second = asyncio.create_task(patient.once(Client().ask(retry=1), maker.create))
    maker.open.set()

    assert [await first, await second] == [("endpoint-1", True), ("endpoint-1", False)]


async def test_a_gateway_that_died_after_it_told_of_the_answer_was_right(recent: RecentCreates, maker: Maker) -> None:
    client = Client()
    ask = client.ask(tracked=True)
    await recent.once(ask, maker.create)
    await recent.told(ask.wish.answer, Delivery.ACKNOWLEDGED)
    client.is_gone = True
    await recent.answered(ask)

    assert await recent.once(Client().ask(retry=1), maker.create) == ("endpoint-2", True)


async def test_news_of_unknown_answers_is_ignored(recent: RecentCreates) -> None:
    await recent.told("nothing", Delivery.LOST)


async def test_the_next_control_plane_knows_what_was_not_delivered(
    store: MemoryStore, clock: FakeClock, maker: Maker
) -> None:
    known: list[dict[str, Any]] = [
        {"delivery": Delivery.DELIVERED},
        {"delivery": Delivery.LOST, "fingerprint": "lost"},
        {"delivery": Delivery.DELIVERED, "idempotency_key": "n"},
        {"at": clock.now() - WINDOW - timedelta(seconds=1), "fingerprint": "old"},
    ]
    for number, changes in enumerate(known, start=1):
        creation = make_creation(number, key_id="key-1", **{"at": clock.now(), **changes})
        await store.insert_endpoint(make_endpoint(number), [], creation)
    recent = RecentCreates(store, clock.now, news=timedelta(0))
    await recent.load()

    assert await recent.once(Client().ask(retry=1), maker.create) == ("endpoint-1", True), "delivered before"
    assert await recent.once(Client().ask("lost", retry=1), maker.create) == (make_endpoint(2).id, False)
    assert await recent.once(Client().ask(named="n"), maker.create) == (make_endpoint(3).id, False)
    assert await recent.once(Client().ask("old", retry=1), maker.create) == ("endpoint-2", True)


async def test_what_becomes_of_an_answer_is_kept(store: MemoryStore, clock: FakeClock, recent: RecentCreates) -> None:
    ask = Client().ask(tracked=True)

    async def create() -> str:
        creation = make_creation(1, **{name: getattr(ask.wish, name) for name in Wish.__slots__}, at=clock.now())
        await store.insert_endpoint(make_endpoint(1), [], creation)
        return make_endpoint(1).id

    async def kept() -> tuple[Delivery, str]:
        (creation,) = await store.creations(clock.now() - WINDOW)
        return creation.delivery, creation.wish.answer

    await recent.once(ask, create)
    await recent.answered(ask)
    await recent.told(ask.wish.answer, Delivery.LOST)
    assert await kept() == (Delivery.LOST, ask.wish.answer)
    again = Client().ask(retry=1, tracked=True)
    await recent.once(again, create)
    assert await kept() == (Delivery.UNDER_WAY, again.wish.answer)
    await recent.told(again.wish.answer, Delivery.DELIVERED)
    assert await kept() == (Delivery.DELIVERED, again.wish.answer)


async def test_a_name_has_its_limits(recent: RecentCreates, maker: Maker) -> None:
    name = "n" * MAX_IDEMPOTENCY_KEY
    assert await recent.once(Client().ask(named=name), maker.create) == ("endpoint-1", True)
    with pytest.raises(BadRequest, match="Idempotency-Key"):
        await recent.once(Client().ask(named=name + "n"), maker.create)
