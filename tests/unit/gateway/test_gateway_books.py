"""What the gateway's books take replicas to keep of prompts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost.domain.routing import RouteEndpoint, RouteReplica, RoutingTable
from roost.gateway.books import CACHED_TOKENS, MOST_CACHED_TOKENS, Books
from roost.policy.prefix import BLOCK_TOKENS


@pytest.mark.parametrize(
    ("told", "slots", "tokens"),
    [
        ({"cache_tokens": 64_000, "context_length": 2048}, 2, 64_000),
        ({"context_length": 2048}, 2, 4096),
        ({"context_length": 2048}, None, CACHED_TOKENS),
        ({}, 2, CACHED_TOKENS),
        ({"cache_tokens": 1 << 40}, 2, MOST_CACHED_TOKENS),
    ],
)
async def test_a_replica_keeps_what_the_table_says_else_its_slots_contexts(
    told: dict[str, Any], slots: int | None, tokens: int
) -> None:
    replica = RouteReplica("rep-1", "http://127.0.0.1:1", slots=slots)
    route = RouteEndpoint("ep-1", "tiny", "me", "STARTED", True, "llama_cpp", replicas=(replica,), **told)
    books = Books(asyncio.get_running_loop())
    books.apply(RoutingTable.from_dict(RoutingTable("i", 1, 1, (route,)).to_dict()))
    index = books.replicas["rep-1"].prefix
    index.insert(range(2 * MOST_CACHED_TOKENS // BLOCK_TOKENS))
    assert len(index) == tokens // BLOCK_TOKENS


@pytest.mark.parametrize(("whole", "kept"), [(True, 4), (False, 3)])
async def test_engines_that_keep_prompts_whole_have_what_two_begin_with_twice(whole: bool, kept: int) -> None:
    replica = RouteReplica("rep-1", "http://127.0.0.1:1", slots=1)
    route = RouteEndpoint("ep-1", "tiny", "me", "STARTED", True, "llama_cpp", replicas=(replica,), cache_whole=whole)
    books = Books(asyncio.get_running_loop())
    books.apply(RoutingTable("i", 1, 1, (route,)))
    index = books.replicas["rep-1"].prefix
    index.insert([1, 2])
    index.insert([1, 3])
    assert len(index) == kept
