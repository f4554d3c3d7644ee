"""Reads the trace folder that ``--traces`` names, and draws requests from what it holds. Called by ``scenarios``."""

from __future__ import annotations

import csv
import gzip
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

Trace = list[tuple[float, int, int]]
"""Requests in order: seconds from the first, prompt tokens, output tokens."""

PART_S = 600.0
"""The length of a part of a client's record, over which its rate is given."""
WINDOW_PARTS = 12
MOST_REQUESTS = 30_000
MOST_PROMPT_TOKENS_PER_S = 25_000.0
"""More than the largest fleet of the benchmark could serve for ten minutes is no question of scaling."""


@dataclass(frozen=True, slots=True)
class Part:
    """Ten minutes of a client: when, requests a second, and the distribution of the gaps (gamma or Weibull)."""

    at_s: float
    rate_rps: float
    weibull: bool
    shape: float


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A distribution as its quantiles. Values in between are interpolated in a straight line; those of the topmost
    part, where the largest is far from all others, along a power, such that the mean is the recorded one."""

    points: Sequence[float]
    values: Sequence[float]
    power: float

    @classmethod
    def of(cls, points: Sequence[float], values: Sequence[float], mean: float) -> Quantiles:
        """With the given mean, as far as the quantiles admit it."""
        straight = sum((points[i + 1] - points[i]) * (values[i] + values[i + 1]) / 2 for i in range(len(points) - 2))
        share, low, high = points[-1] - points[-2], values[-2], values[-1]
        lacking = max(mean - straight - share * low, 1e-9)
        return cls(points, values, min(max(share * (high - low) / lacking - 1, 1.0), 100.0))

    def draw(self, random: Random) -> int:
        """A value of at least 1."""
        u = random.random()
        above = min(max(bisect_right(self.points, u), 1), len(self.points) - 1)
        low, high = self.points[above - 1], self.points[above]
        share = (u - low) / (high - low)
        if above == len(self.points) - 1:
            share **= self.power
        return max(1, round(self.values[above - 1] + share * (self.values[above] - self.values[above - 1])))


@dataclass(frozen=True, slots=True)
class Client:
    """One client of a multi-tenant service: what it does over its window, and its lengths."""

    name: str
    kind: str
    parts: Sequence[Part]
    prompt: Quantiles
    output: Quantiles
    prompt_mean: float


def read_requests(path: Path) -> Trace:
    """The requests of a file with the columns ``t_s``, ``prompt_tokens``, ``output_tokens``."""
    with gzip.open(path, "rt") as file:
        rows = csv.DictReader(file)
        return [(float(r["t_s"]), int(r["prompt_tokens"]), int(r["output_tokens"])) for r in rows]


def read_clients(folder: Path) -> list[tuple[Client, Client | None]]:
    """The clients in the order of the record, each with its busiest two hours (see ``busiest``), and with the busiest
    of the rest of its record that does not overlap them (None: there are none)."""
    lengths = json.loads((folder / "servegen_lengths.json").read_text())
    parts: dict[str, list[Part]] = {}
    with gzip.open(folder / "servegen_clients_14d.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            part = Part(float(row["t_s"]), float(row["rate_rps"]), row["family"] == "W", float(row["shape"]))
            parts.setdefault(row["client"], []).append(part)
    points = lengths["quantile_points"]
    read: list[tuple[Client, Client | None]] = []
    for name, told in lengths["clients"].items():
        most_rps = MOST_PROMPT_TOKENS_PER_S / told["prompt_mean"]
        first = busiest(parts[name], most_rps)
        ends_s = first[0].at_s + WINDOW_PARTS * PART_S
        before = [each for each in parts[name] if each.at_s < first[0].at_s]
        after = [each for each in parts[name] if each.at_s >= ends_s]
        second = max((busiest(rest, most_rps) for rest in (before, after)), key=_count)
        client = Client(
            name=name,
            kind=told["class"],
            parts=_from_zero(first),
            prompt=Quantiles.of(points, told["prompt_quantiles"], told["prompt_mean"]),
            output=Quantiles.of(points, told["output_quantiles"], told["output_mean"]),
            prompt_mean=told["prompt_mean"],
        )
        read.append((client, replace(client, parts=_from_zero(second)) if second else None))
    return read


def _count(parts: Sequence[Part]) -> float:
    return sum(each.rate_rps for each in parts) * PART_S


def _from_zero(parts: Sequence[Part]) -> list[Part]:
    return [replace(each, at_s=each.at_s - parts[0].at_s) for each in parts]


def busiest(parts: Sequence[Part], most_rps: float) -> list[Part]:
    """The two hours with the most requests of those that hold at most 30,000, and in no part more than ``most_rps``;
    empty if there are none. Parts without requests are absent from a record."""
    best: list[Part] = []
    most = 0.0
    for first in parts:
        within = [each for each in parts if 0 <= each.at_s - first.at_s < WINDOW_PARTS * PART_S]
        count = _count(within)
        if most < count <= MOST_REQUESTS and max(each.rate_rps for each in within) <= most_rps:
            best, most = within, count
    return best


def draw_requests(client: Client, random: Random) -> Trace:
    """The client's window, drawn anew: gaps from the part's distribution, scaled to fill the part."""
    drawn: Trace = []
    for part in client.parts:
        count = round(part.rate_rps * PART_S)
        if part.weibull:
            gaps = [random.weibullvariate(1.0, part.shape) for _ in range(count)]
        else:
            gaps = [random.gammavariate(part.shape, 1.0) for _ in range(count)]
        total = sum(gaps)
        at = part.at_s
        for gap in gaps:
            at += gap / total * PART_S
            drawn.append((at, client.prompt.draw(random), client.output.draw(random)))
    return drawn


def vary(trace: Trace, random: Random) -> Trace:
    """The same arrivals with the lengths dealt anew within each minute: what one recorded hour might have been."""
    minutes: dict[int, list[tuple[int, int]]] = {}
    for at, prompt, output in trace:
        minutes.setdefault(int(at // 60), []).append((prompt, output))
    for lengths in minutes.values():
        random.shuffle(lengths)
    return [(at, *minutes[int(at // 60)].pop()) for at, _, _ in trace]
