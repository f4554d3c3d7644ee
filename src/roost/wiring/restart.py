"""When a dead child of ``roost serve`` is started again.

Pure; ``wiring.child`` obeys it. It never gives up: a server that serves is worth more than one that is down.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Exponential backoff in seconds: the first restart after ``first_s``, then ``factor`` times longer each time, at
    most ``longest_s``. A run of at least ``stable_s`` makes earlier deaths forgotten."""

    first_s: float = 0.1
    factor: float = 3.0
    longest_s: float = 30.0
    stable_s: float = 60.0

    def deaths(self, before: int, ran_s: float) -> int:
        """Deaths in a row, after one more at the end of a run of ``ran_s`` seconds with ``before`` deaths ahead."""
        return 1 if ran_s >= self.stable_s else before + 1

    def delay_s(self, deaths: int) -> float:
        """Seconds to wait after the given number of deaths in a row (at least one)."""
        # Bounded exponent: after a thousand deaths the power would overflow.
        return min(self.longest_s, self.first_s * self.factor ** min(deaths - 1, 64))
