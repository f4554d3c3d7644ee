"""From exits to failures."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.domain.replica import ExitInfo
from roost.engines.exits import crash, match, rule

RULES = (
    rule("memory", "out_of_memory", "No memory", "Buy some.", retryable=True),
    rule("bad", "bad_file", "A bad file"),
)


def test_the_first_line_that_explains_decides() -> None:
    failure = match(("hello", "bad magic", "out of memory"), RULES)
    assert failure is not None
    assert (failure.code, failure.retryable, failure.hint) == ("bad_file", False, None)
    assert failure.message == "A bad file: bad magic"
    assert failure.log_tail == ("hello", "bad magic", "out of memory")


def test_of_several_rules_for_a_line_the_first_counts() -> None:
    failure = match(("bad memory",), RULES)
    assert failure is not None
    assert (failure.code, failure.retryable, failure.hint) == ("out_of_memory", True, "Buy some.")


def test_nothing_is_guessed() -> None:
    assert match(("hello",), RULES) is None
    assert match((), RULES) is None


@pytest.mark.parametrize(
    ("exit", "code", "words", "retryable"),
    [
        (ExitInfo(signal=9), "engine_killed", "SIGKILL", True),
        (ExitInfo(signal=11), "engine_crashed", "SIGSEGV", True),
        (ExitInfo(signal=4), "engine_crashed", "processor", True),
        (ExitInfo(signal=200), "engine_crashed", "signal 200", True),
        (ExitInfo(code=3), "engine_crashed", "status 3", True),
        (ExitInfo(), "engine_crashed", "unknown", True),
        (ExitInfo(cause="cannot execute /x: No such file"), "cannot_execute", "/x", False),
        (ExitInfo(signal=9, cause="killed: it did not end within 10 s of TERM"), "runtime_failure", "TERM", True),
    ],
)
def test_an_end_without_an_explaining_line(exit: ExitInfo, code: str, words: str, retryable: bool) -> None:
    failure = crash(exit)
    assert (failure.code, failure.retryable) == (code, retryable)
    assert words in failure.message


@given(st.one_of(st.none(), st.integers()), st.one_of(st.none(), st.integers()), st.lists(st.text(), max_size=3))
def test_every_end_is_told_in_a_sentence(code: int | None, number: int | None, tail: list[str]) -> None:
    failure = crash(ExitInfo(code=code, signal=number, log_tail=tuple(tail)))
    assert failure.message
    assert failure.log_tail == tuple(tail)
    assert (failure.code == "engine_killed") == (number == signal.SIGKILL)
