"""What the llama.cpp engine does on this machine, without Roost around it: ``python -m benchmarks.engine``.

For 1 and 2 threads, with and without speculation: seconds from the start to the first accepted connection and to the
first token, memory, tokens per second for free text and for text that repeats its prompt; the same beside busy
processes; and for how many prompts speculation leaves the greedy answer as it was.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from roost.domain.launch import LaunchSpec
from roost.engines.llama_cpp import LlamaCppEngine
from roost.models.catalog import SMOLLM2
from roost.testing.engine_contract import make_launch_request
from roost.testing.engine_process import EngineProcess, running_engine
from roost.testing.weights import smollm2_path

CHAT = "/v1/chat/completions"
FREE = "Tell me a story about a lighthouse keeper and a whale."
COPY = "Repeat this text three times: " + "The quick brown fox jumps over the lazy dog near the river bank. " * 3
PROMPTS = (
    *("Say hi", "Write a haiku about rain.", "List the numbers from 1 to 30.", "What is the capital of France?"),
    *("Write a Python function that adds two numbers, then write it again.", "Write the alphabet three times."),
    *("Translate 'good morning' into French, Spanish and German.", "Tell me a short story about a robot."),
    *(
        "Explain photosynthesis in three sentences.",
        "Summarize: Dogs bark. Dogs are loyal. Dogs are animals.",
        FREE,
        COPY,
    ),
)
DEFAULT_SPIN = "300000"
"""What OpenMP spins for where nobody says otherwise."""


@dataclass(frozen=True)
class Measured:
    """One engine's figures: seconds, MiB, tokens per second."""

    accepts_s: float
    token_s: float
    rss_mib: float
    free: float
    copy: float


async def ask(client: httpx.AsyncClient, prompt: str, tokens: int) -> dict[str, Any]:
    """A greedy answer."""
    messages = [{"role": "user", "content": prompt}]
    reply = await client.post(CHAT, json={"messages": messages, "max_tokens": tokens, "temperature": 0})
    body: dict[str, Any] = reply.raise_for_status().json()
    return body


async def rate(client: httpx.AsyncClient, prompt: str) -> float:
    """Tokens per second, the median of three answers."""
    answers = [await ask(client, prompt, 120) for _ in range(3)]
    return statistics.median(float(answer["timings"]["predicted_per_second"]) for answer in answers)


async def measure(spec: LaunchSpec, folder: Path) -> Measured:
    """Start an engine and look at it."""
    began = time.perf_counter()
    async with running_engine(spec, folder / "e.sock") as engine, engine.client(600) as client:
        accepts_s = time.perf_counter() - began
        await ask(client, "Hi", 1)
        token_s = time.perf_counter() - began
        free, copy = await rate(client, FREE), await rate(client, COPY)
        await asyncio.gather(*(ask(client, f"{FREE} {i}", 60) for i in range(4)))
        rss_mib = psutil.Process(engine.pid).memory_info().rss / 1024**2
    return Measured(accepts_s, token_s, rss_mib, free, copy)


async def answers(engine: EngineProcess) -> list[str]:
    """Greedy answers to all prompts, twice each: speculation learns from what it has seen."""
    async with engine.client(600) as client:
        for prompt in PROMPTS:
            await ask(client, prompt, 120)
        return [(await ask(client, prompt, 120))["choices"][0]["message"]["content"] for prompt in PROMPTS]


def launch(weights: Path, threads: int, *, speculation: bool, spin: str | None = None) -> LaunchSpec:
    """The engine's own launch spec; ``spin`` replaces its spin count."""
    model = replace(SMOLLM2, options={"speculation": "on"})
    request = make_launch_request(model, str(weights), threads=threads, speculative_decoding=speculation)
    spec = LlamaCppEngine().build(request)
    if spin is None:
        return spec
    (process,) = spec.processes
    return replace(spec, processes=(replace(process, env={**process.env, "GOMP_SPINCOUNT": spin}),))


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Beside ``count`` processes that never rest."""
    loops = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def show(name: str, found: Measured) -> None:
    """A row of the table."""
    times = f"{found.accepts_s:9.2f} {found.token_s:9.2f} {found.rss_mib:9.0f}"
    print(f"{name:34} {times} {found.free:9.0f} {found.copy:9.0f}", flush=True)


async def main(cache: Path, loops: int) -> None:
    """Print the tables."""
    weights = smollm2_path(cache)
    print(f"xllamacpp {LlamaCppEngine().version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'':34} {'accepts s':>9} {'token s':>9} {'MiB':>9} {'free t/s':>9} {'copy t/s':>9}")
    with tempfile.TemporaryDirectory(prefix="roost-") as name:
        folder = Path(name)
        for threads in (1, 2):
            for speculation in (True, False):
                spec = launch(weights, threads, speculation=speculation)
                word = "on" if speculation else "off"
                show(f"{threads} threads, speculation {word}", await measure(spec, folder))
        with busy(loops):
            for threads, spin in ((1, None), (2, None), (2, DEFAULT_SPIN)):
                spec = launch(weights, threads, speculation=False, spin=spin)
                word = f", spin count {spin}" if spin else ""
                show(f"{threads} threads, {loops} busy loops{word}", await measure(spec, folder))
        said = []
        for speculation in (True, False):
            async with running_engine(launch(weights, 1, speculation=speculation), folder / "e.sock") as engine:
                said.append(await answers(engine))
    same = sum(one == other for one, other in zip(*said, strict=True))
    print(f"greedy answers that speculation left unchanged: {same} of {len(PROMPTS)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.engine", description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="folder of the weights cache")
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 1, help="busy processes of the last rows")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.cache, arguments.busy))
