"""Sums over the last seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.policy.demand import Count, Span, add_span, largest, note_count, rate


@given(st.lists(st.floats(0.05, 20.0), min_size=1, max_size=80))
def test_a_constant_flow_has_its_rate_however_it_is_cut(gaps: list[float]) -> None:
    spans: tuple[Span, ...] = ()
    at = 0.0
    for gap in [60.0, *gaps]:
        spans = add_span(spans, at, at + gap, 3.0 * gap, 60.0)
        at += gap
    # Joined spans are a second long at most: at the edge of the window, no more than one of them is cut.
    assert rate(spans, at, 60.0) == pytest.approx(3.0, rel=1e-6)
    assert len(spans) <= 122


def test_what_is_older_than_the_window_is_gone() -> None:
    spans = add_span((), 0.0, 1.0, 50.0, 60.0)
    assert rate(spans, 1.0, 10.0) == 5.0
    assert rate(spans, 12.0, 10.0) == 0.0
    assert add_span(spans, 61.5, 62.5, 1.0, 60.0) == ((61.5, 62.5, 1.0),)


def test_the_largest_count_is_remembered_for_its_time() -> None:
    counts: tuple[Count, ...] = ()
    for second, count in enumerate([1, 7, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]):
        counts = note_count(counts, float(second), count, 5.0, 60.0)
    assert counts == ((0.0, 7), (5.0, 2), (10.0, 2))
    assert largest(counts, 11.0, 20.0) == 7
    assert largest(counts, 11.0, 6.0) == 2
    assert largest((), 0.0, 10.0) == 0
