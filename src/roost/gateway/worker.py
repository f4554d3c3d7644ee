"""A gateway worker process: started by ``roost.wiring.gateway`` with the parent's listening socket.

``run`` blocks until the worker has drained. It must never bind the public port by itself, so that its death resets no
queued connection.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import platform
import resource
import signal
import socket
import uuid
from collections.abc import Callable
from typing import Any

import structlog

from roost.config import Settings
from roost.gateway.control_link import Link, RoutesFile
from roost.gateway.front import Front
from roost.gateway.gateway import Gateway
from roost.gateway.probes import Probes
from roost.gateway.usage_reports import Reports
from roost.policy import open_files
from roost.telemetry.loop_faults import LoopFaults
from roost.web.certificates import Certificate

BACKLOG = 4096
LINK_END_S = 2.0
HANDSHAKE_S = 5.0
"""For a TLS handshake. Until it is over a connection takes a file and is not counted."""
TLS_END_S = 2.0
"""How long a client may take to say that it has seen the end of a TLS connection."""
FRESH_S = 0.5
"""How long a worker with the table of an earlier one waits for the current table before it accepts with the old one."""
FIRST_S = 5.0
"""The same for one without any table: whatever it would answer meanwhile is wrong."""
SETTLE_S = 0.05
"""How long after the end of accepting a connection that was accepted before it may take to appear."""

HAND_OVER = signal.SIGUSR1

log = structlog.get_logger(__name__)


def run(settings: Settings, index: int, listen_fd: int, *, ready: Callable[[], None] = lambda: None) -> int:
    """Serve on the inherited listening socket until TERM; the exit status.

    ``ready`` is called once, when it accepts and the control plane has sent or confirmed the first routing table. The
    first TERM or INT drains: no new connections, requests in flight may finish for ``drain_deadline_s``. A second one
    ends at once. USR1 hands over to a successor that accepts already: as TERM, but connections that are idle get a last
    answer before they end.
    """
    _tune_allocator()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve(settings, index, socket.socket(fileno=listen_fd), ready=ready))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        log.info("uvloop is not installed; the standard event loop is used")
        return None
    return uvloop.new_event_loop


def _tune_allocator() -> None:
    # glibc gives freed memory back and faults it in again with each large body; a larger reserve halves their cost.
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 256 * 1024 * 1024)  # M_TRIM_THRESHOLD
        libc.mallopt(-2, 16 * 1024 * 1024)  # M_TOP_PAD


async def serve(
    settings: Settings, index: int, listener: socket.socket, *, ready: Callable[[], None] = lambda: None
) -> int:
    """The worker on the running loop."""
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    settings.logs_dir.mkdir(parents=True, exist_ok=True)
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        loop.add_signal_handler(number, signals.put_nowait, number)
    gateway = Gateway(settings, index, loop)
    gateway.max_clients, gateway.max_told = open_files.carried(_raise_files(), settings.max_client_connections)
    if gateway.max_clients < settings.max_client_connections:
        log.warning("fewer connections than allowed: too few open files", connections=gateway.max_clients)
    loop.set_exception_handler(LoopFaults())
    identity = f"gateway-{index}-{uuid.uuid4().hex[:8]}"
    gateway.reports = Reports(settings.run_dir, identity)
    link = Link(gateway, identity, RoutesFile(settings.run_dir / f"routes-{index}.json"))
    gateway.link = link
    link.load()
    gateway.start()
    watching = loop.create_task(link.run())
    await _first_table(link, FRESH_S if gateway.books.table is not None else FIRST_S, signals)
    server = await loop.create_server(lambda: Front(gateway), sock=listener, backlog=BACKLOG, **_tls(gateway))
    telling = loop.create_task(_tell(link, ready))
    probing = loop.create_task(Probes(gateway, identity).run())
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    log.info("gateway ready", gateway=identity)
    try:
        told = await _until_signalled(signals, watching)
        log.info("gateway draining", gateway=identity, clients=len(gateway.fronts), handing_over=told == HAND_OVER)
        server.close()
        await asyncio.sleep(SETTLE_S)
        await _drain(gateway, signals, settings.drain_deadline_s, hand_over=told == HAND_OVER)
    finally:
        server.close()
        watching.cancel()
        telling.cancel()
        probing.cancel()
        await asyncio.wait([watching], timeout=LINK_END_S)
        left = len(gateway.fronts)
        await gateway.close()
    log.info("gateway ended", gateway=identity, dropped=left)
    return 0


def _raise_files() -> int | None:
    """Let this process have as many files open as it may; how many that are, None without a limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return None if hard == resource.RLIM_INFINITY else hard


def _tls(gateway: Gateway) -> dict[str, Any]:
    settings = gateway.settings
    if not settings.tls_cert:
        return {}
    gateway.certificate = certificate = Certificate(settings.tls_cert, settings.tls_key)
    return {
        "ssl": certificate.context,
        "ssl_handshake_timeout": HANDSHAKE_S,
        "ssl_shutdown_timeout": TLS_END_S,
    }


async def _first_table(link: Link, timeout_s: float, signals: asyncio.Queue[int]) -> None:
    """Wait for the current table; connections queue at the listening socket meanwhile."""
    confirmed = asyncio.ensure_future(link.confirmed.wait())
    signalled = asyncio.ensure_future(signals.get())
    await asyncio.wait([confirmed, signalled], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    confirmed.cancel()
    if signalled.done():
        signals.put_nowait(signalled.result())
    signalled.cancel()


async def _tell(link: Link, ready: Callable[[], None]) -> None:
    await link.confirmed.wait()
    ready()


async def _until_signalled(signals: asyncio.Queue[int], watching: asyncio.Task[None]) -> int:
    waiting = asyncio.ensure_future(signals.get())
    await asyncio.wait([waiting, watching], return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        # The link never ends by itself: this is a defect, and the parent starts a fresh worker.
        waiting.cancel()
        watching.result()
        raise RuntimeError("The link to the control plane ended by itself.")
    return waiting.result()


async def _drain(gateway: Gateway, signals: asyncio.Queue[int], deadline_s: float, *, hand_over: bool) -> None:
    ends = gateway.now() + deadline_s
    if hand_over:
        gateway.hand_over()
        await _until_empty(gateway, signals, deadline_s)
    if not gateway.empty.is_set():
        gateway.drain()
        await _until_empty(gateway, signals, max(0.0, ends - gateway.now()))


async def _until_empty(gateway: Gateway, signals: asyncio.Queue[int], deadline_s: float) -> None:
    empty = asyncio.ensure_future(gateway.empty.wait())
    second = asyncio.ensure_future(signals.get())
    await asyncio.wait([empty, second], timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
    empty.cancel()
    second.cancel()
