"""When the client repeats a request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.client.retry import (
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    LONGEST_RETRY_AFTER_S,
    Attempt,
    backoff,
    delay_after_answer,
    delay_after_failure,
    retry_after,
)


def attempt(number: int = 0, *, limit: int = 2, repeatable: bool = True) -> Attempt:
    return Attempt(number, limit, repeatable)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_what_is_repeatable_is_repeated_as_often_as_allowed(status: int) -> None:
    assert [delay_after_answer(attempt(n), status, {}) for n in range(3)] == [0.25, 0.5, None]
    assert delay_after_answer(attempt(limit=0), status, {}) is None


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404, 413])
def test_other_answers_are_final(status: int) -> None:
    assert delay_after_answer(attempt(), status, {}) is None


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503])
def test_what_may_have_had_its_effect_is_not_repeated(status: int) -> None:
    assert delay_after_answer(attempt(repeatable=False), status, {"retry-after": "1"}) is None
    assert delay_after_failure(attempt(repeatable=False), sent=True) is None


def test_what_had_no_effect_is_repeated() -> None:
    once = attempt(repeatable=False)
    assert delay_after_answer(once, 429, {}) == 0.25
    assert delay_after_answer(once, 503, {"x-should-retry": "true"}) == 0.25
    assert delay_after_failure(once, sent=False) == 0.25


@pytest.mark.parametrize("repeatable", [True, False])
def test_what_was_never_sent_is_repeated(repeatable: bool) -> None:
    delays = [delay_after_failure(attempt(n, repeatable=repeatable), sent=False) for n in range(3)]
    assert delays == [0.25, 0.5, None]


def test_the_server_names_the_delay() -> None:
    assert delay_after_answer(attempt(), 429, {"retry-after": "7"}) == 7.0
    assert delay_after_answer(attempt(), 429, {"retry-after": "0"}) == 0.0


def test_a_delay_that_nobody_waits_for_is_not_waited_for() -> None:
    assert delay_after_answer(attempt(), 429, {"retry-after": "61"}) is None


def test_the_server_may_decide() -> None:
    assert delay_after_answer(attempt(), 503, {"x-should-retry": "false"}) is None
    assert delay_after_answer(attempt(), 400, {"x-should-retry": "true"}) == 0.25


@pytest.mark.parametrize("text", ["", "soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "nan"])
def test_what_is_no_number_of_seconds_is_ignored(text: str) -> None:
    assert retry_after({"retry-after": text}) is None


def test_jitter_shortens_by_a_quarter_at_most() -> None:
    assert backoff(1, 0.0) == 0.5
    assert backoff(1, 1.0) == 0.375


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "retry-after": st.one_of(st.floats(-10, 1e6).map(str), st.text(max_size=5)),
        "x-should-retry": st.sampled_from(["true", "false", ""]),
    },
)


@given(st.integers(0, 50), st.integers(0, 50), st.booleans(), st.floats(0, 1, exclude_max=True), st.data())
def test_every_request_ends_and_no_delay_is_long(
    number: int, limit: int, repeatable: bool, jitter: float, data: st.DataObject
) -> None:
    now = Attempt(number, limit, repeatable, jitter)
    status, headers = data.draw(st.integers(200, 599)), data.draw(HEADERS)
    failed = delay_after_failure(now, sent=data.draw(st.booleans()))
    for delay in (delay_after_answer(now, status, headers), failed):
        if delay is not None:
            assert number < limit
            assert 0 <= delay <= LONGEST_RETRY_AFTER_S
    if failed is not None:
        assert FIRST_DELAY_S * 0.75 <= failed <= LONGEST_DELAY_S
    if headers.get("x-should-retry") == "false" or status < 300:
        assert delay_after_answer(now, status, headers) is None
