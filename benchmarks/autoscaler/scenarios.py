"""The scenarios: what arrives, within which bound the first token shall come. Called by ``runs``.

Recorded ones need the trace folder; without it, synthetic ones of the same kind take their place. Which clients tuning
may see is fixed by a rule: of the clients in the order of the record, every other one, from the first. The others
come with two windows, as the first of them was looked at once between two versions of the policy (docs/autoscaling.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import cos, log, pi
from pathlib import Path
from random import Random

from benchmarks.autoscaler.traces import (
    PART_S,
    WINDOW_PARTS,
    Client,
    Trace,
    draw_requests,
    read_clients,
    read_requests,
    vary,
)

SLO_S = 2.0
LONG_SLO_S = 10.0
LONG_PROMPTS = 2000.0
"""Where prompts average this many tokens, the bound is the long one: prefill alone takes seconds."""
STEP_AT_S = 600.0
SECOND = ", second"
"""Marks the second window of a client."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """``draw`` gives its requests for a random source; replicas cost over ``length_s``. ``tuning``: whether tuning may
    look at it."""

    name: str
    draw: Callable[[Random], Trace]
    length_s: float
    slo_s: float = SLO_S
    tuning: bool = True
    step_at_s: float | None = None


def scenarios(folder: Path | None) -> list[Scenario]:
    """All of them, the same for every run; ``folder`` None: synthetic ones stand in for the recorded."""
    return [
        Scenario("step 1 to 8 rps", _step, 3000.0, step_at_s=STEP_AT_S),
        Scenario("diurnal", _diurnal, 7200.0),
        *(_synthetic() if folder is None else _recorded(folder)),
    ]


def _recorded(folder: Path) -> list[Scenario]:
    conv = read_requests(folder / "azure2023_conv.csv.gz")
    code = read_requests(folder / "azure2023_code.csv.gz")
    return [
        Scenario("azure conv", lambda random: vary(conv, random), 3600.0),
        Scenario("azure code", lambda random: vary(code, random), 3600.0, LONG_SLO_S),
        *_clients(folder),
    ]


def _clients(folder: Path) -> Iterator[Scenario]:
    for index, (first, second) in enumerate(read_clients(folder)):
        yield _client(first, "", tuning=index % 2 == 0)
        if index % 2 and second is not None:
            yield _client(second, SECOND, tuning=False)


def _client(client: Client, which: str, *, tuning: bool) -> Scenario:
    slo = LONG_SLO_S if client.prompt_mean >= LONG_PROMPTS else SLO_S
    name = f"client {client.name} {client.kind}{which}"
    return Scenario(name, lambda random: draw_requests(client, random), WINDOW_PARTS * PART_S, slo, tuning)


def _synthetic() -> list[Scenario]:
    return [
        Scenario("bursts", lambda random: _on_off(random, 20.0, (10.0, 60.0), 2000), 3600.0, LONG_SLO_S),
        Scenario("on and off", lambda random: _on_off(random, 6.0, (120.0, 300.0), 1150), 3600.0, tuning=False),
    ]


def _lengths(random: Random, prompt_mean: float = 1150.0, output_mean: float = 210.0) -> tuple[int, int]:
    """Lognormal lengths of the given means."""

    def draw(mean: float) -> int:
        return min(16_000, max(1, round(random.lognormvariate(log(mean) - 0.32, 0.8))))

    return draw(prompt_mean), draw(output_mean)


def _poisson(random: Random, length_s: float, most_rps: float, rate: Callable[[float], float]) -> Trace:
    drawn: Trace = []
    at = 0.0
    while (at := at + random.expovariate(most_rps)) < length_s:
        if random.random() * most_rps < rate(at):
            drawn.append((at, *_lengths(random)))
    return drawn


def _step(random: Random) -> Trace:
    """Ten minutes at one request a second, half an hour at eight, ten minutes at one."""
    return _poisson(random, 3000.0, 8.0, lambda at: 8.0 if STEP_AT_S <= at < 2400.0 else 1.0)


def _diurnal(random: Random) -> Trace:
    """A day squeezed into two hours, between one half and six requests a second."""
    return _poisson(random, 7200.0, 6.0, lambda at: 3.25 - 2.75 * cos(2 * pi * at / 7200.0))


def _on_off(random: Random, rps: float, lasts: tuple[float, float], prompt_mean: float) -> Trace:
    """Bursts of ``rps`` that last ``lasts[0]`` seconds on average, with pauses of ``lasts[1]``, over an hour."""
    drawn: Trace = []
    at = 0.0
    while at < 3600.0:
        ends = at + random.expovariate(1 / lasts[0])
        while (at := at + random.expovariate(rps)) < ends:
            drawn.append((at, *_lengths(random, prompt_mean, 100.0)))
        at = ends + random.expovariate(1 / lasts[1])
    return drawn
