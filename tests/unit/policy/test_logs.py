"""Which replicas' output is shown, and what of it is new."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.domain.log import ReplicaLog
from roost.policy.logs import GAP, chosen, fresh

OLD = ReplicaLog("old", ("a",), ended=True)
LAST = ReplicaLog("last", ("b",), ended=True)
RUNS = ReplicaLog("runs", ("c",))


@pytest.mark.parametrize(
    ("logs", "replica", "expected"),
    [
        ([OLD, LAST, RUNS], None, [RUNS]),
        ([OLD, LAST], None, [LAST]),
        ([], None, []),
        ([OLD, LAST, RUNS], "old", [OLD]),
        ([OLD, LAST, RUNS], "other", []),
    ],
)
def test_those_that_run_are_shown_else_the_last_that_ended(
    logs: list[ReplicaLog], replica: str | None, expected: list[ReplicaLog]
) -> None:
    assert chosen(logs, replica) == expected


@pytest.mark.parametrize(
    ("shown", "now", "expected"),
    [
        ("", "abc", "abc"),
        ("abc", "abc", ""),
        ("abc", "abcd", "d"),
        ("abc", "bcde", "de"),
        ("aaa", "aaab", "b"),
        ("abc", "", ""),
    ],
)
def test_what_follows_the_overlap_is_new(shown: str, now: str, expected: str) -> None:
    assert list(fresh(tuple(shown), tuple(now))) == list(expected)


def test_a_line_that_has_grown_is_told_again() -> None:
    assert list(fresh(("one", "tw"), ("one", "two", "three"))) == ["two", "three"]


def test_lines_that_are_lost_leave_a_mark() -> None:
    assert list(fresh(("one", "two"), ("eight", "nine"))) == [GAP, "eight", "nine"]


@given(st.lists(st.integers(), unique=True, max_size=30), st.integers(1, 12), st.integers(0, 12))
def test_a_window_over_lines_that_differ_loses_none(numbers: list[int], window: int, step: int) -> None:
    """No line is the beginning of another, and no more than the window holds come between two looks."""
    lines = [f"{number}." for number in numbers]
    told: list[str] = []
    shown: tuple[str, ...] = ()
    for end in range(0, len(lines) + 1, max(1, min(step, window - 1))):
        now = tuple(lines[max(0, end - window) : end])
        told += fresh(shown, now)
        shown = now
    if window > 1:
        assert told == lines[: len(told)]
