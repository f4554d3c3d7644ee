"""The queue of requests that wait: fair between keys, in order within one, nothing lost and nothing twice."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from roost.gateway.hold_queue import LEAST_SPAN_S, MOST_COST, WINDOW_S, HoldQueue


@dataclass(eq=False)
class Item:
    lane: str
    cost: int = 1
    deadline: float = 100.0
    number: int = 0


def filled(*lanes: str, limit: int = 1000) -> HoldQueue[Item]:
    queue: HoldQueue[Item] = HoldQueue()
    for number, lane in enumerate(lanes):
        assert queue.push(Item(lane, number=number), limit, 0.0) is None
    return queue


def emptied(queue: HoldQueue[Item], now: float = 0.0) -> list[str]:
    return [queue.pop(now).lane for _ in range(queue.size)]


def test_keys_take_turns() -> None:
    assert "".join(emptied(filled(*"aaaabbc"))) == "abcabaa"


def test_a_key_that_comes_later_does_not_wait_for_the_whole_of_another() -> None:
    queue = filled(*"a" * 500)
    queue.push(Item("b"), 1000, 0.0)
    assert "b" in [queue.pop(0.0).lane for _ in range(2)]


def test_a_key_with_costly_requests_gets_fewer_of_them() -> None:
    queue: HoldQueue[Item] = HoldQueue()
    for _ in range(8):
        queue.push(Item("costly", cost=4), 100, 0.0)
        queue.push(Item("cheap"), 100, 0.0)
    assert [queue.pop(0.0).lane for _ in range(10)].count("costly") == 2
    assert emptied(queue).count("costly") == 6


@given(costs=st.lists(st.tuples(*[st.integers(1, MOST_COST)] * 3), min_size=20, max_size=60))
def test_what_keys_get_differs_by_less_than_a_costliest_request(costs: list[tuple[int, int, int]]) -> None:
    queue: HoldQueue[Item] = HoldQueue()
    for row in costs:
        for lane, cost in zip("abc", row, strict=True):
            queue.push(Item(lane, cost), 1000, 0.0)
    got = dict.fromkeys("abc", 0)
    left = dict.fromkeys("abc", len(costs))
    while all(left.values()):
        item = queue.pop(0.0)
        got[item.lane] += item.cost
        left[item.lane] -= 1
        assert max(got.values()) - min(got.values()) <= MOST_COST


def test_one_put_back_is_the_next() -> None:
    queue = filled(*"aabb")
    first = queue.pop(0.0)
    queue.put_back(first, 0.0)
    assert queue.pop(0.0) is first
    assert emptied(queue) == ["b", "a", "b"]


def test_one_put_back_is_the_next_whatever_it_costs() -> None:
    queue = filled(*"bb")
    item = Item("a", cost=MOST_COST)
    queue.put_back(item, 0.0)
    assert queue.pop(0.0) is item


def test_a_flooding_key_loses_its_newest_to_one_with_less_than_its_share() -> None:
    queue = filled(*"a" * 10, limit=10)
    for number in range(5):
        loser = queue.push(Item("b"), 10, 0.0)
        assert loser is not None
        assert (loser.lane, loser.number) == ("a", 9 - number)
    polite = Item("b")
    assert queue.push(polite, 10, 0.0) is polite
    flood = Item("a")
    assert queue.push(flood, 10, 0.0) is flood
    assert sorted(emptied(queue)) == ["a"] * 5 + ["b"] * 5


def test_keys_with_nearly_the_same_do_not_push_each_other_out() -> None:
    queue = filled(*"aaabb", limit=5)
    newcomer = Item("b")
    assert queue.push(newcomer, 5, 0.0) is newcomer


def test_without_room_for_any_all_are_refused() -> None:
    item = Item("a")
    assert HoldQueue[Item]().push(item, 0, 0.0) is item


def test_deadlines() -> None:
    queue: HoldQueue[Item] = HoldQueue()
    items = [Item("a", deadline=30.0), Item("b", deadline=10.0), Item("a", deadline=20.0)]
    for item in items:
        queue.push(item, 10, 0.0)
    assert queue.expired(9.9) == []
    assert queue.expired(10.0) == [items[1]]
    assert queue.expired(25.0) == [items[2]]
    assert emptied(queue) == ["a"]
    assert queue.expired(99.0) == []
    with pytest.raises(LookupError):
        queue.pop(0.0)


def test_how_fast_it_drains_is_measured_while_requests_wait() -> None:
    queue = filled(*"a" * 30)
    assert queue.drained_in(5.0) is None
    for second in range(1, 11):
        queue.pop(float(second))
    assert queue.drained_in(10.0) == pytest.approx(20.0)
    emptied(queue, 20.0)
    assert queue.drained_in(20.0) == 0.0
    queue.push(Item("a"), 10, 1000.0)
    # An hour without waiting requests does not make it slower.
    assert queue.drained_in(1000.0) == pytest.approx(20.0 / 30)


def test_what_was_long_ago_fades() -> None:
    queue = filled(*"a" * 1000)
    for _ in range(300):
        queue.pop(WINDOW_S)
    fast = queue.drained_in(WINDOW_S)
    slow = queue.drained_in(4 * WINDOW_S)
    assert fast is not None
    assert slow is not None
    assert slow > 3 * fast
    slower = queue.drained_in(8 * WINDOW_S)
    assert slower is not None
    assert slower > 5 * slow


def test_a_first_burst_is_no_rate() -> None:
    queue = filled(*"a" * 20)
    for _ in range(10):
        queue.pop(0.0001)
    assert queue.drained_in(0.0001) == pytest.approx(LEAST_SPAN_S)
    queue.measure_anew(50.0)
    assert queue.drained_in(50.0) is None


class Any(RuleBasedStateMachine):
    """Whatever is done in whatever order: each item is in one place, and keys keep their order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: HoldQueue[Item] = HoldQueue()
        self.inside: list[Item] = []
        self.out: list[Item] = []
        self.now = 0.0
        self.number = 0

    @rule(lane=st.sampled_from("abc"), cost=st.integers(1, MOST_COST), wait=st.floats(0, 50))
    def push(self, lane: str, cost: int, wait: float) -> None:
        self.number += 1
        item = Item(lane, cost, self.now + wait, self.number)
        before = {name: sum(i.lane == name for i in self.inside) for name in "abc"}
        loser = self.queue.push(item, 6, self.now)
        if loser is not None and loser is not item:
            assert before[loser.lane] == max(before.values()) >= before[lane] + 2
            assert loser is [i for i in self.inside if i.lane == loser.lane][-1]
            self.inside.remove(loser)
        assert (loser is not None) == (sum(before.values()) >= 6)
        if loser is not item:
            self.inside.append(item)

    @precondition(lambda self: self.inside)
    @rule()
    def pop(self) -> None:
        item = self.queue.pop(self.now)
        assert item is next(i for i in self.inside if i.lane == item.lane)
        self.inside.remove(item)
        self.out.append(item)

    @precondition(lambda self: self.out)
    @rule()
    def put_back(self) -> None:
        item = self.out.pop()
        self.queue.put_back(item, self.now)
        self.inside.insert(0, item)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.inside:
            item = data.draw(st.sampled_from(self.inside))
            assert self.queue.remove(item, self.now)
            self.inside.remove(item)
            assert not self.queue.remove(item, self.now)
            self.out.append(item)

    @rule(seconds=st.floats(0, 20))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        late = self.queue.expired(self.now)
        assert set(map(id, late)) == {id(i) for i in self.inside if i.deadline <= self.now}
        self.inside = [i for i in self.inside if i.deadline > self.now]

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.queue) == self.queue.size == len(self.inside)
        assert set(map(id, self.queue)) == set(map(id, self.inside))
        for lane in "abc":
            mine = [i.number for i in self.queue if i.lane == lane]
            assert mine == [i.number for i in self.inside if i.lane == lane]
        seconds = self.queue.drained_in(self.now)
        assert seconds is None or seconds >= 0.0


TestAny = Any.TestCase
