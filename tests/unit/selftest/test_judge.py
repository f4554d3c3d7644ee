"""What the self-test takes for a right answer."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.selftest.faults import GATEWAY_KILLED, Injected
from roost.selftest.report import Report
from roost.selftest.work import Ask, Break, Engine, Seen, Verdict, echo_ask, judge, model_ask

ASK = Ask(7, Engine.ECHO, True, "7.0 7.1 7.2", 3)
USAGE = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}


def seen(**over: Any) -> Seen:
    fields = {"status": 200, "done": True, "finish": "length", "pieces": ["7.0", " 7.1", " 7.2"], "usage": USAGE}
    return Seen(ASK, **{**fields, **over})


def test_all_of_it_in_order_is_right() -> None:
    assert judge(seen()) == (Verdict.RIGHT, "")


@pytest.mark.parametrize(
    ("over", "verdict"),
    [
        ({"pieces": [], "failure": "ConnectError"}, Verdict.LOST),
        ({"status": 503, "pieces": [], "failure": "status 503"}, Verdict.LOST),
        ({"failure": "error frame: The engine failed."}, Verdict.TRUNCATED),
        ({"finish": None}, Verdict.TRUNCATED),
        ({"done": False}, Verdict.TRUNCATED),
        ({"pieces": ["7.0", " 7.1"]}, Verdict.TRUNCATED),
        ({"pieces": ["7.0", " 7.2"]}, Verdict.TRUNCATED),
        ({"pieces": ["7.0", " 7.1", " 7.1", " 7.2"]}, Verdict.DUPLICATED),
        ({"pieces": ["7.0", " 7.1", " 8.2"]}, Verdict.WRONG),
        ({"pieces": ["7.1", " 7.0", " 7.2"]}, Verdict.WRONG),
        ({"usage": None}, Verdict.WRONG),
        ({"usage": {**USAGE, "completion_tokens": 4}}, Verdict.WRONG),
        ({"usage": {**USAGE, "total_tokens": 7}}, Verdict.WRONG),
        ({"left": True, "pieces": ["7.0"], "done": False, "finish": None}, Verdict.LEFT),
    ],
)
def test_what_is_not(over: dict[str, Any], verdict: Verdict) -> None:
    assert judge(seen(**over))[0] is verdict


@given(st.integers(0, 10**6), st.integers(0, 2**32))
def test_no_two_words_of_a_prompt_are_the_same(number: int, seed: int) -> None:
    ask = echo_ask(number, Random(seed))
    words = ask.prompt.split()
    assert len(set(words)) == len(words) == ask.tokens
    assert ask.hang_up_after is None or (ask.stream and 1 <= ask.hang_up_after <= ask.tokens)
    assert ask.body("e").get("stream", False) is ask.stream


def test_the_models_answers_are_as_long_as_was_asked() -> None:
    ask = model_ask(3, Random(0))
    usage = {"prompt_tokens": 30, "completion_tokens": 64, "total_tokens": 94}
    whole = Seen(ask, 200, done=True, finish="length", pieces=["Rain is"], usage=usage)
    assert judge(whole)[0] is Verdict.RIGHT
    assert judge(Seen(ask, 200, done=True, finish="length", pieces=["Rain"], usage={**usage, "completion_tokens": 9}))[
        0
    ] is (Verdict.WRONG)


def test_a_report_passes_only_when_nothing_went_wrong() -> None:
    assert not Report().passed, "nothing was asked"
    report = reported(seen())
    assert report.passed
    report = reported(seen(), seen(pieces=["7.0"]))
    assert not report.passed
    assert report.failed == 1
    assert "truncated: None (stream, None): 1 of 3 words" in report.examples


def reported(*answers: Seen, faults: tuple[Injected, ...] = ()) -> Report:
    report = Report()
    for answer in answers:
        report.saw(answer)
    report.faulted(faults, [])
    return report


def test_connections_break_for_a_reason_only() -> None:
    broken = seen(repeats=1, broken=[Break(101.0, "selftest-echo-7-0", "ReadError")])
    assert reported(broken, faults=(Injected(1.0, 100.5, GATEWAY_KILLED, "gateway-0"),)).passed
    other = reported(broken, faults=(Injected(1.0, 100.5, "replica killed", "echo"),))
    assert ([each.request_id for each in other.unexplained], other.passed) == (["selftest-echo-7-0"], False)
    later = reported(broken, faults=(Injected(9.0, 102.0, GATEWAY_KILLED, "gateway-0"),))
    assert not later.passed, "it broke before the worker was killed"


def test_trouble_with_the_faults_is_no_success() -> None:
    report = Report()
    report.saw(seen())
    report.faulted([], ["replica killed: echo has no replica to do it to"])
    assert not report.passed
