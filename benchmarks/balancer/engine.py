"""A model of one engine process with a prefix cache, on a virtual clock. Called by ``simulator`` only.

Prompts are prefilled first come, first served, in chunks; each chunk is an iteration that also gives every running
request a token (chunked prefill with continuous batching). What the cache holds of a prompt from its beginning on is
not computed again; the cache keeps the blocks used last.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from benchmarks.balancer.trace import BLOCK_TOKENS, Request


@dataclass(frozen=True, slots=True)
class EngineModel:
    """How fast a replica is, in seconds: per prompt token, per iteration and per running request in it; ``slots``
    requests run at once, ``cache_tokens`` are kept. The defaults resemble a 30B model on one large accelerator."""

    prefill_s_per_token: float = 0.00010
    iteration_s: float = 0.015
    iteration_s_per_request: float = 0.0005
    chunk_tokens: int = 2048
    slots: int = 64
    cache_tokens: int = 500_000


class Running:
    """A request on its way: when it came, its cached and its first token's time (None: not yet)."""

    __slots__ = ("first_s", "index", "number", "request", "uncached_tokens")

    def __init__(self, number: int, request: Request) -> None:
        self.number = number
        self.request = request
        self.index = -1
        self.uncached_tokens = 0
        self.first_s: float | None = None


class Replica:
    """One replica. What other routers read from engines: ``in_flight``, ``waiting``, ``used_tokens``."""

    def __init__(self, model: EngineModel) -> None:
        self.model = model
        self.in_flight = 0
        self.waiting: deque[Running] = deque()
        self.prefilled_tokens = 0
        self.version = 0
        self._cache: OrderedDict[int, None] = OrderedDict()
        self._prefilling: Running | None = None
        self._left_tokens = 0.0
        self._decoding: list[tuple[float, int, Running]] = []
        self._progress = 0.0
        self._at = 0.0

    @property
    def used_share(self) -> float:
        """The share of the memory that running requests hold, 0 to 1."""
        held = sum(each.request.prompt_tokens for _, _, each in self._decoding)
        return min(held / self.model.cache_tokens, 1.0)

    def held(self, request: Request) -> int:
        """Tokens of the request's prompt that need not be computed; one always is."""
        count = 0
        for block in request.blocks:
            if block not in self._cache:
                break
            count += 1
        return min(count * BLOCK_TOKENS, request.prompt_tokens - 1)

    def take(self, running: Running, now: float) -> None:
        """Accept a request."""
        self._advance(now)
        self.in_flight += 1
        self.waiting.append(running)
        self._next_prefill()

    def next_event(self) -> float:
        """When something happens next by itself; inf: never."""
        found = inf
        step_s = self._step_s()
        if self._prefilling is not None:
            found = self._at + self._left_tokens / self.model.chunk_tokens * step_s
        if self._decoding:
            found = min(found, self._at + max(0.0, self._decoding[0][0] - self._progress) * step_s)
        return found

    def happen(self, now: float) -> tuple[Running | None, list[Running]]:
        """Carry out what is due: who got a first token (or None), and which requests ended."""
        self._advance(now)
        first, ended = None, []
        while self._decoding and self._decoding[0][0] <= self._progress + 1e-6:
            ended.append(heappop(self._decoding)[2])
        if self._prefilling is not None and self._left_tokens <= 1e-3:
            first, self._prefilling = self._prefilling, None
            first.first_s = now
            self._keep(first.request)
            if first.request.output_tokens <= 1:
                ended.append(first)
            else:
                heappush(self._decoding, (self._progress + first.request.output_tokens - 1, first.number, first))
        self.in_flight -= len(ended)
        self._next_prefill()
        return first, ended

    def _step_s(self) -> float:
        model = self.model
        step_s = model.iteration_s + model.iteration_s_per_request * len(self._decoding)
        if self._prefilling is not None:
            step_s += model.chunk_tokens * model.prefill_s_per_token
        return step_s

    def _advance(self, now: float) -> None:
        steps = (now - self._at) / self._step_s()
        self._at = now
        self._progress += steps
        if self._prefilling is not None:
            self._left_tokens -= steps * self.model.chunk_tokens

    def _next_prefill(self) -> None:
        if self._prefilling is None and self.waiting and len(self._decoding) < self.model.slots:
            self._prefilling = self.waiting.popleft()
            request = self._prefilling.request
            uncached = request.prompt_tokens - self.held(request)
            self.prefilled_tokens += uncached
            self._left_tokens = float(uncached)

    def _keep(self, request: Request) -> None:
        for block in reversed(request.blocks):
            self._cache[block] = None
            self._cache.move_to_end(block)
        while len(self._cache) * BLOCK_TOKENS > self.model.cache_tokens:
            self._cache.popitem(last=False)
