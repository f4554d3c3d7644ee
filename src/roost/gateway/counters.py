"""Numbers of the gateway workers in shared memory, and their Prometheus text.

Each worker writes the int64 cells of its own file ``run/counters-<index>`` (``.1``, ``.2``, … while the one before it
still finishes its requests); any worker reads all files and renders the sum. Counters go on over a worker's restart;
gauges count only while their writer lives. It must never be slow to write: an update is one addition in a list, copied
to the mapped file once a second.
"""

from __future__ import annotations

import mmap
import os
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

from roost.gateway.own_file import claim

LAYOUT = 1
"""Changes when the meaning of a cell changes; files of another layout are begun anew."""
KINDS = ("chat", "completions", "embeddings", "rerank", "health", "ready", "metrics", "relay")
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx", "aborted")
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds of the histograms in seconds."""
COUNTS = (
    ("roost_gateway_retries_total", "Requests sent to an upstream a second time."),
    ("roost_gateway_upstream_failures_total", "Upstream connections that failed or broke off."),
    ("roost_gateway_client_aborts_total", "Requests whose client hung up before the answer's end."),
    ("roost_gateway_held_total", "Requests that were held for an endpoint to become ready."),
    ("roost_gateway_refused_total", "Requests refused by the gateway itself."),
    ("roost_gateway_received_bytes_total", "Bytes of request bodies."),
    ("roost_gateway_sent_bytes_total", "Bytes of answers."),
)
GAUGES = (
    ("roost_gateway_connections", "Open client connections."),
    ("roost_gateway_in_flight", "Requests on replicas."),
    ("roost_gateway_held", "Requests held now."),
)

_HEADER = 4  # layout, pid, start of the pid's process, unused
REQUESTS = _HEADER
COUNT = REQUESTS + len(KINDS) * len(CLASSES)
GAUGE = COUNT + len(COUNTS)
SECONDS = GAUGE + len(GAUGES)
_HISTOGRAM = len(BOUNDS) + 2  # buckets, the one above all bounds, the sum in microseconds
TTFT = SECONDS + _HISTOGRAM
SIZE = TTFT + _HISTOGRAM

RETRIES, FAILURES, ABORTS, HELD, REFUSED, RECEIVED, SENT = range(COUNT, GAUGE)
CONNECTIONS, IN_FLIGHT, HELD_NOW = range(GAUGE, SECONDS)


class Counters:
    """This worker's cells. ``cells`` may be added to directly, by the constants above; ``publish`` shows them."""

    def __init__(self, path: Path) -> None:
        _, self._file = claim(path)
        self._map = _open(self._file)
        cells = array("q", self._map[:])
        self.cells: list[int] = list(cells) if cells[0] == LAYOUT else [LAYOUT] + [0] * (SIZE - 1)
        self.cells[1] = os.getpid()
        self.cells[2] = started_at(os.getpid()) or 0
        self._reset_gauges()
        self.publish()

    def publish(self) -> None:
        """Show the numbers to the other workers."""
        self._map[:] = array("q", self.cells).tobytes()

    def _reset_gauges(self) -> None:
        self.cells[GAUGE:SECONDS] = [0] * len(GAUGES)

    def requests(self, kind: int, status: int, seconds: Sequence[float]) -> None:
        """Count requests of one ``kind`` that ended with one ``status`` (499: the client hung up), and how long each
        took."""
        cells = self.cells
        cells[REQUESTS + kind * 6 + (6 if status == 499 else status // 100) - 1] += len(seconds)
        if kind <= 3:
            for each in seconds:
                cells[SECONDS + bisect_left(BOUNDS, each)] += 1
            cells[SECONDS + _HISTOGRAM - 1] += int(sum(seconds) * 1e6)

    def first_byte(self, seconds: float) -> None:
        """Count the time from a request to the first byte of its answer."""
        cells = self.cells
        cells[TTFT + bisect_left(BOUNDS, seconds)] += 1
        cells[TTFT + _HISTOGRAM - 1] += int(seconds * 1e6)

    def close(self) -> None:
        """Give the gauges back and unmap the file."""
        self._reset_gauges()
        self.publish()
        self._map.close()
        os.close(self._file)


def _open(file: int) -> mmap.mmap:
    if os.fstat(file).st_size != SIZE * 8:
        os.ftruncate(file, 0)
        os.ftruncate(file, SIZE * 8)
    return mmap.mmap(file, SIZE * 8)


def started_at(pid: int) -> int | None:
    """The start time of a process in clock ticks since boot; None when there is no such process. Raises ``OSError``
    where that cannot be told, for want of files say: a process must not be taken for gone then."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(text.rpartition(b")")[2].split()[19])


def read_all(folder: Path) -> list[Sequence[int]]:
    """The cells of every worker; the gauges of dead ones are zero."""
    found: list[Sequence[int]] = []
    for path in sorted(folder.glob("counters-*")):
        data = path.read_bytes()
        if len(data) != SIZE * 8:
            continue
        cells = list(memoryview(data).cast("q"))
        if cells[0] != LAYOUT:
            continue
        if started_at(cells[1]) != cells[2]:
            cells[GAUGE:SECONDS] = [0] * len(GAUGES)
        found.append(cells)
    return found


def render(workers: Sequence[Sequence[int]]) -> bytes:
    """The sum over ``workers`` in the Prometheus text format."""
    total = [sum(column) for column in zip(*workers, strict=True)] if workers else [0] * SIZE
    return ("\n".join(_lines(total)) + "\n").encode()


def _lines(total: Sequence[int]) -> Iterator[str]:
    name = "roost_gateway_requests_total"
    yield f"# HELP {name} Answered requests by kind and status class."
    yield f"# TYPE {name} counter"
    for k, kind in enumerate(KINDS):
        for c, outcome in enumerate(CLASSES):
            value = total[REQUESTS + k * len(CLASSES) + c]
            if value:
                yield f'{name}{{kind="{kind}",status="{outcome}"}} {value}'
    for start, entries, type_name in ((COUNT, COUNTS, "counter"), (GAUGE, GAUGES, "gauge")):
        for offset, (name, text) in enumerate(entries):
            yield f"# HELP {name} {text}"
            yield f"# TYPE {name} {type_name}"
            yield f"{name} {total[start + offset]}"
    yield from _histogram("roost_gateway_request_seconds", "Duration of inference requests in seconds.", total, SECONDS)
    yield from _histogram(
        "roost_gateway_first_byte_seconds", "Time to the first byte of streamed answers.", total, TTFT
    )


def _histogram(name: str, text: str, total: Sequence[int], start: int) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} histogram"
    seen = 0
    for index, bound in enumerate(BOUNDS):
        seen += total[start + index]
        yield f'{name}_bucket{{le="{bound:g}"}} {seen}'
    seen += total[start + len(BOUNDS)]
    yield f'{name}_bucket{{le="+Inf"}} {seen}'
    yield f"{name}_sum {total[start + _HISTOGRAM - 1] / 1e6:.6f}"
    yield f"{name}_count {seen}"
