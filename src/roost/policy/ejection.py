"""Which replicas get no new requests for a while, because of how the last ones ended. Pure; called by the gateway.

A replica that cannot be reached or breaks connections is left out at once, one that answers with errors of its own
after some in a row, each time for twice as long. Then a single request decides (the circuit is half open): if it goes
well, all is forgotten. A replica that says it is full is no failure: it is asked again soon.
"""

from __future__ import annotations

from typing import NamedTuple

FIRST_S = 1.0
"""How long a replica is left out for its first failure; each further one doubles it ..."""
LONGEST_S = 30.0
"""... up to this."""
MOST_ERRORS = 3
"""Error answers in a row that make a replica one that fails: a single one may be the request's own fault."""
TRIAL_S = 1.0
"""While a request that decides has no answer yet, another one is sent after this long."""
FIRST_FULL_S = 0.25
"""A replica that is full is asked again after this long, if it does not say when; doubled each time in a row ..."""
LONGEST_FULL_S = 5.0
"""... up to this."""


class Standing(NamedTuple):
    """How a replica stands: its ``failures`` (connections), ``errors`` (answers), and ``refusals`` (as full) in a row,
    ``until`` when it gets nothing, and from when on it may (``resort_at``) if there is no sound one; loop times."""

    failures: int = 0
    errors: int = 0
    refusals: int = 0
    until: float = 0.0
    resort_at: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether it works, be it full or not."""
        return not self.failures and self.errors < MOST_ERRORS


GOOD = Standing()
"""A replica whose last request went well."""


def failed(standing: Standing, now: float) -> Standing:
    """It could not be reached, or a connection broke."""
    failures = standing.failures + 1
    pause = _pause(FIRST_S, failures, LONGEST_S)
    return standing._replace(failures=failures, until=now + pause, resort_at=now + FIRST_S)


def erred(standing: Standing, now: float) -> Standing:
    """It answered that it cannot."""
    errors = standing.errors + 1
    if errors < MOST_ERRORS:
        return standing._replace(errors=errors)
    # With no better one at hand its answers are better than none.
    return standing._replace(errors=errors, until=now + _pause(FIRST_S, errors - MOST_ERRORS + 1, LONGEST_S))


def full(standing: Standing, now: float, retry_after_s: float) -> Standing:
    """It answered that it has too much to do, and for how long (0: it did not say)."""
    refusals = standing.refusals + 1
    pause = max(_pause(FIRST_FULL_S, refusals, LONGEST_FULL_S), min(retry_after_s, LONGEST_FULL_S))
    return standing._replace(refusals=refusals, until=now + pause)


def tried(standing: Standing, now: float) -> Standing:
    """A request that decides is on its way to it."""
    if standing.until == 0.0:
        return standing
    later = now + TRIAL_S
    resort_at = later if standing.failures else standing.resort_at
    return standing._replace(until=max(standing.until, later), resort_at=resort_at)


def has_room(standing: Standing) -> Standing:
    """A request there has ended: it is no longer as full as it said."""
    return standing._replace(until=0.0) if standing.refusals and standing.sound else standing


def takes(standing: Standing, now: float) -> bool:
    """Whether it gets requests at ``now``."""
    return standing.until <= now


def takes_for_want_of_others(standing: Standing, now: float) -> bool:
    """Whether it gets requests at ``now`` where no replica is sound: nothing would be gained by leaving all out."""
    return standing.until <= now or (not standing.sound and standing.resort_at <= now)


def _pause(first: float, times: int, longest: float) -> float:
    return float(min(first * 2 ** min(times - 1, 16), longest))
