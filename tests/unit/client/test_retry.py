"""When the client repeats a request."""

from __future__ import annotations

import pytest

from roost.client.retry import backoff, delay_after_answer, delay_after_failure, retry_after


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_a_get_is_repeated_twice(status: int) -> None:
    delays = [delay_after_answer("GET", attempt, status, {}, 0.0) for attempt in range(3)]
    assert delays == [0.25, 0.5, None]


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404, 413])
def test_other_answers_are_final(status: int) -> None:
    assert delay_after_answer("GET", 0, status, {}, 0.0) is None


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_what_may_have_had_its_effect_is_not_repeated(method: str) -> None:
    assert delay_after_answer(method, 0, 503, {"retry-after": "1"}, 0.0) is None
    assert delay_after_failure(method, 0, sent=True, jitter=0.0) is None


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_what_was_never_sent_is_repeated(method: str) -> None:
    assert [delay_after_failure(method, n, sent=False, jitter=0.0) for n in range(3)] == [0.25, 0.5, None]


def test_the_server_names_the_delay() -> None:
    assert delay_after_answer("GET", 0, 429, {"retry-after": "7"}, 0.0) == 7.0
    assert delay_after_answer("GET", 0, 429, {"retry-after": "0"}, 0.0) == 0.0


def test_a_delay_that_nobody_waits_for_is_not_waited_for() -> None:
    assert delay_after_answer("GET", 0, 429, {"retry-after": "61"}, 0.0) is None


def test_the_server_may_decide() -> None:
    assert delay_after_answer("GET", 0, 503, {"x-should-retry": "false"}, 0.0) is None
    assert delay_after_answer("GET", 0, 400, {"x-should-retry": "true"}, 0.0) == 0.25


@pytest.mark.parametrize("text", ["", "soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "nan"])
def test_what_is_no_number_of_seconds_is_ignored(text: str) -> None:
    assert retry_after({"retry-after": text}) is None


def test_jitter_shortens_by_a_quarter_at_most() -> None:
    assert backoff(1, 0.0) == 0.5
    assert backoff(1, 1.0) == 0.375
