"""What answers took: tokens, times and outcomes, counted for each as it ends, summed up for the next report.

``exchange`` calls ``count`` at the end of each request; ``usage_reports`` takes the sums. It must never cost a request
more than about a microsecond, so it only adds: minutes, histograms by the endpoint and reports come from the sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roost.gateway.request import CHAT
from roost.gateway.tokens import Tokens

if TYPE_CHECKING:
    from roost.gateway.exchange import Exchange

COMPLETED, CONTINUED, HUNG_UP, BROKEN_OFF = "completed", "continued", "client_hung_up", "broken_off"
REFUSED, FAILED = "refused", "failed"
OUTCOMES = (COMPLETED, CONTINUED, HUNG_UP, BROKEN_OFF, REFUSED, FAILED)
"""How requests end, of whatever an engine says: ``refused`` is the caller's side or a wait in vain, ``failed`` ours."""
_ANSWERED = frozenset((COMPLETED, CONTINUED, HUNG_UP, BROKEN_OFF))

Key = tuple[str, str, str | None, str | None, str]
"""Endpoint, its owner, replica, API key (its id), outcome."""
Sums = list[float]
"""In the order of ``domain.usage.UsageSums``."""
(
    REQUESTS,
    ESTIMATED,
    PROMPT,
    CACHED,
    COMPLETION,
    WASTED,
    FIRST_TOKENS,
    GAPS,
    FIRST_TOKEN_S,
    GAP_S,
    DURATION_S,
) = range(11)
_EMPTY: Sums = [0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0]

Counted = tuple[int | None, int | None, int | None]
"""Prompt, cached and completion tokens of an answer as they are known; None: unknown."""
UNKNOWN: Counted = (None, None, None)


class Usage:
    """The sums of one worker since they were last taken."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[Key, Sums] = {}

    def take(self) -> dict[Key, Sums]:
        """The sums so far, which begin anew."""
        sums, self._sums = self._sums, {}
        return sums

    def count(self, exchange: Exchange, status: int, outcome: str, seconds: float, now: float) -> Counted:
        """Count a request that has ended at ``now`` (loop time) after ``seconds``; its tokens, for the log."""
        if outcome not in _ANSWERED:
            outcome = FAILED if status >= 500 else REFUSED
        request, route, attempt = exchange.request, exchange.book.route, exchange.tried
        key = request.key
        names = (route.id, route.owner, exchange.where, key.id if key is not None else None, outcome)
        sums = self._sums.get(names)
        if sums is None:
            sums = self._sums[names] = _EMPTY.copy()
        sums[REQUESTS] += 1
        sums[DURATION_S] += seconds
        if exchange.deadline:
            began = attempt.sent_at if attempt is not None and attempt.sent_at else now
            exchange.gateway.meters.held(route.id, began - request.started)
        if exchange.wasted:
            sums[WASTED] += exchange.wasted
        if attempt is None or outcome is REFUSED or outcome is FAILED:
            return UNKNOWN
        tokens = attempt.tokens()
        if tokens is None:
            counted = self._estimate(exchange, sums)
        else:
            prompt, cached, completion = counted = tokens
            if exchange.carried:
                counted = _joined(tokens, exchange.carried)
                prompt, cached, completion = counted
            sums[PROMPT] += prompt
            sums[CACHED] += cached
            sums[COMPLETION] += completion
        if exchange.first is not None and exchange.adapted.stream:
            self._stream(exchange, sums, counted[2], now)
        if key is not None and key.metered:
            exchange.gateway.key_limits.spent(key.id, (counted[0] or 0) + (counted[2] or 0))
        return counted

    def _estimate(self, exchange: Exchange, sums: Sums) -> Counted:
        # Nobody told: the events of a stream that broke off are all there is to count.
        attempt = exchange.tried
        completion = exchange.carried + (attempt.generated() if attempt is not None else 0)
        sums[ESTIMATED] += 1
        sums[COMPLETION] += completion
        return None, None, completion

    def _stream(self, exchange: Exchange, sums: Sums, completion: int | None, now: float) -> None:
        began = exchange.first
        if began is None:
            return
        first = began - exchange.request.started
        sums[FIRST_TOKENS] += 1
        sums[FIRST_TOKEN_S] += first
        gap = None
        if completion is not None and completion > 1:
            sums[GAPS] += completion - 1
            sums[GAP_S] += now - began
            gap = (now - began) / (completion - 1)
        exchange.gateway.meters.stream(exchange.book.route.id, first, gap)


def _joined(last: Tokens, carried: int) -> Tokens:
    """The tokens of an answer whose last replica was given the ``carried`` tokens of those before it as prompt."""
    prompt, cached, completion = last
    prompt = max(0, prompt - carried)
    return prompt, min(cached, prompt), completion + carried


def without_role(events: int, kind: int) -> int:
    """How many of a stream's first events brought a token: those of chat begin with one that tells the role."""
    return max(0, events - 1) if kind == CHAT else events
