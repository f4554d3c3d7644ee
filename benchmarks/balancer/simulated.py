"""The simulated part: Roost's choice beside other routers' over a trace, on several engines. Called by ``__main__``."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.balancer.engine import EngineModel
from benchmarks.balancer.ours import Book, Ours
from benchmarks.balancer.rivals import (
    BoundedHash,
    CacheAware,
    LeastInFlight,
    RoundRobin,
    Router,
    Scored,
    Spread,
    TwoChoices,
)
from benchmarks.balancer.simulator import Outcome, simulate
from benchmarks.balancer.trace import requests

from roost.policy import balance
from roost.policy.prefix import PrefixIndex, prompt_of

OURS, LEAST, LLM_D = "expected TTFT (Roost)", "least in flight", "llm-d default-like"
ROUTERS: dict[str, Callable[[int], Router]] = {
    "round robin": RoundRobin,
    LEAST: LeastInFlight,
    "power of two choices": TwoChoices,
    "CHWBL, first block": BoundedHash,
    "CHWBL, 3 blocks": partial(BoundedHash, depth=3),
    "SGLang cache_aware": CacheAware,
    "SGLang cache_aware (0.5, 32, 1.0001)": partial(CacheAware, threshold=0.5, apart=32, times=1.0001),
    "AIBrix-like": Spread,
    LLM_D: Scored,
    OURS: Ours,
    "the same, no first token is seen": partial(Ours, streams=False),
}
BASE = EngineModel()
ENGINES = {
    "as stated": BASE,
    "slower (0.12 ms a token)": replace(BASE, prefill_s_per_token=0.00012),
    "faster (0.08 ms a token)": replace(BASE, prefill_s_per_token=0.00008),
    "2 million tokens of cache": replace(BASE, cache_tokens=2_000_000),
}
SEEDS = (1, 2, 3, 4, 5)
TUNING_SEEDS = (101, 102)
TUNING_S = 1800.0
QUICK_S = 600.0
DECISIONS = 2000
Job = tuple[str, Callable[[int], Router], EngineModel, int, bool, Path | None, float | None]


def _run(job: Job) -> Outcome:
    _, make, model, seed, spread, folder, length_s = job
    return simulate(requests(folder, seed, length_s, spread=spread), make(seed), model)


def tables(folder: Path | None, quick: bool) -> bool:
    """Print all tables; whether the targets are met."""
    seeds, engines = (SEEDS[:1], {"as stated": BASE}) if quick else (SEEDS, ENGINES)
    length_s = QUICK_S if quick else None
    met = True
    with Pool() as pool:
        for spread in (False, True):
            for name, model in engines.items():
                jobs = [(n, m, model, s, spread, folder, length_s) for n, m in ROUTERS.items() for s in seeds]
                found: dict[str, list[Outcome]] = {}
                for job, outcome in zip(jobs, pool.map(_run, jobs, chunksize=1), strict=True):
                    found.setdefault(job[0], []).append(outcome)
                arrivals = "arrivals spread over the record's steps" if spread else "arrivals as recorded"
                print(f"\nEngine {name}; {arrivals}; {len(found[OURS][0].ttft_s):,} requests, seeds {len(seeds)}:\n")
                print("\n".join(_table(found)))
                if not spread and model is BASE:
                    met = _met(found)
    return met


def _table(found: dict[str, list[Outcome]]) -> Iterator[str]:
    yield "| router | mean TTFT s (seeds) | median s | p99 s | prompt tokens computed, M | mean ÷ least in flight |"
    yield "|---|---|---|---|---|---|"
    for name, runs in found.items():
        means = [each.mean_s for each in runs]
        yield (
            f"| {name} | {mean(means):.2f} ({min(means):.2f}-{max(means):.2f}) "
            f"| {mean(each.quantile_s(0.5) for each in runs):.2f} | {mean(each.quantile_s(0.99) for each in runs):.2f} "
            f"| {mean(each.prefilled_tokens for each in runs) / 1e6:.1f} | {_ratio(found, name, LEAST):.3f} |"
        )


def _ratio(found: dict[str, list[Outcome]], one: str, other: str) -> float:
    return mean(each.mean_s for each in found[one]) / mean(each.mean_s for each in found[other])


def _met(found: dict[str, list[Outcome]]) -> bool:
    print("\n| figure | target | found | |\n|---|---|---|---|")
    met = True
    for other, goal in ((LEAST, 0.55), (LLM_D, 0.90)):
        ratio = _ratio(found, OURS, other)
        met &= ratio <= goal
        print(f"| mean TTFT ÷ {other} | ≤ {goal:.2f} | {ratio:.3f} | {'met' if ratio <= goal else 'not met'} |")
    return met


def decision_cost(replicas: int = 8, tokens: int = 12_000, decisions: int = DECISIONS) -> bool:
    """The CPU time of whole decisions (hashing, choosing, noting) on prompts that are new each time; whether the goal
    is met."""
    source = random.Random(1)
    books = [Book(64, PrefixIndex(500_000)) for _ in range(replicas)]
    spent = []
    for turn in range(decisions):
        text = "".join(source.choices(string.ascii_lowercase, k=tokens * 4 // 12))
        body: dict[str, Any] = {"messages": [{"role": "user", "content": text} for _ in range(12)]}
        began = time.thread_time()
        prompt = prompt_of(body)
        choice = balance.choose(books, prompt, now=1.0, turn=turn)
        assert choice is not None
        books[choice.index].prefix.insert(prompt.blocks)
        spent.append(time.thread_time() - began)
        books[choice.index].outstanding_tokens += choice.uncached_tokens
    spent.sort()
    median, high = (spent[int(decisions * share)] * 1e3 for share in (0.5, 0.99))
    print(
        f"\n| decision, {replicas} replicas, {tokens:,} tokens, of {decisions:,} | p99 ≤ 1 ms "
        f"| CPU p50 {median:.3f} ms, p99 {high:.3f} ms | {'met' if high <= 1.0 else 'not met'} |"
    )
    return high <= 1.0


def sweep(folder: Path | None) -> None:
    """Print how the mean TTFT changes with each constant, on seeds and a part of the trace kept for that."""
    print("\n| engine | constant | value | mean TTFT s | ÷ shipped |\n|---|---|---|---|---|")
    shipped = balance.IN_FLIGHT_TOKENS
    for name, model in ENGINES.items():
        normal = _swept(folder, model, Ours)
        for capacity in (0.25, 0.5, 1.0, 2.0, 4.0):
            found = _swept(folder, model, partial(Ours, capacity=capacity))
            print(f"| {name} | believed ÷ true cache | {capacity:g} | {found:.3f} | {found / normal:.3f} |")
        for tokens in (0, 16, 64, 256, 1024, 4096):
            balance.IN_FLIGHT_TOKENS = tokens
            found = _swept(folder, model, Ours)
            print(f"| {name} | IN_FLIGHT_TOKENS | {tokens} | {found:.3f} | {found / normal:.3f} |")
        balance.IN_FLIGHT_TOKENS = shipped


def _swept(folder: Path | None, model: EngineModel, make: Callable[[int], Router]) -> float:
    return mean(_run(("", make, model, seed, True, folder, TUNING_S)).mean_s for seed in TUNING_SEEDS)
