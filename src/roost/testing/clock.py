"""A clock and a source of identifiers that tests hold in their hands.

Pass ``FakeClock(...).now`` wherever a ``now()`` callable is asked for, and a ``SeededUuids`` as a ``UuidSource``. They
never look at the real time or the real randomness, so a run repeats exactly.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

START = datetime(2026, 1, 1, tzinfo=UTC)
"""When fake clocks and the builders' objects begin."""


class FakeClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, start: datetime = START) -> None:
        """Raises ``ValueError`` when ``start`` has no time zone."""
        if start.tzinfo is None:
            raise ValueError("a clock's time needs a time zone")
        self._now = start

    def now(self) -> datetime:
        """The time it shows."""
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move by ``by`` (backwards when negative, as a machine's clock may) and return the new time."""
        self._now += by
        return self._now


class SeededUuids:
    """A ``UuidSource`` whose identifiers are random-looking, distinct, and the same for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        """Equal seeds give equal sequences."""
        self._random = random.Random(seed)

    def __call__(self) -> UUID:
        """The next identifier, a version 4 UUID."""
        return UUID(int=self._random.getrandbits(128), version=4)
