"""One round of the benchmark: every load through every proxy in turn. Called by ``__main__``.

A round's figures: ``request``, ``long request`` (CPU seconds per request), ``chunk 200``, ``chunk 1000`` (CPU seconds
per event), ``added p50`` (microseconds over asking the upstream directly), ``stream memory`` (bytes per open stream),
``failed`` (answers that were not what the upstream sends); and, of each load, ``rate`` (units per second), ``busy`` and
``busy rest`` (the shares of a core that the proxy used, and the upstream and the load generator together).
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.gateway.install import Missing
from benchmarks.gateway.peers import Site, request_bytes
from benchmarks.gateway.processes import Proxy, cpu_seconds, running

PROMPT = "word " * 270
LONG_PROMPT = "word " * 13_000
STREAMS = 1000
KEPT, INTERVAL_US = 4, 10_000
"""The quiet load: so many kept connections, a request every so often, to the upstream and to the proxy in turn."""

PAUSE, SLOW_PAUSE = 25, 500
"""Ticks for which a stream stays open for the measurement of memory, so that all are open at once."""
LONGEST_S = 300.0

Figures = dict[str, float]


@dataclass(frozen=True)
class Load:
    """One kind of closed load: connections, answers, events per answer (0: no stream)."""

    figure: str
    connections: int
    answers: int
    events: int = 0
    prompt: str = PROMPT
    pause: int = 0


@dataclass(frozen=True)
class Amounts:
    """How much of everything one proxy gets per round."""

    requests: int
    long_requests: int
    streams: int
    events: int
    quiet_requests: int

    def loads(self) -> tuple[Load, ...]:
        """The loads whose figure is CPU time."""
        return (
            Load("chunk 1000", STREAMS, STREAMS, self.events),
            Load("chunk 200", 200, self.streams, self.events),
            Load("request", 32, self.requests),
            Load("long request", 32, self.long_requests, prompt=LONG_PROMPT),
        )


FIGURES = ("stream memory", "chunk 1000", "chunk 200", "request", "long request", "added p50")
"""In the order in which they are measured: memory first, of processes that have just started."""
Step = Callable[[Site, Proxy, Figures, Amounts], None]

SLOW = {"fastapi": Amounts(600, 300, 200, 50, 250), "litellm": Amounts(400, 150, 200, 20, 250)}
SLOW_QUICK = {"fastapi": Amounts(200, 100, 200, 10, 100), "litellm": Amounts(100, 50, 200, 10, 100)}
"""Proxies that cost a hundred times as much get less to do. Their streams are shorter, so that what a request costs has
a larger part in their figure per event; in a quick run they get no thousand streams."""


def amounts_of(peer: str, quick: bool) -> Amounts:
    """What ``peer`` is given per round."""
    if quick:
        return SLOW_QUICK.get(peer, Amounts(10_000, 1_500, 200, 50, 100))
    return SLOW.get(peer, Amounts(40_000, 5_000, 600, 100, 250))


def measure_round(
    site: Site, proxies: Mapping[str, Proxy], lost: dict[str, str], *, quick: bool = False, only: str = ""
) -> dict[str, Figures]:
    """The figures of each peer whose names contain ``only``; the peers that break are put in ``lost``, with the reason,
    and left out."""
    found: dict[str, Figures] = {peer: {"failed": 0.0} for peer in proxies}
    loads: list[Step] = [partial(_cpu, index=index) for index in range(len(FIGURES) - 2)]
    for figure, step in zip(FIGURES, (_memory, *loads, _added), strict=True):
        for peer, proxy in proxies.items():
            try:
                if only in figure and peer not in lost:
                    step(site, proxy, found[peer], amounts_of(peer, quick))
            except Missing as error:
                lost[peer] = str(error)
    return {peer: figures for peer, figures in found.items() if peer not in lost}


def _memory(site: Site, proxy: Proxy, figures: Figures, amounts: Amounts) -> None:
    """Growth of the resident memory from idle to the peak with all streams open for the first time, per stream."""
    if amounts in SLOW_QUICK.values():
        return
    for warm in (Load("", 4, 40), Load("", 4, 8, 5)):
        _closed(site, proxy, warm)
    idle = proxy.memory_bytes()
    pause = SLOW_PAUSE if amounts in SLOW.values() else PAUSE
    _, failed, peak = _closed(site, proxy, Load("", STREAMS, STREAMS, 5, pause=pause), watch=True)
    figures["stream memory"] = (peak - idle) / STREAMS
    figures["failed"] += failed


def _cpu(site: Site, proxy: Proxy, figures: Figures, amounts: Amounts, *, index: int) -> None:
    load = amounts.loads()[index]
    if load.connections < STREAMS:  # else the load for the memory came just before
        warm = Load("", load.connections, max(load.connections, load.answers // 50), min(load.events, 2), load.prompt)
        _closed(site, proxy, warm)
    elif amounts in SLOW_QUICK.values():
        return
    before, upstream_before = proxy.cpu_seconds(), cpu_seconds(site.upstream.process.pid)
    (answers, events, seconds, load_cpu), failed, _ = _closed(site, proxy, load)
    used = proxy.cpu_seconds() - before
    rest = load_cpu + cpu_seconds(site.upstream.process.pid) - upstream_before
    figures[load.figure] = used / max(1.0, events if load.events else answers)
    figures[f"rate {load.figure}"] = (events if load.events else answers) / seconds
    figures[f"busy {load.figure}"] = used / seconds
    figures[f"busy rest {load.figure}"] = rest / seconds
    figures["failed"] += failed


def _closed(
    site: Site, proxy: Proxy, load: Load, *, watch: bool = False
) -> tuple[tuple[float, float, float, float], int, int]:
    """Answers, events, seconds and the generator's CPU seconds; failures; with ``watch`` the proxy's peak of memory."""
    exact = 0 if load.events or proxy.name.startswith("LiteLLM") else site.upstream.length
    request = _request_file(
        site, request_bytes(load.prompt, load.events or 100, stream=load.events > 0, pause=load.pause)
    )
    arguments: list[object] = [proxy.port, load.connections, load.answers, request, exact, load.events]
    peak, tree = 0, proxy.tree()
    with _load_generator(site, "closed", arguments) as process:
        while watch and process.poll() is None:
            peak = max(peak, sum(p.memory_info().rss for p in tree))
            time.sleep(0.05)
        out = _output(process)
    answers, failed, events, seconds, cpu = map(float, out.split())
    return (answers, events, seconds, cpu), int(failed), peak


def _asks(load: Load) -> bytes:
    return request_bytes(load.prompt, load.events or 100, stream=load.events > 0, pause=load.pause)


@contextmanager
def _load_generator(site: Site, mode: str, arguments: Sequence[object]) -> Iterator[subprocess.Popen[str]]:
    command = [str(site.upstream.socket.parent / "load"), mode, *map(str, arguments)]
    with running(command, site.cores.rest, stdout=subprocess.PIPE) as process:
        yield process


def _output(process: subprocess.Popen[str]) -> str:
    try:
        out: str = process.communicate(timeout=LONGEST_S)[0]
    except subprocess.TimeoutExpired:
        raise Missing(f"a load did not end within {LONGEST_S:.0f} s") from None
    if process.returncode:
        raise Missing("the load generator could not connect any more")
    return out


def _added(site: Site, proxy: Proxy, figures: Figures, amounts: Amounts) -> None:
    exact = 0 if proxy.name.startswith("LiteLLM") else site.upstream.length
    request = _request_file(site, request_bytes(PROMPT, 100, stream=False))
    arguments: list[object] = [
        site.upstream.port,
        proxy.port,
        KEPT,
        amounts.quiet_requests,
        request,
        exact,
        INTERVAL_US,
    ]
    with _load_generator(site, "paced", arguments) as process:
        out = _output(process)
    _, failed, direct, _, through, _ = out.split()
    figures["added p50"] = float(through) - float(direct)
    figures["direct p50"] = float(direct)
    figures["failed"] += int(failed)


def _request_file(site: Site, request: bytes) -> Path:
    path = site.upstream.socket.parent / "request"
    path.write_bytes(request)
    return path
