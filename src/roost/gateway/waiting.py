"""What clients whose requests wait are told meanwhile: comments in their event streams.

Called by ``gateway`` once a second. A comment keeps the connection alive through a start that takes longer than the
client's patience with silence. It commits the answer's status, so it must never be sent to whoever did not ask for a
stream, nor before a short wait is over by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roost.gateway import admission, dispatch
from roost.gateway.answers import connection_line
from roost.gateway.http1 import chunk
from roost.gateway.request import COMPLETIONS

if TYPE_CHECKING:
    from roost.gateway.books import EndpointBook
    from roost.gateway.exchange import Exchange
    from roost.gateway.gateway import Gateway

QUIET_S = 5.0
"""A stream that waits hears nothing for this long: until then it can still be refused with a status."""


def comfort(gateway: Gateway, book: EndpointBook) -> None:
    """Send a comment to each client whose stream waits, and begin the answers of those that have waited ``QUIET_S``."""
    now = gateway.now()
    comment = chunk(told(gateway, book))
    for exchange in book.held:
        if exchange.begun:
            if not exchange.front.full:
                exchange.write(comment)
        elif now - exchange.request.started >= QUIET_S and _may_begin(exchange):
            exchange.begun = True
            exchange.deadline = dispatch.deadline(exchange)
            exchange.write(_head(exchange) + comment)


def told(gateway: Gateway, book: EndpointBook) -> bytes:
    """The comment: the endpoint's state and phase, and about how many seconds are left."""
    if any(replica.healthy for replica in book.ready):
        return b": waiting for a replica with a free slot\n\n"
    route = book.route
    phase = f", {route.phase}" if route.phase is not None else ""
    left = ""
    if route.ready_at is not None and route.ready_at < gateway.wall():
        left = ", longer than usual"
    elif route.ready_at is not None or route.retry_after_s is not None:
        left = f", about {admission.eta(route, gateway.wall()):.0f} s left"
    return f": waiting for a replica ({route.state}{phase}{left})\n\n".encode("ascii", "replace")


def _may_begin(exchange: Exchange) -> bool:
    # Without chunks there is no way to tell a broken answer from a complete one.
    request = exchange.request
    return exchange.adapted.stream and request.kind <= COMPLETIONS and not request.http10


def _head(exchange: Exchange) -> bytes:
    request, gateway = exchange.request, exchange.gateway
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
        b"transfer-encoding: chunked\r\n%b%bx-request-id: %b\r\n\r\n"
        % (gateway.marks, connection_line(request.close or gateway.draining, False), request.id)
    )
