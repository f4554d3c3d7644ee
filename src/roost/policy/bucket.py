"""A budget per minute, and what was used of it: pure. Called by ``gateway.key_limits``.

A token bucket, told by what is used instead of what is left: an amount that is used drains evenly, a whole budget in a
minute. So a burst may take the budget of a whole minute at once, as with hosted services, the long-term average
never exceeds the budget, and who was refused knows the moment at which one more fits: the state is one number, and
nothing has to leave a window first. What turns out to be used only afterwards (tokens of an answer) may exceed the
budget: the excess has to drain before anything more fits.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE_S = 60.0
_ROUNDING = 1e-6
"""Of one request or token: sums of floating-point numbers must not keep anybody out."""


@dataclass(slots=True)
class Bucket:
    """What is ``used`` of a budget at the time ``at`` (seconds of any clock that never goes back)."""

    used: float = 0.0
    at: float = 0.0

    def level(self, budget: int, now: float) -> float:
        """What is still used at ``now``."""
        return max(0.0, self.used - budget * (now - self.at) / MINUTE_S)

    def take(self, budget: int, amount: float, now: float) -> None:
        """Use ``amount``, whether it fits or not; a negative one gives back."""
        self.used = max(0.0, self.level(budget, now) + amount)
        self.at = now

    def take_if_fits(self, budget: int, now: float) -> bool:
        """Use one if ``wait`` is 0, and tell whether it was: both at once, since every request asks."""
        used = self.used - budget * (now - self.at) / MINUTE_S
        if used < 0.0:
            used = 0.0
        if used + 1.0 - budget > _ROUNDING:
            return False
        self.used = used + 1.0
        self.at = now
        return True

    def fits(self, budget: int, now: float) -> bool:
        """Whether ``wait`` is 0."""
        # What fits into what was used last fits the more now that some has drained.
        return self.used + 1.0 - budget <= _ROUNDING or not self.wait(budget, now)

    def wait(self, budget: int, now: float) -> float:
        """Seconds until one more fits; 0 when it does."""
        excess = self.level(budget, now) + 1.0 - budget
        return excess * MINUTE_S / budget if excess > _ROUNDING else 0.0
