"""Backoff: how long to wait before the next attempt after consecutive failures. Pure; called by ``plan`` and by the
parent process."""

from __future__ import annotations

from datetime import timedelta

BASE = timedelta(seconds=1)
CAP = timedelta(seconds=60)
SPREAD = 0.2
"""The wait is spread by up to this share either way, so that many endpoints do not come back in step."""


def delay(failures: int, jitter: float, *, base: timedelta = BASE, cap: timedelta = CAP) -> timedelta:
    """The wait after ``failures`` consecutive failures: none after the first (most failures are single), then ``base``
    doubling up to ``cap``, spread by ``jitter`` (0 to 1; 0.5 is the middle)."""
    if failures <= 1:
        return timedelta(0)
    doublings = min(failures - 2, 30)
    middle = min(base * (1 << doublings), cap)
    return middle * (1 - SPREAD + 2 * SPREAD * jitter)
