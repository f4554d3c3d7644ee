"""Which replica takes a request. Pure; called by the gateway.

The measure is the expected time to the first token, in prompt tokens that the replica has to compute before it: those
of requests ahead, and what of this prompt the replica has not computed already (``policy.prefix``). What the replica
has to forget for it counts as well, since that is computed again when it is asked for. How fast a replica computes is
left out: replicas of an endpoint are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from roost.policy.prefix import BLOCK_TOKENS, NO_PROMPT, PrefixIndex, Prompt

EXPECTED_TTFT, LEAST_IN_FLIGHT = "expected-ttft", "least-in-flight"
POLICIES = (EXPECTED_TTFT, LEAST_IN_FLIGHT)
"""What a gateway may be told to balance by; the first is the default."""
IN_FLIGHT_TOKENS = 64
"""What a request in flight counts beside its own prompt, in prompt tokens: its decoding slows down prefilling."""
SLOW_START_S = 30.0
"""A new replica counts as slower for so long ..."""
SLOW_START_SPEED = 0.25
"""... from this share of the usual speed on: the first requests warm it up."""
ONLY, LEAST_OUTSTANDING = "only", "least-outstanding"


class Candidate(Protocol):
    """A replica that takes requests, as the gateway's books have it."""

    @property
    def in_flight(self) -> int:
        """Requests sent there and not ended."""
        ...

    @property
    def outstanding_tokens(self) -> int:
        """Prompt tokens still to compute: ``Choice.uncached_tokens`` of the requests without a first byte, summed."""
        ...

    @property
    def slots(self) -> int | None:
        """Requests it works on at once; None: no limit."""
        ...

    @property
    def ready_at(self) -> float:
        """Since when it takes requests, in seconds of the clock of ``now``; long ago for one older than the gateway."""
        ...

    @property
    def prefix(self) -> PrefixIndex:
        """The blocks it holds."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """The index of the replica that takes the request, and why: ``only``, ``prefix 83%``, ``least-outstanding`` or
    ``least-in-flight``. ``uncached_tokens``: prompt tokens that it has to compute; ``cached_share``: of all, 0 to 1."""

    index: int
    reason: str
    uncached_tokens: int
    cached_share: float


def choose(
    candidates: Sequence[Candidate],
    prompt: Prompt = NO_PROMPT,
    *,
    now: float,
    turn: int,
    policy: str = EXPECTED_TTFT,
) -> Choice | None:
    """The replica for a request; None when every one is at its slots, or there is none: the request waits.

    Ties go round by ``turn`` (any integer that rises from pick to pick, or a random one). Changes nothing: once the
    request is on its way, the caller adds to the chosen one's books, its index included.
    """
    able = [i for i, each in enumerate(candidates) if each.slots is None or each.in_flight < each.slots]
    if not able:
        return None
    if policy == LEAST_IN_FLIGHT:
        at = able[least_in_flight([candidates[i].in_flight for i in able], turn)]
        reason = LEAST_IN_FLIGHT
    elif len(able) == 1:
        at, reason = able[0], ONLY
    else:
        return _soonest(candidates, able, prompt, now, turn)
    return _choice(at, ONLY if len(able) == 1 else reason, prompt, candidates[at].prefix.match(prompt.blocks))


def _soonest(candidates: Sequence[Candidate], able: Sequence[int], prompt: Prompt, now: float, turn: int) -> Choice:
    blocks, tokens = prompt
    count = len(able)
    start = turn % count
    best, best_cost, best_held, least_held = -1, 0.0, 0, len(blocks)
    for step in range(count):
        index = able[(start + step) % count]
        each = candidates[index]
        held = each.prefix.match(blocks) if blocks else 0
        cost: float = each.outstanding_tokens + tokens - held * BLOCK_TOKENS
        age = now - each.ready_at
        if age < SLOW_START_S:
            cost /= SLOW_START_SPEED + (1.0 - SLOW_START_SPEED) * max(age, 0.0) / SLOW_START_S
        cost += IN_FLIGHT_TOKENS * each.in_flight
        if blocks:
            cost += BLOCK_TOKENS * each.prefix.displaced(blocks, held)
        if best < 0 or cost < best_cost:
            best, best_cost, best_held = index, cost, held
        if held < least_held:
            least_held = held
    # What every replica holds, like a system prompt that all conversations share, decides nothing.
    if best_held > least_held:
        return _choice(best, None, prompt, best_held)
    return _choice(best, LEAST_OUTSTANDING, prompt, best_held)


def _choice(index: int, reason: str | None, prompt: Prompt, held: int) -> Choice:
    if not held:
        return Choice(index, reason or LEAST_OUTSTANDING, prompt.tokens, 0.0)
    uncached = prompt.tokens - held * BLOCK_TOKENS
    share = 1.0 - uncached / prompt.tokens
    return Choice(index, reason or f"prefix {share:.0%}", uncached, share)


def least_in_flight(loads: Sequence[int], turn: int) -> int:
    """The index of the smallest of ``loads`` (requests in flight, one entry per candidate, at least one).

    Ties go round: ``turn`` (any integer that rises from pick to pick, or a random one) chooses among the equal ones.
    Raises ``ValueError`` when there is no candidate.
    """
    least = min(loads)
    if len(loads) == 1:
        return 0
    equal = [index for index, load in enumerate(loads) if load == least]
    return equal[turn % len(equal)]
