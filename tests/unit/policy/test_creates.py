"""Which creation a request means: cases, and any interleaving of clients that hang up and ask again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.domain.creation import Creation, Delivery, Wish
from roost.policy.creates import NEWS, WINDOW, Make, Means, Wait, meant
from roost.testing.builders import make_creation
from roost.testing.clock import START

SECOND = timedelta(seconds=1)
LATE = START + timedelta(minutes=1)


def wish(attempt: int | None = 1, **over: Any) -> Wish:
    return replace(make_creation(9, attempt=attempt).wish, **over)


def decide(asked: Wish, *creations: Creation, after: timedelta = NEWS) -> object:
    """What it means, ``after`` a while of waiting."""
    decision = meant(asked, creations, LATE, LATE + after)
    return decision.creation if isinstance(decision, Means) else type(decision)


@pytest.mark.parametrize(
    ("delivery", "soon", "later"),
    [
        (Delivery.UNDER_WAY, Wait, make_creation()),
        (Delivery.ACKNOWLEDGED, Make, Make),
        (Delivery.DELIVERED, Make, Make),
        (Delivery.LOST, make_creation(), make_creation()),
    ],
)
def test_what_is_known_of_the_answer_decides(delivery: Delivery, soon: object, later: object) -> None:
    creation = make_creation(delivery=delivery)
    expected = [replace(item, delivery=delivery) if isinstance(item, Creation) else item for item in (soon, later)]

    assert [decide(wish(), creation, after=SECOND), decide(wish(), creation)] == expected
    assert decide(wish(attempt=0), creation) is Make, "a first attempt is a wish of its own"


def test_an_acknowledged_answer_may_still_turn_out_unread() -> None:
    fresh = make_creation(delivery=Delivery.ACKNOWLEDGED, told_at=LATE - SECOND)

    assert meant(wish(), [fresh], LATE, LATE) == Wait(LATE - SECOND + NEWS, "an answer is on its way")
    assert decide(wish(), fresh) is Make


def test_what_is_being_made_is_waited_for_without_limit() -> None:
    making = make_creation(endpoint_id=None)

    assert meant(wish(), [making], LATE, START + WINDOW) == Wait(None, "an answer is on its way")


def test_an_answer_acknowledged_while_a_retry_waits_does_not_make_it_wait_longer() -> None:
    late = make_creation(delivery=Delivery.ACKNOWLEDGED, told_at=LATE + NEWS - SECOND / 2)

    assert meant(wish(), [late], LATE, LATE + NEWS - SECOND / 2) == Wait(LATE + NEWS, "an answer is on its way")
    assert decide(wish(), late) is Make


@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(-5, 5), st.sampled_from(Delivery), st.booleans(), st.integers(0, 2))),
    st.integers(0, 5),
)
def test_what_is_asked_for_later_changes_nothing_and_the_wait_has_an_end(
    attempt: int, asked: list[tuple[int, Delivery, bool, int]], after: int
) -> None:
    creations = [
        make_creation(
            number,
            at=LATE + at * SECOND,
            told_at=LATE + max(at, after - 1) * SECOND,
            delivery=delivery,
            attempt=other,
            **({"endpoint_id": None} if making else {}),
        )
        for number, (at, delivery, making, other) in enumerate(sorted(asked), start=1)
    ]
    earlier = [creation for creation in creations if creation.at <= LATE]
    now = LATE + after * SECOND

    assert meant(wish(attempt), creations, LATE, now) == meant(wish(attempt), earlier, LATE, now)
    if not any(creation.endpoint_id is None for creation in earlier):
        end = max([LATE, *(creation.told_at for creation in earlier)]) + NEWS
        assert not isinstance(meant(wish(attempt), creations, LATE, end), Wait)


@pytest.mark.parametrize("over", [{"key_id": "key-2"}, {"fingerprint": "other"}, {"idempotency_key": "n"}])
def test_only_the_same_key_and_body_without_a_name(over: dict[str, Any]) -> None:
    assert decide(wish(**over), make_creation(delivery=Delivery.LOST)) is Make
    assert decide(wish(), make_creation(delivery=Delivery.LOST, **over)) is Make


def test_an_attempt_that_is_not_later_repeats_something_else() -> None:
    assert decide(wish(attempt=1), make_creation(attempt=1)) is Make
    assert decide(wish(attempt=2), make_creation(attempt=1)) == make_creation(attempt=1)
    lost = make_creation(attempt=2, delivery=Delivery.LOST)
    assert decide(wish(attempt=1), lost) == lost


def test_a_client_that_does_not_count_gets_what_nobody_has() -> None:
    lost = make_creation(delivery=Delivery.LOST)

    assert decide(wish(attempt=None), lost) == lost
    for delivery in set(Delivery) - {Delivery.LOST}:
        assert decide(wish(attempt=None), make_creation(delivery=delivery)) is Make
    assert decide(wish(attempt=None, fingerprint="other"), lost) is Make
    uncounted = make_creation(attempt=None)
    assert [decide(wish(attempt=n), uncounted) for n in (0, 1)] == [Make, uncounted]


def test_a_name_means_what_has_it_whatever_became_of_the_answer() -> None:
    for delivery in Delivery:
        named = make_creation(delivery=delivery, idempotency_key="n")
        assert decide(wish(attempt=0, idempotency_key="n"), named, after=timedelta(0)) == named
        assert decide(wish(idempotency_key="m"), named) is Make


def test_after_the_window_nothing_is_meant() -> None:
    old = make_creation(delivery=Delivery.LOST, at=LATE - WINDOW)

    assert decide(wish(), old, after=timedelta(0)) == old
    assert decide(wish(), old, after=SECOND) is Make


@dataclass
class Client:
    """Asks until it gets an answer; ``hang_ups`` tells for each attempt when it gives up, None: it reads the answer."""

    hang_ups: list[str]
    attempts: int = 0
    got: int | None = None


@dataclass
class World:
    """A server and clients with one body, moved by one step at a time. Gateways' news arrives within ``NEWS``; what a
    retry waits for is of those only that asked before it."""

    clients: list[Client]
    creations: list[Creation] = field(default_factory=list)
    pending: list[tuple[str, Delivery]] = field(default_factory=list)
    waiting: list[tuple[Client, Wish, str]] = field(default_factory=list)
    asked_at: dict[str, datetime] = field(default_factory=dict)
    """By answer."""
    now: datetime = START
    made: int = 0

    def ask(self, client: Client) -> None:
        """The client's next attempt, with what it will do once the answer is on its way."""
        fate = client.hang_ups[client.attempts] if client.attempts < len(client.hang_ups) else "reads"
        asked = Wish("key-1", "body", client.attempts, f"{self.clients.index(client)}.{client.attempts}")
        client.attempts += 1
        self.now += SECOND / 1000
        self.asked_at[asked.answer] = self.now
        if fate == "lost before it arrived":
            return
        self.waiting.append((client, asked, fate))

    def serve(self, number: int) -> None:
        """Decide on a request that waits. News comes before the patience ends; then it is decided without."""
        client, asked, fate = self.waiting[number]
        asked_at = self.asked_at[asked.answer]
        decision = meant(asked, self.creations, asked_at, self.now)
        if isinstance(decision, Wait):
            if any(self.asked_at[answer] <= asked_at for answer, _ in self.pending):
                return
            while self.pending:
                self.tell()
            self.now += NEWS
            decision = meant(asked, self.creations, asked_at, self.now)
        assert not isinstance(decision, Wait)
        del self.waiting[number]
        if isinstance(decision, Means):
            self.creations.remove(decision.creation)
            creation = replace(decision.creation, wish=asked, delivery=Delivery.UNDER_WAY, told_at=self.now)
        else:
            self.made += 1
            creation = Creation(f"endpoint-{self.made}", asked, asked_at, self.now)
        self.creations.append(creation)
        if fate == "hangs up unseen":
            self.pending.append((asked.answer, Delivery.LOST))
        elif fate == "hangs up with the answer unread":
            self.pending += [(asked.answer, Delivery.ACKNOWLEDGED), (asked.answer, Delivery.LOST)]
        else:
            assert client.got is None
            client.got = int(str(creation.endpoint_id).removeprefix("endpoint-"))
            # A connection that is kept open ends later, or never as far as this goes.
            self.pending.append((asked.answer, Delivery.ACKNOWLEDGED))

    def tell(self) -> None:
        """One piece of news arrives."""
        answer, delivery = self.pending.pop(0)
        self.creations = [
            replace(c, delivery=delivery, told_at=self.now) if c.wish.answer == answer else c for c in self.creations
        ]

    def busy(self, client: Client) -> bool:
        return client.got is not None or any(other is client for other, _, _ in self.waiting)


FATES = st.lists(
    st.sampled_from(["lost before it arrived", "hangs up unseen", "hangs up with the answer unread"]), max_size=3
)


@given(st.lists(FATES, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_each_wish_gets_one_endpoint_in_any_order_of_events(fates: list[list[str]], order: Random) -> None:
    world = World([Client(hang_ups) for hang_ups in fates])
    while any(client.got is None for client in world.clients):
        moves = [("ask", n) for n, client in enumerate(world.clients) if not world.busy(client)]
        # Attempts of one body are judged in the order in which they came, first attempts at once.
        retries = [n for n, (_, asked, _) in enumerate(world.waiting) if asked.attempt]
        moves += [("serve", n) for n, (_, asked, _) in enumerate(world.waiting) if not asked.attempt or n == retries[0]]
        moves += [("tell", 0)] if world.pending else []
        move, number = order.choice(moves)
        if move == "ask":
            world.ask(world.clients[number])
        elif move == "serve":
            world.serve(number)
        else:
            world.tell()
    got = [client.got for client in world.clients]
    assert len(set(got)) == len(got), "no endpoint is given to two"
    assert world.made == len(got), "none is left over"
