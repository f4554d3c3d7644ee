"""A model of one engine process on a virtual clock: prefill, batched decoding, slots. Called by ``fleet`` only.

Prompts are prefilled one after the other and stop decoding meanwhile (as engines without chunked prefill do); running
requests then decode in step, one token each per iteration of ``a + b x running`` seconds. It moves from event to event:
three events a request, whatever its length.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf


@dataclass(frozen=True, slots=True)
class EngineModel:
    """How fast a replica is: seconds per prompt token, and per decode iteration (fixed, and per running request);
    ``slots`` requests at once. The defaults resemble an 8B model on one mid-range accelerator."""

    prefill_s_per_token: float = 0.00025
    iteration_s: float = 0.020
    iteration_s_per_request: float = 0.001
    slots: int = 16

    def work_s(self, prompt_tokens: float, output_tokens: float, running: float) -> float:
        """Busy seconds that a request costs a replica that keeps ``running`` requests decoding."""
        decode = self.iteration_s / running + self.iteration_s_per_request
        return prompt_tokens * self.prefill_s_per_token + output_tokens * decode


@dataclass(slots=True)
class Books:
    """What all replicas together have done so far: busy seconds, prompt tokens prefilled, output tokens, iterations."""

    busy_s: float = 0.0
    prefilled_tokens: int = 0
    output_tokens: float = 0.0
    iterations: float = 0.0


class Request:
    """One request: when it arrived, its lengths, the seconds to its first token (None: it has none yet), and how
    often it was answered in full."""

    __slots__ = ("arrived", "done", "number", "output_tokens", "prompt_tokens", "ttft_s")

    def __init__(self, number: int, arrived: float, prompt_tokens: int, output_tokens: int) -> None:
        self.number = number
        self.arrived = arrived
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.ttft_s: float | None = None
        self.done = 0


class Replica:
    """One replica from its order to its end. ``ready_at``: when it takes requests; ``draining``: it takes no
    more. What it does is added to ``books``."""

    def __init__(self, ordered_at: float, ready_at: float, model: EngineModel, books: Books) -> None:
        self.books = books
        self.ordered_at = ordered_at
        self.ready_at = ready_at
        self.model = model
        self.ready = False
        self.draining = False
        self.in_flight = 0
        self.version = 0
        self.waiting: deque[Request] = deque()
        self.prefilling: Request | None = None
        self.prefill_ends = inf
        self.decoding: list[tuple[float, int, Request]] = []
        self.progress = 0.0
        self.at = ready_at

    def advance(self, now: float) -> None:
        """Move decoding and the counters on to ``now``; no event may lie in between."""
        passed = now - self.at
        if passed <= 0.0:
            return
        self.at = now
        if self.in_flight:
            self.books.busy_s += passed
        running = len(self.decoding)
        if running and self.prefilling is None:
            steps = passed / (self.model.iteration_s + self.model.iteration_s_per_request * running)
            self.progress += steps
            self.books.iterations += steps
            self.books.output_tokens += steps * running

    def take(self, request: Request, now: float) -> bool:
        """Accept a request; True when that changes the replica's next event."""
        self.advance(now)
        self.in_flight += 1
        self.waiting.append(request)
        if self.prefilling is not None:
            return False
        self._prefill_next(now)
        return True

    def next_event(self) -> float:
        """When something happens next by itself; inf: never."""
        if self.prefilling is not None:
            return self.prefill_ends
        if not self.decoding:
            return inf
        per_step = self.model.iteration_s + self.model.iteration_s_per_request * len(self.decoding)
        return self.at + max(0.0, self.decoding[0][0] - self.progress) * per_step

    def happen(self, now: float) -> tuple[Request | None, list[Request]]:
        """Carry out the event that is due: who got a first token (or None), and which requests ended."""
        self.advance(now)
        first, ended = self.prefilling, []
        if first is not None:
            first.ttft_s = now - first.arrived
            self.books.prefilled_tokens += first.prompt_tokens
            if first.output_tokens <= 1:
                ended.append(first)
            else:
                heappush(self.decoding, (self.progress + first.output_tokens - 1, first.number, first))
            self._prefill_next(now)
        else:
            while self.decoding and self.decoding[0][0] <= self.progress + 1e-6:
                ended.append(heappop(self.decoding)[2])
        for request in ended:
            request.done += 1
        self.in_flight -= len(ended)
        return first, ended

    def _prefill_next(self, now: float) -> None:
        if self.waiting:
            request = self.waiting.popleft()
            self.prefilling = request
            self.prefill_ends = now + request.prompt_tokens * self.model.prefill_s_per_token
        else:
            self.prefilling = None
            self.prefill_ends = inf
