"""Where a request goes, and how it waits: late binding of requests to replicas.

Called by ``exchange`` (a request comes, ends, has to go elsewhere) and ``gateway`` (tables, the sweep). No replica gets
more requests than it has slots; what is beyond waits in the endpoint's queue and goes the moment a slot is free. So it
must never let a request wait that a replica would take, and never send one to a replica that is full or left out.

With several workers slots are counted over all of them, on the board. Each has its own queue: while another worker's
requests wait too, none hands its freed slots on to its own at once, but all look for free ones in turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roost.gateway import admission, counters
from roost.gateway.answers import Refusal
from roost.gateway.books import EndpointBook, ReplicaBook
from roost.gateway.request import COMPLETIONS
from roost.policy.balance import EXPECTED_TTFT, ONLY, choose
from roost.policy.ejection import GOOD, full, has_room, takes, takes_for_want_of_others, tried
from roost.policy.prefix import NO_PROMPT, prompt_of

if TYPE_CHECKING:
    from roost.gateway.exchange import Exchange
    from roost.gateway.gateway import Gateway

POLL_S = 0.02
"""Slots that other workers free are looked for this often while a request waits."""
MOST_UNREACHED = 3
"""A request whose time is over is refused after so many replicas, or tries of one, that could not be reached."""
MOST_REFUSALS = 8
"""A request that replicas refused as full this often gets their answer."""
BUSY_S = 10.0
"""What a client is told to wait while nobody has left the queue yet."""
FAILOVER = "failover"


def pick(exchange: Exchange) -> ReplicaBook | None:
    """The replica that the request is to be sent to now (which the books take for granted); None: it has to wait."""
    ready = exchange.book.ready
    if len(ready) == 1:
        only = ready[0]
        if only.in_flight < only.room and only.standing is GOOD and only.healthy:
            exchange.mark = only.mark
            return only
    gateway, book = exchange.gateway, exchange.book
    return None if _others_wait(gateway, book) else _place(exchange, _able(gateway, book))


def hold(exchange: Exchange) -> None:
    """Let a new request wait; what has no room in the queue is refused."""
    gateway, book = exchange.gateway, exchange.book
    exchange.deadline = deadline(exchange)
    loser = book.held.push(exchange, gateway.settings.hold_limit, gateway.now())
    if loser is not exchange:
        gateway.cells[counters.HELD] += 1
        show(gateway, book)
        _look_again(gateway, book)
    if loser is not None:
        loser.refuse(_no_room(gateway, book))


def again(exchange: Exchange) -> None:
    """Send a request to another replica, or let it wait for one; it has waited longer than those behind it."""
    exchange.gateway.cells[counters.RETRIES] += 1
    replica = pick(exchange)
    if replica is not None:
        exchange.send_to(replica)
    else:
        _put_back(exchange)


def _put_back(exchange: Exchange) -> None:
    gateway, book = exchange.gateway, exchange.book
    exchange.deadline = deadline(exchange)
    book.held.put_back(exchange, gateway.now())
    gateway.cells[counters.HELD] += 1
    show(gateway, book)
    _look_again(gateway, book)


def go_round(exchange: Exchange, *, here: bool) -> None:
    """The replica could not be reached: try again, unless the request has waited as long as it may. ``here``: it was
    this worker that could not reach any, so that the next moment is no better."""
    gateway = exchange.gateway
    exchange.unreached += 1
    if exchange.unreached >= MOST_UNREACHED and gateway.now() >= deadline(exchange):
        exchange.refuse(_too_late(gateway, exchange.book))
        serve_next(gateway, exchange.book)
    elif here:
        _put_back(exchange)
    else:
        exchange.again()


def deadline(exchange: Exchange) -> float:
    """The loop time until which it may wait. It follows from what no waiting and no try in vain changes: the start of
    the request, and the loss of a replica that was at work on it."""
    settings, request = exchange.gateway.settings, exchange.request
    seconds = admission.hold_seconds(request.announced_timeout(), settings.hold_timeout_s)
    until = request.started + seconds
    if exchange.begun:
        # Comments keep its client patient, whatever that announced; and it may be older than any request can wait.
        until = max(until, exchange.lost_at + max(seconds, settings.hold_timeout_s))
        if exchange.first is None:
            until = max(until, request.started + settings.hold_stream_timeout_s)
    return until


def give_up(exchange: Exchange) -> None:
    """The client of a request is gone: it waits no longer, if it did."""
    gateway, book = exchange.gateway, exchange.book
    if book.held.remove(exchange, gateway.now()):
        show(gateway, book)


def serve_next(gateway: Gateway, book: EndpointBook) -> None:
    """A slot is free: send what waits, unless another worker's may have waited longer."""
    if _others_wait(gateway, book):
        _look_again(gateway, book)
    else:
        serve(gateway, book)


def serve(gateway: Gateway, book: EndpointBook) -> None:
    """Send what waits as far as there are slots; refuse all of it when the endpoint takes no requests any more."""
    held = book.held
    if not held.size:
        return
    refusal = gateway.refusal(book)
    now = gateway.now()
    while held.size:
        if refusal is not None:
            held.pop(now).refuse(refusal)
            continue
        able = _able(gateway, book)
        exchange = held.pop(now) if able else None
        if exchange is None:
            _look_again(gateway, book)
            break
        replica = _place(exchange, able)
        if replica is None:
            held.put_back(exchange, now)
            _look_again(gateway, book)
            break
        exchange.send_to(replica)
    show(gateway, book)


def expire(gateway: Gateway, book: EndpointBook) -> None:
    """Refuse what has waited as long as it may."""
    late = book.held.expired(gateway.now())
    for exchange in late:
        exchange.refuse(_too_late(gateway, book))
    show(gateway, book)


def show(gateway: Gateway, book: EndpointBook) -> None:
    """Let the other workers know whether requests wait here; once a second, too."""
    if gateway.board.shared:
        gateway.board.put(book.waits, int(book.held.size > 0))


def settle(exchange: Exchange, replica: ReplicaBook) -> None:
    """The replica has computed the request's prompt, or need not any more."""
    replica.outstanding_tokens -= exchange.owed
    exchange.owed = 0


def left(exchange: Exchange, replica: ReplicaBook) -> None:
    """A request is no longer on the replica."""
    gateway = exchange.gateway
    replica.in_flight -= 1
    if not replica.in_flight:
        replica.busy_s += gateway.now() - replica.busy_since
    gateway.cells[counters.IN_FLIGHT] -= 1
    if exchange.owed:
        settle(exchange, replica)
    if replica.standing is not GOOD:
        replica.standing = has_room(replica.standing)
    if replica.shown:
        gateway.board.put(replica.shown, replica.in_flight)
    if replica.draining and replica.in_flight == 0:
        gateway.drained(replica)


def came_through(exchange: Exchange, replica: ReplicaBook) -> None:
    """A replica whose last request did not go well has answered one."""
    replica.standing = GOOD
    serve(exchange.gateway, exchange.book)


def turned_away(exchange: Exchange, replica: ReplicaBook, refusal: Refusal) -> bool:
    """The replica answered that it is full: whether the request goes on trying, instead of giving the answer."""
    now = exchange.gateway.now()
    after = refusal.retry_after or 0.0
    replica.standing = full(replica.standing, now, after)
    exchange.refusals += 1
    exchange.deadline = deadline(exchange)
    # No time helps against an upstream's account that is used up.
    hopeless = refusal.code == "insufficient_quota"
    return not hopeless and exchange.refusals < MOST_REFUSALS and now + after < exchange.deadline


def has_other(book: EndpointBook, replica: ReplicaBook) -> bool:
    """Whether a replica that works is there beside this one."""
    return any(each is not replica and each.healthy and each.standing.sound for each in book.ready)


def _able(gateway: Gateway, book: EndpointBook) -> list[ReplicaBook]:
    now, board = gateway.now(), gateway.board
    open_ = [
        each
        for each in book.ready
        if each.healthy
        and (each.slots is None or each.in_flight + (board.others(each.shown) if each.shown else 0) < each.slots)
    ]
    able = [each for each in open_ if each.standing is GOOD or takes(each.standing, now)]
    if able or any(each.healthy and each.standing.sound for each in book.ready):
        return able
    return [each for each in open_ if takes_for_want_of_others(each.standing, now)]


def _others_wait(gateway: Gateway, book: EndpointBook) -> bool:
    return gateway.board.shared and any(r.shown for r in book.ready) and gateway.board.others(book.waits) > 0


def _place(exchange: Exchange, able: list[ReplicaBook]) -> ReplicaBook | None:
    board = exchange.gateway.board
    while able:
        chosen = _choose(exchange, able)
        if not chosen.shown:
            return chosen
        # First show it, then look at the others: of two workers that want the last slot, not both get it.
        board.put(chosen.shown, chosen.in_flight + 1)
        if chosen.slots is None or chosen.in_flight + board.others(chosen.shown) < chosen.slots:
            return chosen
        board.put(chosen.shown, chosen.in_flight)
        settle(exchange, chosen)
        able = [each for each in able if each is not chosen]
    return None


def _choose(exchange: Exchange, able: list[ReplicaBook]) -> ReplicaBook:
    gateway, book = exchange.gateway, exchange.book
    now = gateway.now()
    chosen, reason = able[0], ONLY
    if len(book.ready) > 1:
        policy = gateway.settings.balancer
        prompt = exchange.prompt
        if prompt is None:
            hashed = policy == EXPECTED_TTFT and exchange.request.kind <= COMPLETIONS
            prompt = exchange.prompt = prompt_of(exchange.adapted.body) if hashed else NO_PROMPT
        book.turn += 1
        choice = choose(able, prompt, now=now, turn=book.turn, policy=policy)
        if choice is not None:
            chosen, reason = able[choice.index], choice.reason
            exchange.owed = choice.uncached_tokens
            chosen.outstanding_tokens += choice.uncached_tokens
            chosen.prefix.insert(prompt.blocks)
    if exchange.where is not None and exchange.where != chosen.id:
        reason = FAILOVER
    exchange.mark = chosen.mark if reason is ONLY else chosen.marked(reason)
    if chosen.standing is not GOOD:
        chosen.standing = tried(chosen.standing, now)
    return chosen


def _look_again(gateway: Gateway, book: EndpointBook) -> None:
    # What frees a slot serves the queue by itself, but for other workers' requests and the passing of time.
    now = gateway.now()
    times = [each.standing.until for each in book.ready if each.standing.until > now]
    times += [each.standing.resort_at for each in book.ready if each.standing.resort_at > now]
    if any(each.shown for each in book.ready):
        times.append(now + POLL_S)
    if not times:
        return
    at = min(times)
    if book.timer is not None:
        if book.timer.when() <= at:
            return
        book.timer.cancel()
    book.timer = gateway.loop.call_at(at, _looked_at_again, gateway, book)


def _looked_at_again(gateway: Gateway, book: EndpointBook) -> None:
    book.timer = None
    serve(gateway, book)


def _no_room(gateway: Gateway, book: EndpointBook) -> Refusal:
    limit = gateway.settings.hold_limit
    if not _works(book):
        return admission.hold_is_full(book.route, limit, gateway.wall())
    return admission.queue_is_full(book.route, limit, _drained_in(gateway, book))


def _too_late(gateway: Gateway, book: EndpointBook) -> Refusal:
    if not _works(book):
        return admission.hold_expired(book.route, gateway.wall())
    return admission.busy(book.route, _drained_in(gateway, book))


def _works(book: EndpointBook) -> bool:
    return any(each.healthy and each.standing.sound for each in book.ready)


def _drained_in(gateway: Gateway, book: EndpointBook) -> float:
    seconds = book.held.drained_in(gateway.now())
    return seconds if seconds is not None else BUSY_S
