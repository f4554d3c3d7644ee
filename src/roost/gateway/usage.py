"""What answers took: tokens, times and outcomes, noted for each as it ends, counted and logged for many at once.

``exchange`` notes the end of each request; ``gateway`` takes the sums for its reports. It must never cost a request
more than about a microsecond at its end: counting many in one go costs each a third of what it would alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roost.gateway import counters
from roost.gateway.access_log import Counted, Place, written
from roost.gateway.request import CHAT, Kind, Request
from roost.gateway.tokens import Tokens, tokens_at_start, tokens_in

if TYPE_CHECKING:
    from roost.gateway.books import EndpointBook
    from roost.gateway.gateway import Gateway

MOST_NOTED = 64
"""Requests that have ended before they are counted, if that does not happen once a second: they fit into caches, and
nobody waits long while they are counted."""

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

UNKNOWN: Counted = (None, None, None)


Told = Tokens | bytes | int | None
"""An answer's tokens, or all of its bytes, in which they are yet to be found, or about how many it has had; None where
no replica has taken the request."""
BYTES_OF_TOKEN = 4
"""Of a request's body, where nobody told how many tokens its prompt has ..."""
UNKNOWN_CONTEXT = 131_072
"""... which are as many as fit into the context at most, or so many where that is unknown: a body may hold images."""
Ended = tuple[
    float,
    Request,
    int,
    int,
    str,
    "EndpointBook",
    str | None,
    float | None,
    int,
    int,
    int,
    int,
    float | None,
    bool,
    Told,
]
"""A request that has ended: when (loop time), status (499: the client hung up), the status that it would have had if
none had gone out before, the outcome, the endpoint, the replica that was tried last, the loop time of its first byte,
bytes sent, tries, tokens that no client got, tokens of tries before the last, seconds for which it was held (None: it
was not), whether it is a stream, and what was told of its tokens."""


class _Alike:
    """Requests that ended alike: their ``sums``, the part of the log's lines that they share (``place``), and the
    ``seconds`` of those that are being counted."""

    __slots__ = ("answered", "kind", "place", "seconds", "status", "sums")

    def __init__(self, sums: Sums, kind: Kind, status: int, place: bytes, *, answered: bool) -> None:
        self.sums = sums
        self.kind = kind
        self.status = status
        self.place = place
        self.answered = answered
        self.seconds: list[float] = []


class Usage:
    """The sums of one worker since they were last taken. ``noted`` is what is not in them yet."""

    __slots__ = ("_alike", "_gateway", "_sums", "noted")

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.noted: list[Ended] = []
        self._alike: dict[tuple[*Place, int], _Alike] = {}
        self._sums: dict[Key, Sums] = {}

    def note(self, ended: Ended) -> None:
        """A request has ended."""
        self.noted.append(ended)
        if len(self.noted) >= MOST_NOTED:
            self.settle()

    def take(self) -> dict[Key, Sums]:
        """The sums so far, which begin anew."""
        self.settle()
        sums, self._sums = self._sums, {}
        self._alike.clear()
        return sums

    def settle(self) -> None:
        """Count and log what was noted: into the sums, the meters, the limits of keys, and the access log."""
        gateway, noted = self._gateway, self.noted
        self.noted = []
        known, log = self._alike, gateway.log.add
        spent: dict[str, int] = {}
        ahead = gateway.wall() - gateway.now()
        for end in noted:
            at, request, status, meant, how, book, where, first, sent, tries, wasted, carried, held, stream, told = end
            key, endpoint_id = request.key, book.route.id
            key_id = key.id if key is not None else None
            names = (request.method, request.path, status, endpoint_id, where, key_id, how, meant)
            alike = known.get(names) or self._first_of(names, request.kind, book)
            seconds = at - request.started
            alike.seconds.append(seconds)
            if wasted:
                alike.sums[WASTED] += wasted
            if held is not None:
                gateway.meters.held(endpoint_id, held)
            counted = UNKNOWN
            if tries and alike.answered and told is not None:
                counted = _add_tokens(alike.sums, told, carried)
                prompt = counted[0]
                if prompt is None:
                    prompt = min(request.received // BYTES_OF_TOKEN, book.route.context_length or UNKNOWN_CONTEXT)
                    alike.sums[PROMPT] += prompt
                if first is not None and stream:
                    self._add_stream(endpoint_id, alike.sums, counted[2], first - request.started, at - first)
                if key_id is not None and key is not None and key.metered:
                    spent[key_id] = spent.get(key_id, 0) + prompt + (counted[2] or 0)
            wall = book.last_at = at + ahead
            began = first - request.started if first is not None else None
            log(wall, request.id, alike.place, seconds, began, sent, tries, counted)
        gateway.cells[counters.SENT] += sum([end[8] for end in noted])
        self._count()
        for key_id, tokens in spent.items():
            gateway.key_limits.spent(key_id, tokens)
        if gateway.log.full:
            gateway.flush_log()

    def _first_of(self, names: tuple[*Place, int], kind: Kind, book: EndpointBook) -> _Alike:
        method, path, status, endpoint_id, where, key_id, outcome, meant = names
        answered = outcome in _ANSWERED
        word = outcome if answered else FAILED if meant >= 500 else REFUSED
        sums = self._sums.setdefault((book.route.id, book.route.owner, where, key_id, word), _EMPTY.copy())
        place = written((method, path, status, endpoint_id, where, key_id, outcome))
        alike = self._alike[names] = _Alike(sums, kind, status, place, answered=answered)
        return alike

    def _count(self) -> None:
        for alike in self._alike.values():
            if alike.seconds:
                alike.sums[REQUESTS] += len(alike.seconds)
                alike.sums[DURATION_S] += sum(alike.seconds)
                self._gateway.counters.requests(alike.kind, alike.status, alike.seconds)
                alike.seconds.clear()

    def _add_stream(self, endpoint_id: str, sums: Sums, completion: int | None, first_s: float, rest_s: float) -> None:
        sums[FIRST_TOKENS] += 1
        sums[FIRST_TOKEN_S] += first_s
        gap = None
        if completion is not None and completion > 1:
            sums[GAPS] += completion - 1
            sums[GAP_S] += rest_s
            gap = rest_s / (completion - 1)
        self._gateway.meters.stream(endpoint_id, first_s, gap)
        self._gateway.counters.first_byte(first_s)


def _add_tokens(sums: Sums, told: Tokens | bytes | int, carried: int) -> Counted:
    """Add an answer's tokens; them, for the log. Without a prompt's they are an estimate."""
    tokens = told
    if isinstance(tokens, bytes):
        tokens = tokens_in(tokens) or tokens_at_start(tokens) or 0
    if isinstance(tokens, int):
        # Nobody told: the events of a stream that broke off are all there is to count.
        sums[ESTIMATED] += 1
        sums[COMPLETION] += carried + tokens
        return None, None, carried + tokens
    if carried:
        tokens = _joined(tokens, carried)
    prompt, cached, completion = tokens
    sums[PROMPT] += prompt
    sums[CACHED] += cached
    sums[COMPLETION] += completion
    return tokens


def _joined(last: Tokens, carried: int) -> Tokens:
    """The tokens of an answer whose last replica was given the ``carried`` tokens of those before it as prompt."""
    prompt, cached, completion = last
    prompt = max(0, prompt - carried)
    return prompt, min(cached, prompt), completion + carried


def without_role(events: int, kind: int) -> int:
    """How many of a stream's first events brought a token: those of chat begin with one that tells the role."""
    return max(0, events - 1) if kind == CHAT else events
