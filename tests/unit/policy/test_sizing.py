"""Sizing: the terms of what a replica needs, what a configuration has, and the sentence about it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.domain.hardware import Hardware, Resources
from roost.domain.model import Footprint
from roost.policy.sizing import (
    GIB,
    MIB,
    Demand,
    MemoryUse,
    Need,
    cached_tokens,
    estimated_kv_bytes_per_token,
    kv_bytes_per_token,
    memory_of,
    need_of,
    prompt_cache_bytes,
    size,
)

LLAMA_8B = Footprint(4_700_000_000, 131_072)
LLAMA_70B = Footprint(40_000_000_000, 327_680)
SMOLLM2 = Footprint(98_362_432, 23_040)
REPACKED = MemoryUse(copies_on_cpu=2.0)

HEADERS: dict[str, tuple[dict[str, object], int | None]] = {
    "grouped heads (Llama 3 8B)": (
        {"block_count": 32, "embedding_length": 4096, "attention.head_count": 32, "attention.head_count_kv": 8},
        131_072,
    ),
    "no groups (Llama 1 7B)": (
        {"block_count": 32, "embedding_length": 4096, "attention.head_count": 32},
        524_288,
    ),
    "heads wider than the width's share (Gemma 3 270M)": (
        {
            "block_count": 18,
            "embedding_length": 640,
            "attention.head_count": 4,
            "attention.head_count_kv": 1,
            "attention.key_length": 256,
            "attention.value_length": 256,
        },
        18_432,
    ),
    "heads that differ by layer, some without": (
        {
            "block_count": 4,
            "embedding_length": 1024,
            "attention.head_count": 8,
            "attention.head_count_kv": [0, 4, 0, 4],
        },
        4096,
    ),
    "no layer with a cache": (
        {"block_count": 2, "embedding_length": 64, "attention.head_count": 1, "attention.head_count_kv": [0, 0]},
        None,
    ),
    "a list where a number belongs": (
        {"block_count": [3], "embedding_length": 64, "attention.head_count": 1},
        None,
    ),
    "nothing": ({}, None),
}


def cpu(memory_bytes: int, threads: int = 1) -> Hardware:
    resources = Resources(threads, memory_bytes)
    return Hardware(f"{threads}x_cpu", "cpu", "cpu", threads, "none", round(memory_bytes / 1e9, 1), 0.0, resources)


def gpu(memory_gb: float, count: int = 1, main_memory: int = 64 * GIB) -> Hardware:
    resources = Resources(8 * count, main_memory * count, count)
    return Hardware(f"{count}x_test_gpu", "test_gpu", "test", count, "pcie", memory_gb, 0.0, resources)


@pytest.mark.parametrize("name", HEADERS)
def test_what_a_header_tells_of_a_token(name: str) -> None:
    entries, expected = HEADERS[name]
    header = {"general.architecture": "any", **{f"any.{key}": value for key, value in entries.items()}}
    assert kv_bytes_per_token(header) == expected


@pytest.mark.parametrize(
    ("demand", "on_accelerator", "need"),
    [
        pytest.param(
            Demand(SMOLLM2, 2048, 4, REPACKED),
            False,
            Need(2.0, 2 * 98_362_432, 23_040 * 2048 * 4, 256 * MIB, estimated=False),
            id="repacked on a CPU",
        ),
        pytest.param(
            Demand(SMOLLM2, 2048, 4, REPACKED),
            True,
            Need(1.0, 98_362_432, 23_040 * 2048 * 4, 256 * MIB, estimated=False),
            id="once on an accelerator",
        ),
        pytest.param(
            Demand(Footprint(10**10), 1000, 2, MemoryUse(overhead_bytes=0)),
            False,
            Need(1.0, 10**10, 200_000 * 2000, 0, estimated=True),
            id="a guess of the context",
        ),
        pytest.param(Demand(None, 2048), False, None, id="nothing known"),
    ],
)
def test_the_terms_of_what_is_needed(demand: Demand, on_accelerator: bool, need: Need | None) -> None:
    assert need_of(demand, on_accelerator=on_accelerator) == need


@pytest.mark.parametrize(
    ("weights", "token_bytes"),
    [
        pytest.param(SMOLLM2.weights_bytes, 23_040, id="SmolLM2 135M"),
        pytest.param(LLAMA_8B.weights_bytes, 131_072, id="Llama 3 8B"),
        pytest.param(LLAMA_70B.weights_bytes, 327_680, id="Llama 3 70B"),
    ],
)
def test_the_guess_is_near_what_is_known(weights: int, token_bytes: int) -> None:
    assert 0.75 * token_bytes < estimated_kv_bytes_per_token(weights) < 1.25 * token_bytes


def test_what_a_configuration_has() -> None:
    assert memory_of(cpu(4 * GIB, 2)) == 4 * GIB
    assert memory_of(gpu(80, 4)) == 288_000_000_000, "nine tenths of all four"
    assert memory_of(gpu(0)) is None, "nobody said"


@pytest.mark.parametrize(
    ("demand", "hardware", "fits"),
    [
        pytest.param(Demand(LLAMA_70B, 8192, 2), gpu(80), True, id="70B on 80 GB"),
        pytest.param(Demand(LLAMA_70B, 8192, 2), gpu(40), False, id="70B on 40 GB"),
        pytest.param(Demand(LLAMA_70B, 8192, 2), gpu(40, 2), True, id="70B on 2 x 40 GB"),
        pytest.param(Demand(LLAMA_70B, 131_072, 2), gpu(80), False, id="70B with all of its context on 80 GB"),
        pytest.param(Demand(LLAMA_70B, 8192, 2), gpu(0), True, id="memory that nobody told"),
        pytest.param(Demand(LLAMA_8B, 8192, 1, REPACKED), cpu(8 * GIB), False, id="8B, repacked, in 8 GiB"),
        pytest.param(Demand(LLAMA_8B, 8192, 1), cpu(8 * GIB), True, id="8B in 8 GiB"),
        pytest.param(
            Demand(LLAMA_8B, 8192, 1), gpu(80, main_memory=GIB), True, id="main memory does not count beside it"
        ),
        pytest.param(Demand(None, 10**9, 100), cpu(1), True, id="weights of unknown size"),
    ],
)
def test_what_fits_where(demand: Demand, hardware: Hardware, fits: bool) -> None:
    assert size(demand, hardware).fits is fits


def test_the_last_byte_counts() -> None:
    demand = Demand(SMOLLM2, 2048, 4, REPACKED)
    exact = 2 * 98_362_432 + 23_040 * 2048 * 4 + 256 * MIB
    assert size(demand, cpu(exact)).fits
    refused = size(demand, cpu(exact - 1))
    assert not refused.fits
    assert "needs 624 MiB" in refused.reason
    assert "has 623 MiB" in refused.reason, "never the same number for both"


@pytest.mark.parametrize(
    ("demand", "memory", "reason"),
    [
        pytest.param(
            Demand(SMOLLM2, 2048, 4, REPACKED),
            GIB,
            "A replica needs 624 MiB of memory (weights 2 x 94 MiB, context of 4 x 2048 tokens 180 MiB, "
            "engine 256 MiB), and 1x_cpu has 1024 MiB.",
            id="it fits",
        ),
        pytest.param(
            Demand(SMOLLM2, 8192, 4, REPACKED),
            GIB,
            "A replica needs 1164 MiB of memory (weights 2 x 94 MiB, context of 4 x 8192 tokens 720 MiB, "
            "engine 256 MiB), but 1x_cpu has 1024 MiB: choose larger hardware, "
            "a context_length of at most 6603 or at most 3 slots.",
            id="a shorter context or fewer slots do",
        ),
        pytest.param(
            Demand(SMOLLM2, 100_000, 1, REPACKED),
            GIB,
            "A replica needs 2641 MiB of memory (weights 2 x 94 MiB, context of 1 x 100000 tokens 2197 MiB, "
            "engine 256 MiB), but 1x_cpu has 1024 MiB: choose larger hardware or a context_length of at most 26414.",
            id="a shorter context does",
        ),
        pytest.param(
            Demand(Footprint(8 * GIB), 2048, 4),
            4 * GIB,
            "A replica needs 9897 MiB of memory (weights 8192 MiB, context of 4 x 2048 tokens 1448 MiB by estimate, "
            "engine 256 MiB), but 1x_cpu has 4096 MiB: choose larger hardware or smaller weights.",
            id="only more memory or other weights do",
        ),
        pytest.param(
            Demand(LLAMA_70B, 8192, 2),
            16 * GIB,
            "A replica needs 42.6 GiB of memory (weights 37.3 GiB, context of 2 x 8192 tokens 5120 MiB, "
            "engine 256 MiB), but 1x_cpu has 16.0 GiB: choose larger hardware or smaller weights.",
            id="large amounts in GiB",
        ),
        pytest.param(
            Demand(None, 2048), GIB, "The size of the weights is unknown, so no hardware is ruled out.", id="unknown"
        ),
    ],
)
def test_the_reason_is_in_numbers_and_says_what_to_do(demand: Demand, memory: int, reason: str) -> None:
    assert size(demand, cpu(memory)).reason == reason


def test_memory_that_nobody_told_is_said_to_be_unknown() -> None:
    assert size(Demand(SMOLLM2, 2048), gpu(0)).reason.endswith("; how much 1x_test_gpu has is unknown.")


FOOTPRINTS = st.none() | st.builds(Footprint, st.integers(1, 1 << 42), st.none() | st.integers(1, 1 << 22))
USES = st.builds(MemoryUse, st.floats(0, 3), st.floats(0, 3), st.integers(0, GIB))
DEMANDS = st.builds(Demand, FOOTPRINTS, st.integers(1, 1 << 20), st.integers(1, 256), USES)
HARDWARE = st.builds(cpu, st.integers(0, 1 << 44)) | st.builds(gpu, st.floats(0.1, 1000), st.sampled_from([1, 2, 4, 8]))


@given(DEMANDS, HARDWARE, st.integers(0, 1 << 44))
def test_more_memory_never_excludes(demand: Demand, hardware: Hardware, more: int) -> None:
    resources = replace(hardware.resources, memory_bytes=hardware.resources.memory_bytes + more)
    larger = replace(hardware, resources=resources, memory_gb=hardware.memory_gb + more / 1e9)
    assert size(demand, hardware).fits <= size(demand, larger).fits


@given(DEMANDS, HARDWARE, st.integers(0, 1 << 20), st.integers(0, 64), st.integers(0, 1 << 40))
def test_more_context_slots_or_weights_never_include(
    demand: Demand, hardware: Hardware, tokens: int, slots: int, weights: int
) -> None:
    footprint = demand.footprint
    heavier = None if footprint is None else replace(footprint, weights_bytes=footprint.weights_bytes + weights)
    greedier = Demand(heavier, demand.context_length + tokens, demand.slots + slots, demand.use)
    assert size(greedier, hardware).fits <= size(demand, hardware).fits


@given(DEMANDS, HARDWARE)
def test_advice_that_is_followed_helps(demand: Demand, hardware: Hardware) -> None:
    told = size(demand, hardware).reason
    for phrase, field in (("a context_length of at most ", "context_length"), (" or at most ", "slots")):
        if phrase in told:
            number = int("".join(letter for letter in told.split(phrase)[1].split()[0] if letter.isdigit()))
            advised = {"context_length": demand.context_length, "slots": demand.slots, field: number}
            followed = Demand(demand.footprint, advised["context_length"], advised["slots"], demand.use)
            assert size(followed, hardware).fits


@pytest.mark.parametrize("huge", [1 << 60, 10**30, 10**400], ids=["2^60", "10^30", "10^400"])
def test_absurd_claims_are_refused_like_large_ones(huge: int) -> None:
    for footprint in (Footprint(huge), Footprint(huge, huge), Footprint(1, huge)):
        told = size(Demand(footprint, huge, huge, REPACKED), cpu(GIB))
        assert not told.fits
        assert told.reason.endswith("but 1x_cpu has 1024 MiB: choose larger hardware or smaller weights.")


@given(DEMANDS, HARDWARE)
def test_the_terms_are_what_the_verdict_follows_from(demand: Demand, hardware: Hardware) -> None:
    sized = size(demand, hardware)
    if sized.need is not None and sized.has_bytes is not None:
        assert sized.fits == (sized.need.total_bytes <= sized.has_bytes)
        assert sized.need.weights_bytes >= 0
        assert sized.need.overhead_bytes == demand.use.overhead_bytes
        assert sized.need.estimated == (demand.footprint is not None and demand.footprint.kv_bytes_per_token is None)
    assert sized.reason.endswith(".")


CACHING = MemoryUse(overhead_bytes=0, prompt_cache_bytes=GIB)


def test_the_prompt_cache_is_half_of_what_is_left() -> None:
    assert prompt_cache_bytes(CACHING, 2 * GIB, 500 * MIB) == (2 * GIB - 500 * MIB) // 2
    assert prompt_cache_bytes(CACHING, 1 << 50, 500 * MIB) == GIB
    assert prompt_cache_bytes(CACHING, 400 * MIB, 500 * MIB) == 0
    assert prompt_cache_bytes(REPACKED, 2 * GIB, 500 * MIB) == 0


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 45), st.integers(0, 1 << 42))
def test_the_prompt_cache_never_takes_what_others_need(most: int, memory: int, needed: int) -> None:
    cache = prompt_cache_bytes(MemoryUse(prompt_cache_bytes=most), memory, needed)
    assert 0 <= cache <= most
    assert cache == 0 or cache + needed <= memory


def test_a_replica_keeps_its_slots_contexts_and_what_its_prompt_cache_holds() -> None:
    weights, per_token = Footprint(100 * MIB, 1024), 1024
    demand = Demand(weights, 2048, 2, CACHING)
    assert cached_tokens(demand, cpu(8 * GIB)) == 2 * 2048 + GIB // per_token
    left = 200 * MIB - 100 * MIB - 2 * 2048 * per_token
    assert cached_tokens(demand, cpu(200 * MIB)) == 2 * 2048 + left // 2 // per_token
    assert cached_tokens(demand, None) == 2 * 2048
    assert cached_tokens(replace(demand, footprint=None), cpu(8 * GIB)) == 2 * 2048
    assert cached_tokens(replace(demand, use=REPACKED), cpu(8 * GIB)) == 2 * 2048


@given(DEMANDS, HARDWARE)
def test_no_replica_keeps_less_than_its_slots_contexts(demand: Demand, hardware: Hardware) -> None:
    caching = replace(demand, use=replace(demand.use, prompt_cache_bytes=8 * GIB))
    assert cached_tokens(caching, hardware) >= demand.context_length * demand.slots
