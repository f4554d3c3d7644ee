"""Sums over the last seconds, as values: spans of arriving work, and counts with the time they were seen. Pure.

Called by ``policy.autoscale``. Times are seconds of any clock; a state holds at most a minute of spans.
"""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[float, float, float]
"""Begin, end, and the amount that arrived between them."""
Count = tuple[float, int]
"""When, and how many."""


def add_span(spans: Sequence[Span], begin: float, end: float, amount: float, keep_s: float) -> tuple[Span, ...]:
    """The spans with one more, without those that ended ``keep_s`` ago. Short ones are joined to at least a second."""
    kept = tuple(span for span in spans if span[1] > end - keep_s)
    if kept and end - kept[-1][0] <= 1.0:
        last = kept[-1]
        return (*kept[:-1], (last[0], end, last[2] + amount))
    return (*kept, (begin, end, amount))


def rate(spans: Sequence[Span], now: float, seconds: float) -> float:
    """The amount a second over the last ``seconds``; what came before the first span counts as nothing."""
    since = now - seconds
    total = 0.0
    for begin, end, amount in spans:
        if begin >= since:
            total += amount
        elif end > since:
            total += amount * (end - since) / (end - begin)
    return total / seconds


def note_count(counts: Sequence[Count], now: float, count: int, grain_s: float, keep_s: float) -> tuple[Count, ...]:
    """The largest counts by grains of ``grain_s`` seconds, of the last ``keep_s``; a grain's time is its first."""
    if counts and now - counts[-1][0] < grain_s:
        last = counts[-1]
        if count <= last[1]:
            return tuple(counts)
        return (*counts[:-1], (last[0], count))
    return (*(each for each in counts if each[0] > now - keep_s), (now, count))


def largest(counts: Sequence[Count], now: float, seconds: float) -> int:
    """The largest count of the last ``seconds``; 0 when there is none."""
    return max((count for at, count in counts if at > now - seconds), default=0)
