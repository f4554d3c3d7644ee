"""What becomes of a stream whose replica is lost after the first byte: it goes on elsewhere, or ends with an error.

Called by ``exchange``. A crash that a request may have caused must not be carried
from replica to replica; and a client must never be left without a word.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from roost.gateway import dispatch
from roost.gateway.answers import Refusal
from roost.gateway.body import encode
from roost.gateway.continuation import Joined, Repeated, continued, ending, in_a_stop, left, repeatable
from roost.gateway.emitted import Said
from roost.gateway.http1 import LAST_CHUNK, chunk
from roost.gateway.request import CHAT
from roost.gateway.shaping import splice_of
from roost.gateway.usage_chunk import asking

if TYPE_CHECKING:
    from roost.gateway.attempt import Attempt
    from roost.gateway.exchange import Exchange

MAX_CRASHES = 2
"""A request present at this many crashes is not tried again: it may be what causes them."""
MAX_HANGS = 2
"""A request that has left this many replicas that hung is not tried again by itself."""
PROGRESS = 4
"""A stream that came this many tokens further before the next replica was lost too did not cause it: the crash would
have come where the first one did."""
MOST_CONTINUATIONS = 3
"""A stream goes on elsewhere so many times at most."""
MOST_REPEATED = 256
"""Tokens of a greedy answer that are generated once more, since that is more exact than to go on from the text: a
client waits for them."""
QUIET_S = 1.0
"""A stream that can go on elsewhere leaves a replica that does not answer its health checks once it is silent for this
long."""


def go_on(exchange: Exchange, attempt: Attempt, *, lost: bool = True, crash: bool = True) -> None:
    """Let another replica go on with a stream whose replica was ``lost``, or only gave another answer; end it where
    none can. ``crash``: the request may be what the replica was lost for."""
    adapted, kind = exchange.adapted, exchange.request.kind
    said = exchange.emitted.said() if exchange.emitted is not None else None
    if said is None or in_a_stop(adapted.body, said):
        exchange.break_off(attempt)
        return
    complete = said.finished or left(adapted.body, said) == 0
    if said.done or (complete and (said.counted or not (adapted.classic or adapted.wants_usage_chunk))):
        _end(exchange, attempt, said)
        return
    again = not complete and not exchange.diverged and said.tokens <= MOST_REPEATED and repeatable(adapted.body)
    payload = encode(adapted.body if again else continued(adapted.body, kind, said))
    if isinstance(payload, Refusal) or (lost and _hopeless(exchange, said, crash)):
        exchange.break_off(attempt)
        return
    exchange.payload = asking(payload, adapted.body) if adapted.asks_usage else payload
    if again:
        exchange.wasted += said.tokens
    exchange.joined = Repeated(said) if again else Joined(said, chat=kind is CHAT, complete=complete)
    exchange.continued += 1
    exchange.again()


def _hopeless(exchange: Exchange, said: Said, crash: bool) -> bool:
    """Count the loss; whether it was one too many."""
    if crash:
        if exchange.crashes and said.tokens - exchange.reached < PROGRESS:
            exchange.crashes += 1
        exchange.crashes = max(1, exchange.crashes)
    exchange.reached = said.tokens
    return exchange.crashes >= MAX_CRASHES or exchange.continued >= MOST_CONTINUATIONS


def _end(exchange: Exchange, attempt: Attempt, said: Said) -> None:
    """All of the text is there: only the end is missing."""
    events, splice = ending(said, chat=exchange.request.kind is CHAT), splice_of(exchange.adapted)
    if splice is not None:
        events = splice.feed(events) + splice.end()
    exchange.write((chunk(events) if events else b"") + LAST_CHUNK)
    exchange.finish(attempt.status, "completed")


def leave_if_quiet(exchange: Exchange, attempt: Attempt) -> None:
    """The replica hangs, as it seems: the stream goes on elsewhere unless something comes from there soon."""
    if not exchange.watched:
        exchange.watched = True
        exchange.gateway.loop.call_later(QUIET_S, _leave_if_quiet, exchange, attempt, exchange.sent)


def _leave_if_quiet(exchange: Exchange, attempt: Attempt, sent: int) -> None:
    exchange.watched = False
    if exchange.attempt is not attempt or exchange.done or attempt.replica.healthy:
        return
    other = dispatch.has_other(exchange.book, attempt.replica)
    if other and exchange.sent == sent and not exchange.front.full and _can_go_on(exchange):
        exchange.leave(attempt)
    else:
        leave_if_quiet(exchange, attempt)


def _can_go_on(exchange: Exchange) -> bool:
    # Asked of a copy: what the record holds back still goes to the client if the stream stays where it is.
    said = deepcopy(exchange.emitted).said() if exchange.emitted is not None else None
    if said is None or in_a_stop(exchange.adapted.body, said):
        return False
    return exchange.continued < MOST_CONTINUATIONS
