"""What the figures say: the table with every peer, goals and musts beside Roost's. Pure; called by ``__main__``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Rounds = Sequence[Mapping[str, Mapping[str, float]]]
"""For each round, by peer, by figure."""

ROOST, NGINX = "roost", "nginx"
NAMES = {
    NGINX: "nginx",
    "haproxy": "haproxy",
    "vllm-router": "vllm-router",
    "fastapi": "FastAPI + httpx",
    "litellm": "LiteLLM 1.80.5",
    ROOST: "Roost",
}
GOAL_MET, MUST_MET, MISSED, UNKNOWN = "goal met", "must met", "MISSED", "not measured"


@dataclass(frozen=True)
class Target:
    """What one figure of Roost's should be: ``figure`` over that of ``peer`` (None: by itself) is at most ``goal``, and
    in no case more than ``must``. ``scale`` makes a number that one can read out of the figure. Targets that share a
    ``claim`` make one: it counts as met when all of them are."""

    claim: str
    title: str
    figure: str
    scale: float
    peer: str | None
    goal: float
    must: float


TARGETS = (
    Target("request", "CPU ms / request (1.5 KB → 1 KB)", "request", 1e3, NGINX, 1.5, 2.0),
    Target("router", "the same ÷ vllm-router", "request", 1e3, "vllm-router", 0.5, 0.7),
    Target("router", "the same ÷ LiteLLM", "request", 1e3, "litellm", 1 / 200, 1 / 100),
    Target("chunk", "CPU s / 100k SSE chunks, 200 streams", "chunk 200", 1e5, NGINX, 1.15, 1.4),
    Target("chunk", "CPU s / 100k SSE chunks, 1,000 streams", "chunk 1000", 1e5, NGINX, 1.15, 1.4),
    Target("streams", "failed answers", "failed", 1, None, 0, 0),
    Target("streams", "KB / stream", "stream memory", 1 / 1024, None, 16, 30),
    Target("latency", "added p50 µs / request, 50 requests/s", "added p50", 1, NGINX, 2, 3),
    Target("long", "CPU ms / request (64 KB → 1 KB)", "long request", 1e3, NGINX, 2.5, 4),
)


@dataclass(frozen=True)
class Row:
    """One target's outcome: each peer's figure, Roost's measured value (a ratio or the figure itself; its median, least
    and greatest over the rounds; None: not measured), the verdict."""

    target: Target
    figures: Mapping[str, float]
    value: tuple[float, float, float] | None
    verdict: str


def judge(target: Target, rounds: Rounds) -> Row:
    """The row of ``target``. Ratios are taken within a round; failures are added up, all else is a median."""
    peers = [peer for peer in NAMES if any(target.figure in each.get(peer, {}) for each in rounds)]
    figures = {
        peer: target.scale * _middle(target, [each[peer][target.figure] for each in rounds if peer in each])
        for peer in peers
    }
    values = [found for each in rounds if (found := _value(target, each)) is not None]
    if not values:
        return Row(target, figures, None, UNKNOWN)
    middle = _middle(target, values)
    verdict = GOAL_MET if middle <= target.goal else MUST_MET if middle <= target.must else MISSED
    return Row(target, figures, (middle, min(values), max(values)), verdict)


def _middle(target: Target, values: Sequence[float]) -> float:
    return sum(values) if target.figure == "failed" else statistics.median(values)


def _value(target: Target, figures: Mapping[str, Mapping[str, float]]) -> float | None:
    own = figures.get(ROOST, {}).get(target.figure)
    if own is None or target.peer is None:
        return own if own is None else own * target.scale
    other = figures.get(target.peer, {}).get(target.figure)
    return None if other is None else own / other


def goals_met(rows: Sequence[Row]) -> tuple[int, int]:
    """How many claims meet their goals in every row, of how many that were measured in full."""
    claims: dict[str, list[str]] = {}
    for row in rows:
        claims.setdefault(row.target.claim, []).append(row.verdict)
    whole = [verdicts for verdicts in claims.values() if UNKNOWN not in verdicts]
    return sum(all(verdict == GOAL_MET for verdict in verdicts) for verdicts in whole), len(whole)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown. A peer's figure is followed by its ratio to nginx's where that is what is judged."""
    peers = [peer for peer in NAMES if any(peer in row.figures for row in rows)]
    head = ["figure", *(NAMES[peer] for peer in peers), "Roost's: median (range)", "goal", "must", "verdict"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [_cell(row, peer) for peer in peers]
        lines.append([row.target.title, *cells, _measured(row), *_bounds(row.target), row.verdict])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(row: Row, peer: str) -> str:
    target = row.target
    if peer not in row.figures or (target.peer not in (None, NGINX) and peer not in (ROOST, target.peer)):
        return ""
    shown = number(row.figures[peer])
    if target.peer == NGINX and NGINX in row.figures and peer not in (NGINX, ROOST):
        shown += f" ({number(row.figures[peer] / row.figures[NGINX])})"
    return shown


def _measured(row: Row) -> str:
    if row.value is None:
        return ""
    middle, least, greatest = (ratio(value) if row.target.peer else number(value) for value in row.value)
    sign = f"÷ {NAMES[row.target.peer]}: " if row.target.peer else ""
    return f"{sign}**{middle}**" + (f" ({least} .. {greatest})" if row.target.figure != "failed" else "")


def _bounds(target: Target) -> tuple[str, str]:
    show = ratio if target.peer else number
    return tuple(show(bound) if bound == 0 else f"≤ {show(bound)}" for bound in (target.goal, target.must))  # type: ignore[return-value]


def number(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio(value: float) -> str:
    """A ratio; a small one as a fraction of one."""
    return f"1/{1 / value:.0f}" if 0 < value < 0.05 else f"{value:.2f}"
