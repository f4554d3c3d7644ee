"""What the gateway costs beside nginx: ``python -m benchmarks.gateway [--quick] [--rounds N] [--profile]``.

The same upstream, the same load, one worker each, in interleaved rounds; the figure is CPU time of the proxy's process
tree, so that a busy machine disturbs little. Ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.processes import ENDPOINT, KEY, Missing, Proxy, compile_c, gateway, nginx, running

PROMPT = "word " * 270
LONG_PROMPT = "word " * 13_000


@dataclass(frozen=True)
class Work:
    """One kind of load: its name, the unit it is counted in, connections, answers per round, events per answer, the
    tick of the upstream in milliseconds, the goal for the ratio to nginx."""

    name: str
    unit: str
    connections: int
    answers: int
    events: int
    prompt: str
    goal: float
    per: int = 1


@dataclass(frozen=True)
class Figure:
    """One measurement: CPU seconds per unit, failures, units per second of wall time."""

    cpu: float
    failures: int
    rate: float


def works(quick: bool) -> list[Work]:
    """The loads; ``quick`` makes them small."""
    part = 5 if quick else 1
    return [
        Work("request (1.5 KB -> 1 KB)", "request", 32, 50_000 // part, 0, PROMPT, 2.0),
        Work("request (64 KB -> 1 KB)", "request", 32, 5_000 // part, 0, LONG_PROMPT, 4.0),
        Work("SSE chunk", "chunk", 100, 500 // part, 100, PROMPT, 1.4),
        Work("SSE chunk, 1000 streams", "chunk", 1000, 1000, 100 // part, PROMPT, 1.4),
    ]


def request_file(folder: Path, work: Work) -> Path:
    """The bytes of one request."""
    fields = {"model": ENDPOINT, "messages": [{"role": "user", "content": work.prompt}], "max_tokens": 100}
    if work.events:
        fields["stream"] = True
    body = json.dumps(fields, separators=(",", ":")).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\nAccept: */*\r\n"
        f"User-Agent: load\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    path = folder / "request"
    path.write_bytes(head.encode() + body)
    return path


def measure(load: Path, proxy: Proxy, work: Work, request: Path) -> Figure:
    """Run ``work`` once through ``proxy``."""
    before = proxy.cpu_seconds()
    command = [str(load), str(proxy.port), str(work.connections), str(work.answers), str(request)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    used = proxy.cpu_seconds() - before
    answers, failures, events, seconds = out.split()
    units = int(events) if work.events else int(answers)
    missing = work.answers * work.events - int(events) if work.events else 0
    return Figure(used / max(1, units), int(failures) + abs(missing), units / float(seconds))


def compare(folder: Path, work: Work, rounds: int) -> dict[str, list[Figure]]:
    """Both proxies under ``work``, ``rounds`` times in turn, after a warm-up."""
    request = request_file(folder, work)
    load = folder / "load"
    socket_path = folder / "engine.sock"
    found: dict[str, list[Figure]] = {}
    with ExitStack() as stack:
        stack.enter_context(running([str(folder / "upstream"), str(socket_path), str(work.events), "20"]))
        proxies = [stack.enter_context(start(folder, socket_path)) for start in (nginx, gateway)]
        warm = Work(work.name, work.unit, work.connections, max(work.answers // 10, work.connections), *_rest(work))
        for proxy in proxies:
            measure(load, proxy, warm, request)
        for _ in range(rounds):
            for proxy in proxies:
                found.setdefault(proxy.name, []).append(measure(load, proxy, work, request))
        for proxy in proxies:
            print(f"  {proxy.name}: {proxy.memory_bytes() / 1e6:.0f} MB resident", file=sys.stderr)
    socket_path.unlink(missing_ok=True)
    return found


def _rest(work: Work) -> tuple[int, str, float]:
    return work.events, work.prompt, work.goal


def row(work: Work, found: dict[str, list[Figure]]) -> tuple[str, bool]:
    """The table's line for ``work``, and whether the goal is met without a failure."""
    ratios = [g.cpu / n.cpu for g, n in zip(found["gateway"], found["nginx"], strict=True)]
    middle = statistics.median(ratios)
    failures = sum(figure.failures for figure in found["gateway"])
    scale, unit = (1e5, "s / 100k") if work.events else (1e3, "ms")
    cells = [
        work.name,
        *(f"{statistics.median(f.cpu for f in found[name]) * scale:.4g} {unit}" for name in ("nginx", "gateway")),
        f"{min(ratios):.2f} / {middle:.2f} / {max(ratios):.2f}",
        f"<= {work.goal}",
        f"{statistics.median(f.rate for f in found['gateway']):,.0f}",
        str(failures),
    ]
    return "| " + " | ".join(cells) + " |", middle <= work.goal and not failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status is 1 when a goal is missed or a request failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the work")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="loads whose name contains this")
    options = parser.parse_args(arguments)
    cores = os.cpu_count()
    print(f"Python {platform.python_version()}, {cores} cores, {options.rounds} interleaved rounds, one worker each\n")
    print("| CPU per | nginx | gateway | ratio min / median / max | must | per second | failed |")
    print("|---|---|---|---|---|---|---|", flush=True)
    good = True
    try:
        for work in works(options.quick):
            if options.only not in work.name:
                continue
            with tempfile.TemporaryDirectory(prefix="rb") as name:
                folder = Path(name)
                for program in ("upstream", "load"):
                    compile_c(program, folder)
                line, met = row(work, compare(folder, work, options.rounds))
            print(line, flush=True)
            good = good and met
    except Missing as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
