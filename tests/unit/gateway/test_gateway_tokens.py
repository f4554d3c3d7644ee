"""Reading the tokens of an answer from its bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.gateway.tokens import WINDOW, events_before_end, tokens_at_start, tokens_in

USAGE = {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46}
CACHED = {**USAGE, "prompt_tokens_details": {"cached_tokens": 5}}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (USAGE, (12, 0, 34)),
        (CACHED, (12, 5, 34)),
        ({**USAGE, "prompt_tokens_details": None}, (12, 0, 34)),
        (
            {"prompt_tokens": 12, "total_tokens": 46, "completion_tokens": 34, "prompt_tokens_details": None},
            (12, 0, 34),
        ),
        ({"completion_tokens": 34, "prompt_tokens": 12, "total_tokens": 46}, (12, 0, 34)),
        ({**CACHED, "completion_tokens_details": {"reasoning_tokens": 3}}, (12, 5, 34)),
        ({"prompt_tokens": 8, "total_tokens": 8}, (8, 0, 0)),
        ({"prompt_tokens": -1, "completion_tokens": 3}, None),
        ({"prompt_tokens": True, "completion_tokens": 3}, None),
        ({"prompt_tokens": "12", "completion_tokens": 3}, None),
        ({"prompt_tokens": 2**60, "completion_tokens": 3}, None),
        ({"prompt_tokens": 3, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}, (3, 3, 3)),
        ({}, None),
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_the_usage_of_an_answer(usage: Any, tokens: Any, separators: Any) -> None:
    for after in ({}, {"id": "x", "choices": []}):
        answer = {"choices": [{"text": 'he said "usage":{"prompt_tokens":1}'}], "usage": usage, **after}
        assert tokens_in(json.dumps(answer, separators=separators).encode()) == tokens


def test_a_stream_tells_it_in_one_of_its_last_events() -> None:
    ends = b'data: {"choices":[],"usage":%b}\n\ndata: [DONE]\n\n' % json.dumps(USAGE).encode()
    assert tokens_in(b'data: {"choices":[1],"usage":null}\n\n' + ends) == (12, 0, 34)
    assert tokens_in(ends + b'data: {"choices":[],"usage":null}\n\n') == (12, 0, 34)


def test_timings_tell_it_where_no_usage_was_asked_for() -> None:
    timings = {"cache_n": 7, "prompt_n": 5, "prompt_ms": 1.5, "predicted_n": 34, "predicted_ms": 4.25}
    assert tokens_in(json.dumps({"choices": [], "timings": timings}).encode()) == (12, 7, 34)
    assert tokens_in(b'{"timings":{"prompt_n":"5","predicted_n":4}}') is None
    assert tokens_in(b'{"timings":{"prompt_n":5}}') is None


def test_long_answers_that_are_no_text_begin_with_it() -> None:
    answer = b'{"usage":{"prompt_tokens":8,"total_tokens":8},"data":[%b]}' % (b"0," * WINDOW)
    assert tokens_in(answer) is None
    assert tokens_at_start(answer) == (8, 0, 0)


@given(st.binary(max_size=200), st.integers(0, 40))
def test_nothing_that_an_engine_sends_is_an_error(noise: bytes, cut: int) -> None:
    text = noise + b'"usage":' + json.dumps(CACHED).encode()[:cut] + noise + b'"timings":' + noise
    tokens_in(text)
    tokens_at_start(text)


def test_events_of_a_stream_that_broke_off_are_counted_from_its_last_ones() -> None:
    events = [b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"x" * (n % 5)) for n in range(100)]
    sent = sum(map(len, events))
    assert abs(events_before_end(sent, b"".join(events[-4:])) - 100) <= 5
    assert events_before_end(0, b"") == 0
