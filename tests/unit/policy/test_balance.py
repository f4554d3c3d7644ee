"""Picking the replica of a request."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.policy.balance import (
    EXPECTED_TTFT,
    LEAST_IN_FLIGHT,
    LEAST_OUTSTANDING,
    ONLY,
    POLICIES,
    SLOW_START_S,
    choose,
    least_in_flight,
)
from roost.policy.prefix import BLOCK_BYTES, BLOCK_TOKENS, PrefixIndex, Prompt, WholePromptIndex, prompt_of_text

LOADS = st.lists(st.integers(0, 50), min_size=1, max_size=20)
NOW = 1000.0
PROMPT = prompt_of_text(bytes(range(256)) * BLOCK_BYTES)


@dataclass
class Replica:
    in_flight: int = 0
    outstanding_tokens: int = 0
    slots: int | None = None
    ready_at: float = 0.0
    prefix: PrefixIndex = field(default_factory=lambda: PrefixIndex(10**6))


def holding(share: float, in_flight: int = 0, outstanding_tokens: int = 0) -> Replica:
    replica = Replica(in_flight, outstanding_tokens)
    replica.prefix.insert(PROMPT.blocks[: int(len(PROMPT.blocks) * share)])
    return replica


REPLICAS = st.lists(
    st.builds(
        Replica,
        in_flight=st.integers(0, 9),
        outstanding_tokens=st.integers(0, 10**5),
        slots=st.none() | st.integers(1, 9),
        ready_at=st.floats(0.0, NOW),
    ),
    max_size=9,
)
POLICY = st.sampled_from(POLICIES)


@given(REPLICAS, POLICY, st.integers())
def test_a_replica_at_its_slots_gets_nothing_and_others_do(replicas: list[Replica], policy: str, turn: int) -> None:
    able = [each for each in replicas if each.slots is None or each.in_flight < each.slots]
    choice = choose(replicas, PROMPT, now=NOW, turn=turn, policy=policy)
    assert (choice is None) == (not able)
    if choice is not None:
        assert replicas[choice.index] in able
        assert (choice.reason == ONLY) == (len(able) == 1)


@given(REPLICAS, st.integers())
def test_without_prefixes_no_older_replica_has_less_of_everything(replicas: list[Replica], turn: int) -> None:
    choice = choose(replicas, PROMPT, now=NOW + SLOW_START_S, turn=turn)
    if choice is not None:
        chosen = replicas[choice.index]
        assert not any(
            each.outstanding_tokens < chosen.outstanding_tokens
            and each.in_flight <= chosen.in_flight
            and (each.slots is None or each.in_flight < each.slots)
            for each in replicas
        )
        assert (choice.uncached_tokens, choice.cached_share) == (PROMPT.tokens, 0.0)


def test_the_one_that_holds_the_prefix_is_chosen_and_the_reason_says_how_much() -> None:
    choice = choose([Replica(), holding(0.75, outstanding_tokens=100, in_flight=1)], PROMPT, now=NOW, turn=0)
    assert choice is not None
    assert (choice.index, choice.reason) == (1, "prefix 75%")
    assert choice.cached_share == pytest.approx(0.75)
    assert choice.uncached_tokens == PROMPT.tokens // 4


def test_a_prefix_does_not_outweigh_a_longer_queue() -> None:
    choice = choose([Replica(), holding(0.5, outstanding_tokens=PROMPT.tokens)], PROMPT, now=NOW, turn=0)
    assert choice is not None
    assert (choice.index, choice.reason) == (0, LEAST_OUTSTANDING)


def test_what_all_hold_decides_nothing() -> None:
    choice = choose([holding(0.5, outstanding_tokens=9), holding(0.5)], PROMPT, now=NOW, turn=0)
    assert choice is not None
    assert (choice.index, choice.reason) == (1, LEAST_OUTSTANDING)
    assert choice.cached_share == pytest.approx(0.5)


def test_requests_in_flight_count_when_nothing_waits_for_prefill() -> None:
    choice = choose([Replica(in_flight=2), Replica(in_flight=1)], now=NOW, turn=0)
    assert choice is not None
    assert choice.index == 1


def test_a_new_replica_gets_less_but_is_not_left_out() -> None:
    def share_of_new(age_s: float) -> float:
        replicas = [Replica(), Replica(ready_at=NOW - age_s)]
        for turn in range(200):
            choice = choose(replicas, prompt_of_text(b"x" * 4000), now=NOW, turn=turn)
            assert choice is not None
            replicas[choice.index].outstanding_tokens += 1000
        return replicas[1].outstanding_tokens / 200_000

    shares = [share_of_new(age) for age in (0.0, SLOW_START_S / 2, SLOW_START_S)]
    assert 0.1 < shares[0] < shares[1] < shares[2] == 0.5


@given(st.integers(2, 9), POLICY)
def test_equal_ones_take_turns(count: int, policy: str) -> None:
    replicas = [Replica() for _ in range(count)]
    choices = [choose(replicas, now=NOW, turn=turn, policy=policy) for turn in range(count)]
    assert len({each.index for each in choices if each is not None}) == count


def test_the_simple_policy_looks_at_nothing_else() -> None:
    replicas = [Replica(in_flight=1, ready_at=NOW), holding(1.0, in_flight=2)]
    choice = choose(replicas, PROMPT, now=NOW, turn=0, policy=LEAST_IN_FLIGHT)
    assert choice is not None
    assert (choice.index, choice.reason) == (0, LEAST_IN_FLIGHT)
    chosen = choose(replicas, PROMPT, now=NOW, turn=0, policy=EXPECTED_TTFT)
    assert chosen is not None
    assert chosen.index == 1


@given(LOADS, st.integers())
def test_the_pick_has_the_least(loads: list[int], turn: int) -> None:
    assert loads[least_in_flight(loads, turn)] == min(loads)


@given(LOADS)
def test_ties_go_round(loads: list[int]) -> None:
    equal = loads.count(min(loads))
    assert len({least_in_flight(loads, turn) for turn in range(equal)}) == equal


def test_nobody_to_pick() -> None:
    with pytest.raises(ValueError, match="empty"):
        least_in_flight([], 0)


def test_what_would_have_to_be_forgotten_counts() -> None:
    full, empty = Replica(prefix=PrefixIndex(100 * BLOCK_TOKENS)), Replica(prefix=PrefixIndex(100 * BLOCK_TOKENS))
    full.prefix.insert(range(100))
    for turn in range(2):
        choice = choose([full, empty], PROMPT, now=NOW, turn=turn)
        assert choice is not None
        assert choice.index == 1


def test_a_common_beginning_does_not_draw_everyone_to_a_replica_that_has_no_room_left() -> None:
    """Conversations with one long beginning, one after the other: a second replica takes what the first cannot keep."""
    common = list(range(8))
    replicas = [Replica(prefix=WholePromptIndex(50 * BLOCK_TOKENS)) for _ in range(2)]
    taken = [0, 0]
    for talk in range(8):
        blocks = [*common, 100 * talk + 100, 100 * talk + 101]
        choice = choose(replicas, Prompt(blocks, len(blocks) * BLOCK_TOKENS), now=NOW, turn=talk)
        assert choice is not None
        replicas[choice.index].prefix.insert(blocks)
        taken[choice.index] += 1
    assert sorted(taken) == [3, 5]
