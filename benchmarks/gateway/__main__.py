"""What the gateway costs beside other proxies: ``python -m benchmarks.gateway [--quick] [--peers nginx,roost]``.

The same upstream on loopback, the same load, one worker each, all in one run: in a round every load goes through every
proxy in turn; each round starts all processes anew. Costs are CPU time of a proxy's process tree, so that a busy
machine disturbs little. Ratios are taken within a round. The exit status is 1 when a must is missed, 2 when a peer is
missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.gateway import processes
from benchmarks.gateway.install import Missing, compile_c
from benchmarks.gateway.measure import FIGURES, Figures, measure_round
from benchmarks.gateway.peers import PEERS, Site
from benchmarks.gateway.processes import Cores, Proxy
from benchmarks.gateway.verdicts import MISSED, NAMES, ROOST, TARGETS, Row, goals_met, judge, table


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge; the exit status."""
    options = _options(arguments)
    cores = Cores.split(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores.rest)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the contexts end their processes
    where = "unix sockets" if options.unix else "loopback TCP"
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {options.rounds} interleaved rounds, one worker "
        f"and one core for each proxy, upstream by {where}\n",
        flush=True,
    )
    lost: dict[str, str] = {}
    try:
        rounds = list(_rounds(options, cores, lost))
    except Missing as error:
        print(error, file=sys.stderr)
        return 2
    rows = [judge(target, rounds) for target in TARGETS if target.peer in (None, *options.peers)]
    rows = [row for row in rows if options.only in row.target.figure or row.target.figure == "failed"]
    _print(rows, rounds, lost)
    if options.json:
        _write(options.json, rows, rounds, lost)
    if any(row.verdict == MISSED for row in rows):
        return 1
    return 2 if lost else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the work")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=",".join(PEERS), help=f"some of {', '.join(PEERS)}, with commas between")
    parser.add_argument(
        "--unix", action="store_true", help="reach the upstream by a unix socket (nginx, haproxy, roost)"
    )
    parser.add_argument("--only", default="", help=f"figures whose name contains this: {', '.join(FIGURES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures of all rounds")
    options = parser.parse_args(arguments)
    options.peers = options.peers.split(",")
    unknown = sorted({*options.peers} - {*PEERS})
    if unknown:
        parser.error(f"--peers: {', '.join(unknown)} is none of {', '.join(PEERS)}")
    return options


def _rounds(options: argparse.Namespace, cores: Cores, lost: dict[str, str]) -> Iterator[dict[str, Figures]]:
    with tempfile.TemporaryDirectory(prefix="rb") as name:
        for program in ("upstream", "load"):
            compile_c(program, Path(name))
        for index in range(options.rounds):
            print(f"round {index + 1} of {options.rounds} ...", file=sys.stderr, flush=True)
            begun = time.monotonic()
            with _proxies(Path(name), index, options, cores, lost) as (site, proxies):
                print(f"all started after {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
                yield measure_round(site, proxies, lost, quick=options.quick, only=options.only)


@contextmanager
def _proxies(
    folder: Path, index: int, options: argparse.Namespace, cores: Cores, lost: dict[str, str]
) -> Iterator[tuple[Site, Mapping[str, Proxy]]]:
    """All proxies, started anew; those that cannot be are put in ``lost``."""
    with ExitStack() as stack:
        upstream = stack.enter_context(processes.upstream(folder, cores))
        stack.callback(upstream.socket.unlink)
        proxies = {}
        for peer in PEERS:
            if peer not in options.peers or peer in lost:
                continue
            site = Site(folder / f"{index}-{peer}", upstream, cores, options.unix)
            site.folder.mkdir()
            try:
                proxies[peer] = stack.enter_context(PEERS[peer](site))
            except Missing as error:
                if peer == ROOST:
                    raise Missing(f"Roost's gateway worker: {error}") from None
                lost[peer] = str(error)
        yield Site(folder, upstream, cores), proxies


def _print(rows: Sequence[Row], rounds: Sequence[Mapping[str, Figures]], lost: Mapping[str, str]) -> None:
    print(table(rows))
    met, claims = goals_met(rows)
    print(f"\nGoals met: {met} of {claims}. Musts missed: {sum(row.verdict == MISSED for row in rows)}.")
    for peer, reason in lost.items():
        print(f"Missing: {NAMES[peer]}: {reason}")
    for figure in ("request", "long request", "chunk 200", "chunk 1000"):
        each = [found[ROOST] for found in rounds if ROOST in found]
        if each and f"rate {figure}" in each[-1]:
            rate, own, rest = (each[-1][f"{what} {figure}"] for what in ("rate", "busy", "busy rest"))
            print(
                f"{figure}: {rate:,.0f} per second through Roost, which used {own:.0%} of its core; "
                f"upstream and load generator {rest:.0%} of one"
            )


def _write(path: Path, rows: Sequence[Row], rounds: Sequence[Mapping[str, Figures]], lost: Mapping[str, str]) -> None:
    judged = [
        {
            "figure": row.target.title,
            "against": row.target.peer,
            "median_least_greatest": row.value,
            "verdict": row.verdict,
        }
        for row in rows
    ]
    document = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rows": judged,
        "rounds": rounds,
        "missing": lost,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
