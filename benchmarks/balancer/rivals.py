"""The ways of other routers, as published, with their default settings. Called by ``simulator``.

Each follows the algorithm of its project and is given what that reads, always up to date. What it believes of the
caches it keeps itself, as the original does.
"""

from __future__ import annotations

from bisect import bisect
from collections import OrderedDict
from collections.abc import Sequence
from math import ceil, sqrt
from random import Random
from typing import Protocol

from benchmarks.balancer.engine import Replica, Running
from benchmarks.balancer.trace import BLOCK_TOKENS, Request


class Router(Protocol):
    """Chooses replicas, and is told what becomes of the requests."""

    def pick(self, running: Running, replicas: Sequence[Replica], now: float) -> int | None:
        """The index of the replica for a request; None: it waits."""
        ...

    def first(self, running: Running) -> None:
        """A request got its first token."""
        ...

    def ended(self, running: Running) -> None:
        """A request ended."""
        ...


class Plain:
    """What all that need no news have in common."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def first(self, running: Running) -> None:
        """Nothing."""

    def ended(self, running: Running) -> None:
        """Nothing."""

    def least(self, replicas: Sequence[Replica], among: Sequence[int]) -> int:
        """Of ``among`` the one with the least in flight, ties at random."""
        least = min(replicas[i].in_flight for i in among)
        return self.random.choice([i for i in among if replicas[i].in_flight == least])


class RoundRobin(Plain):
    """In turn."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.turn = seed

    def pick(self, running: Running, replicas: Sequence[Replica], now: float) -> int:
        self.turn += 1
        return self.turn % len(replicas)


class LeastInFlight(Plain):
    """The one with the fewest requests."""

    def pick(self, running: Running, replicas: Sequence[Replica], now: float) -> int:
        return self.least(replicas, range(len(replicas)))


class TwoChoices(Plain):
    """The less loaded of two random ones."""

    def pick(self, running: Running, replicas: Sequence[Replica], now: float) -> int:
        return self.least(replicas, self.random.sample(range(len(replicas)), 2))


class BoundedHash(Plain):
    """Consistent hashing with bounded loads by the beginning of the prompt (KubeAI: 256 points a replica, load factor
    1.25). ``depth``: how many blocks of the trace it hashes. KubeAI's hundred characters are less than one."""

    def __init__(self, seed: int, depth: int = 1) -> None:
        super().__init__(seed)
        self.depth = depth
        self.ring: list[tuple[float, int]] = []

    def pick(self, running: Running, replicas: Sequence[Replica], now: float) -> int:
        if not self.ring:
            self.ring = sorted((Random(f"{i}/{k}").random(), i) for i in range(len(replicas)) for k in range(256))
        bound = ceil(1.25 * (sum(each.in_flight for each in replicas) + 1) / len(replicas))
        start = bisect(self.ring, (Random(str(running.request.blocks[: self.depth])).random(), 0))
        for step in range(len(self.ring)):
            index = self.ring[(start + step) % len(self.ring)][1]
            if replicas[index].in_flight + 1 <= bound:
                return index
        return self.least(replicas, range(len(replicas)))


class Seen:
    """The blocks that a router believes a replica has, the least recently used forgotten first."""

    def __init__(self, capacity_tokens: int) -> None:
        self.capacity = capacity_tokens // BLOCK_TOKENS
        self.blocks: OrderedDict[int, None] = OrderedDict()

    def share(self, request: Request) -> float:
        count = 0
        for block in request.blocks:
            if block not in self.blocks:
                break
            count += 1
        return count / len(request.blocks)

    def add(self, request: Request) -> None:
        for block in reversed(request.blocks):
            self.blocks[block] = None
            self.blocks.move_to_end(block)
        while len(self.blocks) > self.capacity:
            self.blocks.popitem(last=False)


class CacheAware(Plain):
    """SGLang's ``cache_aware``: the longest match when it is above 30 %, else the replica with the smallest tree; the
    shortest queue when one is longer than the others by more than 64 and one and a half times."""

    def __init__(self, seed: int, threshold: float = 0.3, apart: int = 64, times: float = 1.5) -> None:
        super().__init__(seed)
        self.threshold, self.apart, self.times = threshold, apart, times
        self.seen: list[Seen] = []

    def pick(self, running: Running, replicas: Sequence[Replica], now: float) -> int:
        if not self.seen:
            # Its trees may grow to 2^26 characters: some 16 million tokens.
            self.seen = [Seen(2**24) for _ in replicas]
        loads = [each.in_flight for each in replicas]
        everyone = range(len(replicas))
        if max(loads) - min(loads) > self.apart and max(loads) > self.times * min(loads):
            index = self.least(replicas, everyone)
        else:
            shares = [each.share(running.request) for each in self.seen]
            index = max(everyone, key=lambda i: shares[i])
            if shares[index] <= self.threshold:
                index = min(everyone, key=lambda i: len(self.seen[i].blocks))
        self.seen[index].add(running.request)
        return index


class Spread(Plain):
    """AIBrix's ``prefix-cache``: the longest match among replicas with no more requests than the mean and a standard
    deviation; the least loaded when they are apart by more than 8, or when nothing matches."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.seen: list[Seen] = []

    def pick(self, running: Running, replicas: Sequence[Replica], now: float) -> int:
        if not self.seen:
            self.seen = [Seen(2**24) for _ in replicas]
        index = self._among(running.request, replicas)
        self.seen[index].add(running.request)
        return index

    def _among(self, request: Request, replicas: Sequence[Replica]) -> int:
        loads = [each.in_flight for each in replicas]
        everyone = range(len(replicas))
        if max(loads) - min(loads) > 8:
            return self.least(replicas, everyone)
        mean = sum(loads) / len(loads)
        most = mean + sqrt(sum((load - mean) ** 2 for load in loads) / len(loads))
        shares = [each.share(request) for each in self.seen]
        for index in sorted(everyone, key=lambda i: (-shares[i], loads[i])):
            if shares[index] > 0 and loads[index] <= most:
                return index
        return self.least(replicas, everyone)


class Scored(Plain):
    """The default of llm-d's scheduler: the highest sum of scores, for the matching share of the prompt (weight 3), for
    the queue relative to the others' (2) and for free cache memory (2); ties at random. It assumes 2 million tokens
    (31,250 blocks of 64) of cache a replica."""

    def __init__(self, seed: int, prefix: float = 3.0, queue: float = 2.0, memory: float = 2.0) -> None:
        super().__init__(seed)
        self.weights = prefix, queue, memory
        self.seen: list[Seen] = []

    def pick(self, running: Running, replicas: Sequence[Replica], now: float) -> int:
        if not self.seen:
            self.seen = [Seen(31_250 * 64) for _ in replicas]
        prefix, queue, memory = self.weights
        queues = [len(each.waiting) for each in replicas]
        least, most = min(queues), max(queues)
        scores = []
        for each, seen, waiting in zip(replicas, self.seen, queues, strict=True):
            short = (most - waiting) / (most - least) if most > least else 1.0
            scores.append(prefix * seen.share(running.request) + queue * short + memory * (1 - each.used_share))
        index = self.random.choice([i for i, score in enumerate(scores) if score >= max(scores) - 1e-9])
        self.seen[index].add(running.request)
        return index
