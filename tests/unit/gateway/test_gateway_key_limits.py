"""The limits of keys: what is counted, what is refused with which words, and several workers together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.domain.routing import RouteKey
from roost.gateway.answers import Refusal
from roost.gateway.board import Board
from roost.gateway.key_limits import KeyLimits


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def key_with(number: int = 1, **limits: Any) -> RouteKey:
    return RouteKey(f"digest-{number}", f"key-{number}", "alice", "member", **limits)


class Worker:
    """One worker's limits. Refusals are told by their code."""

    def __init__(self, folder: Path, index: int, clock: Clock, *, workers: int = 1) -> None:
        self.board = Board(folder, index, workers=workers)
        self.clock = clock
        self.limits = KeyLimits(self.board, clock)

    def ask(self, key: RouteKey) -> Refusal | None:
        return self.limits.admit(key, self.clock.now)

    def code(self, key: RouteKey) -> str | None:
        refusal = self.ask(key)
        return None if refusal is None else refusal.code

    def sweep(self) -> None:
        changed = self.board.refresh()
        if self.board.shared:
            self.limits.share(self.clock.now, changed=changed)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worker(tmp_path: Path, clock: Clock) -> Iterator[Worker]:
    """The only worker."""
    made = Worker(tmp_path, 0, clock)
    yield made
    made.board.close()


@pytest.fixture
def pair(tmp_path: Path, clock: Clock) -> Iterator[tuple[Worker, Worker]]:
    """Two workers that know each other."""
    workers = Worker(tmp_path, 0, clock, workers=2), Worker(tmp_path, 1, clock, workers=2)
    for each in workers:
        each.sweep()
    yield workers
    for each in workers:
        each.board.close()


def headers_of(refusal: Refusal | None) -> dict[str, str]:
    assert refusal is not None
    return dict(line.split(": ") for line in refusal.headers().decode().split("\r\n")[:-1])


def test_requests_per_minute(worker: Worker, clock: Clock) -> None:
    key = key_with(requests_per_minute=10)
    assert [worker.code(key) for _ in range(12)] == [None] * 10 + ["rate_limited"] * 2

    refusal = worker.ask(key)
    assert headers_of(refusal) == {
        "retry-after": "6",
        "x-should-retry": "true",
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "60.000s",
    }
    assert refusal is not None
    assert (refusal.status, refusal.message) == (
        429,
        "This API key may have 10 requests per minute. Try again in 6 s.",
    )
    clock.now += 5.9
    assert worker.code(key) == "rate_limited"
    clock.now += 0.1
    assert worker.code(key) is None


def test_tokens_per_minute_are_paid_back_before_the_next_request(worker: Worker, clock: Clock) -> None:
    key = key_with(tokens_per_minute=60)
    worker.limits.apply([key])
    assert worker.code(key) is None
    worker.limits.spent(key.id, 240)

    headers = headers_of(worker.ask(key))
    assert headers["retry-after"] == "181", "the truth, though clients wait no longer than a minute"
    assert headers["x-ratelimit-remaining-tokens"] == "0"
    assert headers["x-ratelimit-reset-tokens"] == "240.000s"
    clock.now += 180.9
    assert worker.code(key) == "token_rate_limited"
    clock.now += 0.1
    assert worker.code(key) is None


def test_concurrency(worker: Worker) -> None:
    key = key_with(concurrency=2)
    assert [worker.code(key) for _ in range(3)] == [None, None, "concurrency_limited"]
    worker.limits.ended(key, 8.0)
    assert [worker.code(key) for _ in range(2)] == [None, "concurrency_limited"]

    assert headers_of(worker.ask(key)) == {"retry-after": "4", "x-should-retry": "true"}


def test_the_limit_that_lasts_longest_is_told(worker: Worker) -> None:
    key = key_with(requests_per_minute=1, concurrency=1, tokens_per_minute=1000)
    assert worker.code(key) is None
    headers = headers_of(worker.ask(key))

    assert worker.code(key) == "rate_limited"
    assert headers["retry-after"] == "60"
    assert headers["x-ratelimit-remaining-tokens"] == "1000"


def test_what_is_refused_uses_nothing(worker: Worker, clock: Clock) -> None:
    key = key_with(requests_per_minute=2, concurrency=1)
    assert worker.code(key) is None
    assert [worker.code(key) for _ in range(50)] == ["concurrency_limited"] * 50
    worker.limits.ended(key, 1.0)
    assert worker.code(key) is None


def test_keys_do_not_share(worker: Worker) -> None:
    assert worker.code(key_with(1, concurrency=1)) is None
    assert worker.code(key_with(2, concurrency=1)) is None


def test_tokens_of_other_keys_are_not_counted(worker: Worker) -> None:
    worker.limits.spent("key-unknown", 10)
    key = key_with(requests_per_minute=10)
    worker.limits.apply([key])
    worker.limits.spent(key.id, 10)

    assert worker.code(key) is None


def test_changed_limits_hold_at_once_and_count_what_was_used(worker: Worker) -> None:
    key = key_with(requests_per_minute=10, concurrency=3)
    worker.limits.apply([key])
    for _ in range(3):
        assert worker.code(key) is None
    wider = key_with(requests_per_minute=5, concurrency=None)
    worker.limits.apply([wider])

    assert [worker.code(wider) for _ in range(3)] == [None, None, "rate_limited"]


def test_a_request_that_began_before_its_limits_were_lifted_ends_well(worker: Worker) -> None:
    key = key_with(concurrency=1)
    worker.limits.apply([key])
    assert worker.code(key) is None
    worker.limits.apply([key_with()])
    worker.limits.apply([key])
    assert worker.code(key) == "concurrency_limited"
    worker.limits.ended(key, 1.0)

    assert worker.code(key) is None


def test_a_key_that_is_gone_leaves_nothing_on_the_board(pair: tuple[Worker, Worker]) -> None:
    one, other = pair
    key = key_with(requests_per_minute=10)
    one.limits.apply([key])
    one.ask(key)
    one.limits.ended(key, 1.0)
    assert other.board.others("key-1 requests") == 1
    one.limits.apply([])

    assert other.board.others("key-1 requests") == 0


def test_two_workers_keep_one_limit_together(pair: tuple[Worker, Worker], clock: Clock) -> None:
    one, other = pair
    key = key_with(requests_per_minute=10, concurrency=4, tokens_per_minute=100)
    for each in pair:
        each.limits.apply([key])
    assert [each.code(key) for each in (one, other, one, other, one, other)] == [None] * 4 + ["concurrency_limited"] * 2
    for each in (one, other, one, other):
        each.limits.ended(key, 1.0)
    for _ in range(3):
        for each in pair:
            assert each.code(key) is None
            each.limits.ended(key, 1.0)
    assert [each.code(key) for each in pair] == ["rate_limited"] * 2
    clock.now += 6.0
    one.limits.spent(key.id, 400)

    assert other.code(key) == "token_rate_limited"
    clock.now += 180.6
    assert other.code(key) is None


def test_a_worker_that_has_not_been_asked_for_long_is_not_unjust(pair: tuple[Worker, Worker], clock: Clock) -> None:
    one, other = pair
    key = key_with(requests_per_minute=60)
    for each in pair:
        each.limits.apply([key])
    for _ in range(300):
        assert one.code(key) is None
        one.limits.ended(key, 0.1)
        clock.now += 1.0
        for each in pair:
            each.sweep()

    assert other.code(key) is None


def test_the_requests_of_a_worker_that_is_gone_block_nobody(pair: tuple[Worker, Worker]) -> None:
    one, other = pair
    key = key_with(concurrency=2, requests_per_minute=100)
    for each in pair:
        each.limits.apply([key])
    assert [one.code(key), one.code(key), other.code(key)] == [None, None, "concurrency_limited"]
    one.board.close()
    other.sweep()

    assert [other.code(key), other.code(key), other.code(key)] == [None, None, "concurrency_limited"]


def test_a_worker_that_leaves_gives_no_budget_back(pair: tuple[Worker, Worker]) -> None:
    one, other = pair
    key = key_with(requests_per_minute=4, tokens_per_minute=100)
    for each in pair:
        each.limits.apply([key])
    assert [one.code(key), one.code(key), other.code(key)] == [None] * 3
    one.limits.spent(key.id, 99)
    assert other.code(key) is None
    one.limits.spent(key.id, 99)
    assert other.code(key) == "token_rate_limited"
    one.board.close()

    assert other.code(key) == "token_rate_limited"
    other.sweep()
    assert other.code(key) == "token_rate_limited"
    free = key_with(requests_per_minute=4)
    other.limits.apply([free])
    assert other.code(free) == "rate_limited"


def test_what_was_shown_and_is_over_is_not_shown_again(worker: Worker, tmp_path: Path, clock: Clock) -> None:
    key = key_with(concurrency=2)
    worker.limits.apply([key])
    first = Worker(tmp_path, 1, clock)
    worker.sweep()
    assert worker.code(key) is None
    first.board.close()
    worker.sweep()
    worker.limits.ended(key, 1.0)
    second = Worker(tmp_path, 2, clock)
    worker.sweep()

    assert second.board.others("key-1 in flight") == 0
    second.board.close()


def test_a_worker_that_comes_learns_what_runs_elsewhere(worker: Worker, tmp_path: Path, clock: Clock) -> None:
    key = key_with(concurrency=2)
    worker.limits.apply([key])
    assert worker.code(key) is None
    successor = Worker(tmp_path, 1, clock)
    successor.limits.apply([key])
    worker.sweep()

    assert [successor.code(key), successor.code(key)] == [None, "concurrency_limited"]
    successor.board.close()


moves = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(["ask", "ask", "ask", "end", "spend", "sweep"]), st.floats(0.0, 5.0)),
    max_size=120,
)


@settings(max_examples=60)
@given(moves, st.integers(1, 20), st.integers(1, 4))
def test_two_workers_never_let_through_more_than_one_would(moves: list[Any], most: int, at_once: int) -> None:
    clock = Clock()
    key = key_with(requests_per_minute=most, concurrency=at_once)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        workers = [Worker(folder, index, clock, workers=2) for index in (0, 1)]
        for each in workers:
            stack.callback(each.board.close)
            each.limits.apply([key])
        for each in workers:
            each.sweep()
        running, times = [0, 0], []
        for who, move, pause in moves:
            clock.now += pause
            if move == "ask" and workers[who].ask(key) is None:
                running[who] += 1
                times.append(clock.now)
            elif move == "end" and running[who]:
                running[who] -= 1
                workers[who].limits.ended(key, 1.0)
            elif move == "sweep":
                workers[who].sweep()
            assert sum(running) <= at_once
        for first, start in enumerate(times):
            assert len(times) - first <= most * (1 + (times[-1] - start) / 60) + 0.01
        for who in (0, 1):
            for _ in range(running[who]):
                workers[who].limits.ended(key, 1.0)
        for _ in range(10):
            # Each second's sweep: what was used drains.
            clock.now += 60.0
            for each in workers:
                each.sweep()
        assert [workers[0].code(key) for _ in range(at_once)] == [None] * min(at_once, most) + ["rate_limited"] * (
            at_once - min(at_once, most)
        )
