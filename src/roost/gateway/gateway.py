"""One gateway worker's heart: the books, the counters, and what happens to a parsed request.

Made by ``worker`` (and by tests, in-process). It must never touch the database, and never stop serving because the
control plane is away.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from roost.config import Settings
from roost.domain.creation import Delivery
from roost.domain.routing import LLAMA_CPP, RouteKey, RoutingTable
from roost.gateway import admission, counters, dispatch, head_rules, health, params, waiting
from roost.gateway.access_log import AccessLog, written
from roost.gateway.answers import SANDBOX, Refusal
from roost.gateway.board import Board
from roost.gateway.bodies import SHORT, Bodies
from roost.gateway.body import HALF_A_PAIR, decode, holds_half_a_pair
from roost.gateway.books import Books, EndpointBook, ReplicaBook
from roost.gateway.classic import adapt
from roost.gateway.counters import Counters
from roost.gateway.demand import Demand
from roost.gateway.exchange import Exchange
from roost.gateway.front import Front
from roost.gateway.key_limits import KeyLimits
from roost.gateway.meters import Meters
from roost.gateway.pace import Limits
from roost.gateway.relay import Relay
from roost.gateway.relay_room import ControlPool, RelayRoom
from roost.gateway.request import RELAY, Kind, Request
from roost.gateway.upstream import Address
from roost.gateway.usage import UNKNOWN, Usage
from roost.gateway.usage_reports import Reports
from roost.policy.open_files import MOST_TOLD
from roost.web.certificates import Certificate

SWEEP_S = 1.0
MAX_KNOWN_HEADERS = 10_000
"""Authorization headers whose key is remembered."""
MAX_FOUND = 10_000
"""Keys and models whose endpoint is remembered until the next table."""

log = structlog.get_logger(__name__)


class ControlLink(Protocol):
    """What the gateway needs to know of its link to the control plane."""

    connected: bool

    def report_soon(self) -> None:
        """Send a report at once."""
        ...

    def tell(self, answer: str, delivery: Delivery) -> None:
        """Tell what became of an answer."""
        ...


class Gateway:
    """The state of one worker. ``control_pool`` leads to the control plane's public API."""

    def __init__(
        self, settings: Settings, index: int, loop: asyncio.AbstractEventLoop, *, wall: Callable[[], float] = time.time
    ) -> None:
        self.settings = settings
        self.index = index
        self.loop = loop
        self.max_body_bytes = settings.max_body_bytes
        self.metrics_patience_s = 2.0
        self.pace = Limits(
            settings.client_head_timeout_s, settings.client_body_timeout_s, settings.client_read_timeout_s
        )
        self.max_clients, self.max_told = settings.max_client_connections, MOST_TOLD
        """Connections that are served, and those above that are told so; the worker lowers both where files are few."""
        self.marks = SANDBOX if settings.sandbox else b""
        """Header lines, each with its line end, that every response carries."""
        self.now = loop.time
        self.wall = wall
        self.books = Books(loop)
        self.counters = Counters(settings.run_dir / f"counters-{index}")
        self.cells = self.counters.cells
        self.board = Board(settings.run_dir, index, workers=settings.gateway_workers)
        self.books.shared = self.board.shared
        self.key_limits = KeyLimits(self.board, self.now)
        self.bodies = Bodies(settings.max_bodies_mb << 20, settings.max_body_bytes)
        self.log = AccessLog(access_log_path(settings, index))
        self.usage = Usage(self)
        self.demand = Demand()
        self.meters = Meters(settings.run_dir / f"endpoints-{index}")
        self.control_pool = ControlPool(Address(path=str(settings.control_socket)), loop)
        self.relay_room = RelayRoom()
        self.fronts: set[Front] = set()
        self.certificate: Certificate | None = None
        """Of the public port, where it speaks TLS."""
        self.link: ControlLink | None = None
        self.reports: Reports | None = None
        """Of usage, for the control plane; None: nobody asks for any."""
        self.confirmed_at: float | None = None
        """When (epoch seconds) the control plane last confirmed the table; None before there is one."""
        self.began_at = wall()
        self.draining = False
        self.leaving = False
        """Whether a successor takes the new connections."""
        self.shutting_down = False
        """Whether the table says that the server is shutting down."""
        self.empty = asyncio.Event()
        """Set while draining or leaving once no client is left."""
        self.too_large = head_rules.body_too_large(settings.max_body_bytes)
        self._known: dict[bytes | None, RouteKey] = {}
        self._found: dict[tuple[str, str], EndpointBook] = {}
        self._ids = itertools.count()
        self._id_prefix = b"req-%d%x-" % (index, int(wall() * 1000))
        self._timer: asyncio.TimerHandle | None = None
        self._failed: set[str] = set()  # parts of the sweep that failed the last time

    # ---- life

    def start(self) -> None:
        """Begin the sweeps."""
        self._timer = self.loop.call_later(SWEEP_S, self._sweep_again)

    async def close(self) -> None:
        """End everything at once; the clients' connections are dropped."""
        if self._timer is not None:
            self._timer.cancel()
        self.draining = True
        if self.fronts:
            for front in list(self.fronts):
                front.transport.abort()
            await self.empty.wait()
        for book in self.books.endpoints.values():
            if book.timer is not None:
                book.timer.cancel()
        for replica in list(self.books.replicas.values()):
            replica.pool.abort()
        self.control_pool.abort()
        self.publish()
        self._flush(self.log.close)
        self.counters.close()
        self.meters.close()
        if self.reports is not None:
            self.reports.close()
        self.board.close()

    def hand_over(self) -> None:
        """A successor accepts from now on: each client goes there with its next connection, after one more answer that
        says so, or when its connection has idled as long as any may."""
        self.leaving = True
        # The successor counts what runs here from now on.
        self._part("the board", self._share)
        for front in list(self.fronts):
            front.hand_over()
        if not self.fronts:
            self.empty.set()

    def drain(self) -> None:
        """Take no new connections' requests for long: idle clients are let go, busy ones after their answer."""
        self.draining = True
        for front in list(self.fronts):
            front.drain()
        if not self.fronts:
            self.empty.set()

    def left(self, front: Front) -> None:
        """A client's connection is gone."""
        self.fronts.discard(front)
        if (self.draining or self.leaving) and not self.fronts:
            self.empty.set()

    # ---- the table

    def apply(self, table: RoutingTable) -> bool:
        """Take over a table if it is newer; False when it is not. Held requests go on, or end, as it says."""
        if not table.newer_than(self.books.table):
            return False
        shown = self.books.shown()
        gone = self.books.apply(table)
        self.shutting_down = table.shutting_down
        self._known.clear()
        self._found.clear()
        self.key_limits.apply(table.keys)
        for book in [*gone, *self.books.endpoints.values()]:
            dispatch.serve(self, book)
        for name in shown - self.books.shown():
            self.board.forget(name)
        self._show_in_flight()
        if self.books.unreadable:
            log.warning("replica addresses cannot be read", replicas=self.books.unreadable)
        if self.link is not None:
            self.link.report_soon()
        return True

    def refusal(self, book: EndpointBook) -> Refusal | None:
        """Why the endpoint takes no requests now; None when it does."""
        if self.shutting_down:
            return admission.SHUTTING_DOWN
        if self.books.endpoints.get(book.route.id) is not book:
            return admission.unknown_model(book.route.id)
        return None if book.route.accepting else admission.not_accepting(book.route)

    def unresponsive(self, replica: ReplicaBook) -> None:
        """A replica hangs: requests on it that have had no answer yet go elsewhere, if there is one."""
        for front in list(self.fronts):
            exchange = front.active
            if isinstance(exchange, Exchange) and exchange.attempt is not None and exchange.attempt.replica is replica:
                exchange.leave_unresponsive()

    def drained(self, replica: ReplicaBook) -> None:
        """A draining replica has no request of this worker any more."""
        self.books.release(replica)
        if not replica.listed:
            self.board.forget(replica.shown)
        if self.link is not None:
            self.link.report_soon()

    def tell(self, answer: str, delivery: Delivery) -> None:
        """Tell the control plane what became of an answer that it names so."""
        if self.link is not None:
            self.link.tell(answer, delivery)

    # ---- requests

    def next_id(self) -> bytes:
        """A fresh request id."""
        return b"%b%x" % (self._id_prefix, next(self._ids))

    def authenticate(self, authorization: bytes | None) -> RouteKey | Refusal:
        """The key of a request; digests are computed once per key and table."""
        key = self._known.get(authorization)
        if key is None:
            found = admission.authenticate(authorization, self.books.keys)
            if isinstance(found, Refusal):
                return found
            key = found
            if len(self._known) < MAX_KNOWN_HEADERS:
                self._known[authorization] = key
        if key.expires_at is not None and admission.expired(key, self.wall()):
            return admission.EXPIRED_KEY
        return key

    def admit(self, request: Request, *, is_next: bool) -> Refusal | None:
        """Why an inference request is refused for its head alone, so that its body need not be kept; else its ``key``
        is set. ``is_next``: no other request of its connection comes before it."""
        if request.method != b"POST":
            if request.method == b"OPTIONS":
                return None
            message = f"{request.path.decode('latin-1')} takes POST only."
            return Refusal(405, message, "method_not_allowed", allow=b"POST, OPTIONS")
        key = self.authenticate(request.headers.get(b"authorization"))
        if isinstance(key, Refusal):
            return key
        request.key = key
        if request.length <= SHORT and not request.chunked:
            return None
        # Its limits are asked again, and charged, once it is there: by then others may have come before it.
        limited = None
        if key.metered and is_next:
            limited = self.key_limits.look(key, self.now(), self.bodies.arriving(key.id))
        return limited or self.bodies.begin(request)

    def infer(self, front: Front, request: Request) -> None:
        """Answer an inference request whose caller is known."""
        key = request.key
        if key is None:
            front.reply(request, 204, b"", headers=b"allow: POST, OPTIONS\r\n")
            return
        if self.shutting_down:
            front.answer(request, admission.SHUTTING_DOWN)
            return
        pieces = request.body
        raw = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.cells[counters.RECEIVED] += len(raw)
        limited = self._kept(request) if len(raw) > SHORT or self.bodies.held else None
        if key.metered and limited is None:
            limited = self._limited(key)
        if limited is not None:
            front.answer(request, limited)
            return
        made: Exchange | Refusal | None = None
        try:
            made = self._exchange(front, request, key, raw)
        finally:
            # An exchange's end gives the request back, and a wrong one costs nothing.
            if key.metered and not isinstance(made, Exchange):
                self.key_limits.take_back(key)
        if isinstance(made, Refusal):
            front.answer(request, made)
            return
        front.active = made
        made.begin(raw)

    def _exchange(self, front: Front, request: Request, key: RouteKey, raw: bytes) -> Exchange | Refusal:
        body = decode(raw)
        if isinstance(body, Refusal):
            return body
        book = self._resolve(body.get("model"), key)
        if isinstance(book, Refusal):
            return book
        if book.route.dialect == LLAMA_CPP and holds_half_a_pair(raw, body):
            return HALF_A_PAIR
        refusal = params.refusal(body, request.kind, book.route)
        adapted = refusal or adapt(body, request.kind, book.route, classic=request.classic)
        return adapted if isinstance(adapted, Refusal) else Exchange(self, front, request, book, adapted)

    def _kept(self, request: Request) -> Refusal | None:
        self.bodies.arrived(request)
        return self.bodies.hold(request) if request.received > SHORT else None

    def _limited(self, key: RouteKey) -> Refusal | None:
        limits, usage = self.key_limits, self.usage
        if usage.noted and limits.tight(key, len(usage.noted)):
            # What earlier answers took counts from now on.
            usage.settle()
        return limits.admit(key, self.now())

    def _resolve(self, model: object, key: RouteKey) -> EndpointBook | Refusal:
        if not isinstance(model, str) or not model:
            return admission.NO_MODEL
        book = self._found.get((key.id, model))
        if book is not None:
            return book
        book = self.books.by_model.get(model)
        if book is None or not admission.may_use(key, book.route):
            book = self.books.by_model.get(model.rpartition(":")[0])
            adapter = book is not None and admission.may_use(key, book.route)
            return admission.unknown_adapter(model) if adapter else admission.unknown_model(model)
        if not book.route.accepting:
            return admission.not_accepting(book.route)
        if len(self._found) < MAX_FOUND:
            self._found[key.id, model] = book
        return book

    def serve(self, front: Front, request: Request) -> None:
        """Answer what is not inference: the gateway's own pages, or the control plane's by relay."""
        own = request.kind is not RELAY
        if request.target == b"*":
            # The parser of heads lets only OPTIONS ask this: what the server as a whole can do.
            front.reply(request, 204, b"", headers=b"allow: %b\r\n" % b", ".join(head_rules.METHODS))
        elif own and request.method == b"OPTIONS":
            front.reply(request, 204, b"", headers=b"allow: GET, HEAD, OPTIONS\r\n")
        elif own and request.method not in (b"GET", b"HEAD"):
            message = f"{request.path.decode('latin-1')} takes GET only."
            front.answer(request, Refusal(405, message, "method_not_allowed", allow=b"GET, HEAD, OPTIONS"))
        elif request.kind is Kind.HEALTH:
            front.reply(request, 200, b'{"status":"ok"}')
        elif request.kind is Kind.READY:
            health.ready(self, front, request)
        elif request.kind is Kind.METRICS:
            metrics = health.MetricsPage(self, front, request)
            front.active = metrics
            metrics.begin()
        else:
            relay = Relay(self, front, request)
            front.active = relay
            relay.begin()

    def account(self, request: Request, status: int, sent: int, outcome: str) -> None:
        """Count and log a request that was answered without a replica."""
        self.cells[counters.SENT] += sent
        if request.kind is RELAY:
            self.cells[counters.RECEIVED] += request.received
        seconds = self.now() - request.started
        self.counters.requests(request.kind, status, (seconds,))
        if self.bodies.held:
            self.bodies.release(request)
        key = request.key.id if request.key is not None else None
        place = (request.method, request.path, status, None, None, key, outcome)
        self.log.add(self.wall(), request.id, written(place), seconds, None, sent, 0, UNKNOWN)
        if self.log.full:
            self.flush_log()

    # ---- once a second

    def _sweep_again(self) -> None:
        self._timer = self.loop.call_later(SWEEP_S, self._sweep_again)
        self.sweep()

    def sweep(self) -> None:
        """Everything that depends on time: deadlines of held requests, idle connections, the log's buffer, gauges."""
        self._part("held requests", self._look_at_requests)
        self._part("connections", self._look_at_connections)
        self._part("the certificate", self._look_at_certificate)
        self._part("the board", self._share)
        self._part("numbers", self.publish)
        self._part("reports of usage", self._keep_reports)
        self._part("the access log", self.flush_log)

    def _part(self, name: str, part: Callable[[], None]) -> None:
        try:
            part()
            self._failed.discard(name)
        except OSError as error:
            # Short of files, say: the other parts matter no less. Said once, until it succeeds again.
            if name not in self._failed:
                log.error("a part of the sweep failed", part=name, reason=error.strerror or str(error))
            self._failed.add(name)

    def _look_at_requests(self) -> None:
        held = 0
        for book in list(self.books.endpoints.values()):
            if book.held.size:
                dispatch.serve(self, book)
                dispatch.expire(self, book)
                waiting.comfort(self, book)
                held += book.held.size
        self.cells[counters.HELD_NOW] = held

    def _look_at_connections(self) -> None:
        now = self.now()
        for replica in self.books.replicas.values():
            replica.pool.sweep(now)
        self.control_pool.sweep(now)
        for front in list(self.fronts):
            front.sweep(now)

    def _look_at_certificate(self) -> None:
        problem = self.certificate.look() if self.certificate is not None else None
        if problem is not None:
            log.error("the changed certificate is not taken over", reason=problem)

    def _share(self) -> None:
        changed = self.board.refresh()
        self.books.share(self.board.shared)
        if self.board.shared:
            self._show_in_flight()
            self.key_limits.share(self.now(), changed=changed)
            for book in self.books.endpoints.values():
                dispatch.show(self, book)

    def _show_in_flight(self) -> None:
        # Requests that were sent on while nobody else was there are on no board yet.
        for replica in self.books.replicas.values():
            if replica.shown:
                self.board.put(replica.shown, replica.in_flight)

    def _keep_reports(self) -> None:
        if self.reports is not None:
            self.reports.keep(self.wall())

    def publish(self) -> None:
        """Show the numbers to the other workers, and put what was used into the next report."""
        sums = self.usage.take()
        if sums:
            self.meters.add(sums.items())
            self.demand.add(sums.items())
            if self.reports is not None:
                self.reports.add(sums.items(), self.wall())
        self.counters.publish()
        self.meters.publish()

    def flush_log(self) -> None:
        """Write what is buffered of the access log; lines that cannot be written are lost."""
        self._flush(self.log.flush)

    def _flush(self, write: Callable[[], None]) -> None:
        try:
            write()
            self._failed.discard("log")
        except OSError as error:
            # Requests matter more than their log: say it once, and go on.
            if "log" not in self._failed:
                log.error("the access log cannot be written; lines are lost", reason=error.strerror)
            self._failed.add("log")


def access_log_path(settings: Settings, index: int) -> Path:
    """Where worker ``index`` logs its requests."""
    return settings.logs_dir / f"gateway-{index}.access.log"
