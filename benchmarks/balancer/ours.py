"""Roost's own choice: the functions that the gateway uses, and its books. Called by ``simulator``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.balancer.engine import Replica, Running
from benchmarks.balancer.trace import BLOCK_TOKENS as TRACE_BLOCK_TOKENS

from roost.policy import balance
from roost.policy.prefix import BLOCK_TOKENS, PrefixIndex, Prompt

PARTS = TRACE_BLOCK_TOKENS // BLOCK_TOKENS
LONG_AGO_S = -1e6


@dataclass(slots=True)
class Book:
    """What a gateway knows of a replica."""

    slots: int
    prefix: PrefixIndex
    in_flight: int = 0
    outstanding_tokens: int = 0
    ready_at: float = LONG_AGO_S


class Ours:
    """``capacity``: what the gateway believes the cache to be, as a factor of what it is. ``streams`` False: it learns
    of no first token before a request's end."""

    def __init__(self, seed: int, capacity: float = 1.0, streams: bool = True) -> None:
        self.turn = seed
        self.capacity = capacity
        self.streams = streams
        self.books: list[Book] = []

    def pick(self, running: Running, replicas: Sequence[Replica], now: float) -> int | None:
        if not self.books:
            self.books = [
                Book(each.model.slots, PrefixIndex(int(each.model.cache_tokens * self.capacity))) for each in replicas
            ]
        request = running.request
        # A block of the trace stands for several of the gateway's; their ids need only be as different as its own.
        blocks = [hash((block, part)) for block in request.blocks for part in range(PARTS)]
        prompt = Prompt(blocks[: request.prompt_tokens // BLOCK_TOKENS], request.prompt_tokens)
        self.turn += 1
        choice = balance.choose(self.books, prompt, now=now, turn=self.turn)
        if choice is None:
            return None
        book = self.books[choice.index]
        book.in_flight += 1
        book.outstanding_tokens += choice.uncached_tokens
        book.prefix.insert(prompt.blocks)
        running.uncached_tokens = choice.uncached_tokens
        return choice.index

    def first(self, running: Running) -> None:
        if self.streams:
            self.books[running.index].outstanding_tokens -= running.uncached_tokens

    def ended(self, running: Running) -> None:
        self.books[running.index].in_flight -= 1
        if not self.streams:
            self.books[running.index].outstanding_tokens -= running.uncached_tokens
