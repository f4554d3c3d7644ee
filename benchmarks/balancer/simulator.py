"""Replicas, a router and a trace on a virtual clock. Called by ``__main__``; a run is a function of its arguments."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from benchmarks.balancer.engine import EngineModel, Replica, Running
from benchmarks.balancer.rivals import Router
from benchmarks.balancer.trace import Request


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: the requests' seconds to the first token, sorted, and the prompt tokens computed."""

    ttft_s: Sequence[float]
    prefilled_tokens: int

    @property
    def mean_s(self) -> float:
        return sum(self.ttft_s) / len(self.ttft_s)

    def quantile_s(self, share: float) -> float:
        return self.ttft_s[min(int(len(self.ttft_s) * share), len(self.ttft_s) - 1)]


def simulate(trace: Sequence[Request], router: Router, model: EngineModel, count: int = 8) -> Outcome:
    """Serve ``trace`` on ``count`` replicas. Every request is answered in the end."""
    replicas = [Replica(model) for _ in range(count)]
    everyone = [Running(number, request) for number, request in enumerate(trace)]
    events: list[tuple[float, int, int, int]] = [(each.request.at_s, -1, each.number, 0) for each in everyone]
    heapify(events)
    held: deque[Running] = deque()

    def schedule(index: int) -> None:
        replica = replicas[index]
        replica.version += 1
        heappush(events, (replica.next_event(), index, 0, replica.version))

    def send(running: Running, now: float) -> bool:
        index = router.pick(running, replicas, now)
        if index is None:
            return False
        running.index = index
        replicas[index].take(running, now)
        schedule(index)
        return True

    left = len(everyone)
    while left:
        now, index, number, version = heappop(events)
        if index < 0:
            if held or not send(everyone[number], now):
                held.append(everyone[number])
            continue
        if version != replicas[index].version:
            continue
        first, ended = replicas[index].happen(now)
        if first is not None:
            router.first(first)
        for running in ended:
            router.ended(running)
        left -= len(ended)
        schedule(index)
        while held and send(held[0], now):
            held.popleft()
    ttft = sorted(each.first_s - each.request.at_s for each in everyone if each.first_s is not None)
    return Outcome(ttft, sum(each.prefilled_tokens for each in replicas))
