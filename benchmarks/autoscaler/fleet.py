"""One run: a scenario, a scaler and an engine model on a virtual clock. Called by ``runs``.

The gateway is the same for every scaler: least in flight, no replica above its slots, the surplus in one queue, first
in first out. A replica costs from its order until it is gone, drains and starts included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import Protocol

from benchmarks.autoscaler.engine import Books, EngineModel, Replica, Request

USUAL_ENGINE = EngineModel()
START_SPREAD = 0.2
"""The standard deviation of the logarithm of start times."""


class View:
    """What a gateway and a control plane can know at a tick. Counters and ``load_s`` (the integral of requests in
    flight and held, in request seconds) are cumulative. ``unserved_prompt_tokens``: of requests without a first token;
    ``starting``: ages of the starts under way, in seconds; ``started``: how long the starts took that have ended;
    ``ttfts``: seconds to first token, in the order of the first tokens."""

    __slots__ = (
        "arrived", "arrived_prompt_tokens", "books", "draining", "finished", "finished_output_tokens", "held",
        "in_flight", "load_s", "ready", "started", "starting", "ttfts", "unserved_prompt_tokens",
    )  # fmt: skip

    def __init__(self) -> None:
        self.arrived = self.finished = 0
        self.arrived_prompt_tokens = self.finished_output_tokens = self.unserved_prompt_tokens = 0
        self.in_flight = self.held = self.ready = self.draining = 0
        self.load_s = 0.0
        self.books = Books()
        self.ttfts: list[float] = []
        self.starting: tuple[float, ...] = ()
        self.started: list[float] = []


class Scaler(Protocol):
    """An autoscaler under test. ``interval_s``: how often it is asked; ``undrains``: whether a replica that still
    drains may be taken back instead of starting another."""

    interval_s: float
    undrains: bool

    def desired(self, view: View, now: float) -> int:
        """How many replicas there shall be."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run is about. ``requests`` are (seconds, prompt tokens, output tokens), in order; replicas cost over
    ``length_s``; ``slo_s`` bounds the
    time to first token; ``step_at_s``: when the load rises at once, if it does."""

    requests: Sequence[tuple[float, int, int]]
    length_s: float
    slo_s: float
    start_s: float
    seed: int
    max_replicas: int = 16
    initial: int = 1
    step_at_s: float | None = None
    engine: EngineModel = USUAL_ENGINE


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to: how many requests there were, the share of them within the bound, replica-hours, requests not
    answered exactly once, seconds from the step to the first order after it
    (of a start, or to take back what drains) (None: no step, or no order), and orders
    given."""

    requests: int
    attainment: float
    replica_hours: float
    lost: int
    step_to_order_s: float | None
    orders: int


class Fleet:
    """The replicas of one endpoint, its gateway, and the clock."""

    def __init__(self, setup: Setup, scaler: Scaler) -> None:
        self.setup = setup
        self.scaler = scaler
        self.random = Random(setup.seed)
        self.view = View()
        self.replicas: list[Replica] = []
        self.taking: list[Replica] = []
        self.held: deque[Request] = deque()
        self.events: list[tuple[float, int, Replica, int]] = []
        self.count = 0
        self.now = 0.0
        self.cost_s = 0.0
        self.ends_at = setup.length_s
        self.orders: list[float] = []
        for _ in range(setup.initial):
            self._order(0.0)

    def run(self) -> Outcome:
        """All requests, until the last is answered."""
        requests = [Request(number, *each) for number, each in enumerate(self.setup.requests)]
        arriving, total, interval = 0, len(requests), self.scaler.interval_s
        # Ticks and arrivals have no common origin.
        next_tick = self.random.random() * interval
        view, events = self.view, self.events
        while view.finished < total or self.now < self.ends_at:
            arrival = requests[arriving].arrived if arriving < total else inf
            event = events[0][0] if events else inf
            if event <= arrival and event <= next_tick:
                self._clock(event)
                _, _, replica, version = heappop(events)
                if version == replica.version:
                    self._happen(replica)
            elif arrival <= next_tick:
                self._clock(arrival)
                self._arrive(requests[arriving])
                arriving += 1
            else:
                self._clock(next_tick)
                self._tick()
                next_tick += interval
        for replica in self.replicas:
            self._pay(replica)
        return self._outcome(requests)

    def _outcome(self, requests: list[Request]) -> Outcome:
        slo = self.setup.slo_s
        in_time = sum(1 for each in requests if each.ttft_s is not None and each.ttft_s <= slo)
        step = self.setup.step_at_s
        after = [at - step for at in self.orders if at >= step] if step is not None else []
        return Outcome(
            requests=len(requests),
            attainment=in_time / len(requests),
            replica_hours=self.cost_s / 3600,
            lost=sum(1 for each in requests if each.done != 1),
            step_to_order_s=min(after, default=None),
            orders=len(self.orders),
        )

    def _clock(self, now: float) -> None:
        view = self.view
        view.load_s += (now - self.now) * (view.in_flight + view.held)
        self.now = now

    def _arrive(self, request: Request) -> None:
        view = self.view
        view.arrived += 1
        view.arrived_prompt_tokens += request.prompt_tokens
        view.unserved_prompt_tokens += request.prompt_tokens
        self.held.append(request)
        view.held += 1
        self._dispatch()

    def _dispatch(self) -> None:
        view, slots = self.view, self.setup.engine.slots
        while self.held:
            best, least = None, slots
            for replica in self.taking:
                if replica.in_flight < least:
                    best, least = replica, replica.in_flight
            if best is None:
                return
            view.held -= 1
            view.in_flight += 1
            if best.take(self.held.popleft(), self.now):
                self._schedule(best)

    def _happen(self, replica: Replica) -> None:
        view = self.view
        if not replica.ready:
            replica.ready = True
            view.started.append(self.now - replica.ordered_at)
            self.taking.append(replica)
            self._dispatch()
            return
        first, ended = replica.happen(self.now)
        if first is not None:
            view.ttfts.append(first.ttft_s or 0.0)
            view.unserved_prompt_tokens -= first.prompt_tokens
        view.finished += len(ended)
        view.finished_output_tokens += sum(each.output_tokens for each in ended)
        view.in_flight -= len(ended)
        self._schedule(replica)
        if ended:
            if replica.draining and not replica.in_flight:
                self._end(replica)
            self._dispatch()

    def _schedule(self, replica: Replica) -> None:
        replica.version += 1
        at = replica.next_event()
        if at < inf:
            self.count += 1
            heappush(self.events, (at, self.count, replica, replica.version))

    def _tick(self) -> None:
        view = self.view
        alive = [each for each in self.replicas if not each.draining]
        starting = [each for each in alive if not each.ready]
        view.starting = tuple(self.now - each.ordered_at for each in starting)
        view.ready = len(alive) - len(starting)
        view.draining = len(self.replicas) - len(alive)
        for each in self.replicas:
            if each.ready:
                each.advance(self.now)
        wanted = min(max(self.scaler.desired(view, self.now), 1), self.setup.max_replicas)
        if wanted > len(alive):
            self._raise(wanted - len(alive))
        elif wanted < len(alive):
            self._reduce(len(alive) - wanted, starting)

    def _raise(self, more: int) -> None:
        if self.scaler.undrains:
            for replica in [each for each in self.replicas if each.draining][:more]:
                replica.draining = False
                self.orders.append(self.now)
                self.taking.append(replica)
                more -= 1
        for _ in range(more):
            self._order(self.now)
        self._dispatch()

    def _reduce(self, fewer: int, starting: list[Replica]) -> None:
        """Starts under way go first, the latest first; then the least loaded drain."""
        for replica in starting[::-1][:fewer]:
            replica.version += 1
            self._end(replica)
            fewer -= 1
        for replica in sorted(self.taking, key=lambda each: each.in_flight)[:fewer]:
            replica.draining = True
            self.taking.remove(replica)
            if not replica.in_flight:
                self._end(replica)

    def _order(self, now: float) -> None:
        setup = self.setup
        # Those there are at the beginning are ready; they are no orders.
        takes = setup.start_s * self.random.lognormvariate(0.0, START_SPREAD) if now > 0 else 0.0
        replica = Replica(now, now + takes, setup.engine, self.view.books)
        self.replicas.append(replica)
        if now > 0:
            self.orders.append(now)
        self.count += 1
        heappush(self.events, (now + takes, self.count, replica, replica.version))

    def _end(self, replica: Replica) -> None:
        self.replicas.remove(replica)
        self._pay(replica)

    def _pay(self, replica: Replica) -> None:
        """Only the scenario's length costs: what is answered after it is much the same for all."""
        self.cost_s += max(0.0, min(self.now, self.ends_at) - replica.ordered_at)
