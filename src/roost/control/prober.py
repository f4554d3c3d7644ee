"""The prober: proves that a replica answers, by a one-token generation over its own address.

Called by the actuator (start, forget) and the observer (what is known). It retries until told to forget; the deadline
is the plan's business.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

import httpx
import structlog

from roost.config import secret
from roost.engines.base import Probe

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 1.0
MOST_READ = 64 * 1024
MISSES = 3
CONNECT_TIMEOUT_S = 3.0
HEALTH_TIMEOUT_S = 1.0
NO_IDLE = httpx.Limits(max_keepalive_connections=0)
"""Engines may have a thread for each connection: none is held between two questions."""
NOT_ASKED = (os.strerror(errno.EMFILE), os.strerror(errno.ENFILE))
"""This process had no file left for the question: nothing about who was to be asked."""
GROWTH = 1.1
"""Pauses stay near a tenth of the time waited so far: short loads are noticed at once, long ones are not pestered."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a replica's readiness: ``proven``, and the last answer that fell short ("" before any).
    ``watched``: it is looked after since; ``lost``: it could not be reached ``MISSES`` times in a row;
    ``unresponsive_for``: how long it has been asked in vain, if it has not answered ``MISSES`` times in a row."""

    proven: bool
    last: str = ""
    watched: bool = False
    lost: bool = False
    unresponsive_for: timedelta | None = None


@dataclass(slots=True)
class Silence:
    """How long a replica has been asked in vain, in seconds of a clock that nobody sets. ``told_s`` up to ``at``; from
    one question to the next it grows by ``step_s`` at most: while this process (or the machine) stood still, nobody
    asked."""

    step_s: float
    told_s: float = 0.0
    at: float = 0.0
    misses: int = 0

    def missed(self, asked: float, now: float) -> int:
        """One more question, asked at ``asked``, has had no answer by ``now``; how many those are in a row."""
        if self.misses == 0:
            self.told_s, self.at = 0.0, asked
        self.told_s, self.at, self.misses = self.length(now), now, self.misses + 1
        return self.misses

    def length(self, now: float) -> float:
        """Its length by ``now``."""
        return self.told_s + min(now - self.at, self.step_s)


class Prober(Protocol):
    """What control needs of a prober."""

    def start(self, replica_id: str, address: str, probe: Probe, api_key_env: str | None) -> None:
        """Begin probing unless under way or proven."""
        ...

    def watch(self, replica_id: str, address: str, health_path: str | None, *, managed: bool) -> None:
        """Look after a proven replica. One that a runtime looks after (``managed``) may still hang: it is asked for
        ``health_path`` each second, if there is one. Others are asked, or connected to, now and then."""
        ...

    def proof(self, replica_id: str) -> Proof | None:
        """What is known; None when no probe was started."""
        ...

    def forget(self, replica_id: str) -> None:
        """End probing and forget the replica."""
        ...

    async def close(self) -> None:
        """End all probing."""
        ...


class HttpProber:
    """Probes by HTTP, over unix sockets too. ``news`` is called with the replica's id once it is proven,
    when what falls short changes, when it is lost, and when it stops or begins to answer. ``watch_every_s`` is the time
    between two looks at servers elsewhere, ``ask_every_s`` at engines here."""

    def __init__(
        self,
        news: Callable[[str], None],
        *,
        watch_every_s: float = 10.0,
        ask_every_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._news = news
        self._watch_every_s = watch_every_s
        self._ask_every_s = ask_every_s
        self._clock = clock
        self._proofs: dict[str, Proof] = {}
        self._silences: dict[str, Silence] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._tls = httpx.create_ssl_context()

    def start(self, replica_id: str, address: str, probe: Probe, api_key_env: str | None) -> None:
        """Begin to probe; a no-op while the replica is known."""
        if replica_id in self._proofs:
            return
        self._proofs[replica_id] = Proof(False)
        self._tasks[replica_id] = asyncio.create_task(self._run(replica_id, address, probe, api_key_env))

    def watch(self, replica_id: str, address: str, health_path: str | None, *, managed: bool) -> None:
        """Look after a proven replica."""
        known = self._proofs.get(replica_id)
        if known is not None and known.watched:
            return
        self._proofs[replica_id] = Proof(True, watched=True)
        if not managed:
            self._tasks[replica_id] = asyncio.create_task(self._look_after(replica_id, address, health_path))
        elif health_path is not None:
            self._tasks[replica_id] = asyncio.create_task(self._keep_asking(replica_id, address, health_path))

    def proof(self, replica_id: str) -> Proof | None:
        """What is known; None when no probe was started."""
        known, silence = self._proofs.get(replica_id), self._silences.get(replica_id)
        if known is None or silence is None:
            return known
        return replace(known, unresponsive_for=timedelta(seconds=silence.length(self._clock())))

    def forget(self, replica_id: str) -> None:
        """End probing and forget the replica."""
        self._proofs.pop(replica_id, None)
        self._silences.pop(replica_id, None)
        task = self._tasks.pop(replica_id, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """End all probing."""
        tasks = list(self._tasks.values())
        for replica_id in list(self._tasks):
            self.forget(replica_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, replica_id: str, address: str, probe: Probe, api_key_env: str | None) -> None:
        pause = FIRST_PAUSE_S
        async with self._client(address, probe.timeout_s, api_key_env) as client:
            while True:
                fault = await _attempt(client, probe)
                if fault is None:
                    self._proofs[replica_id] = Proof(True)
                    self._tasks.pop(replica_id, None)
                    self._news(replica_id)
                    return
                if self._proofs[replica_id].last != fault:
                    log.info("probe.unanswered", replica_id=replica_id, fault=fault)
                    self._proofs[replica_id] = Proof(False, fault)
                    self._news(replica_id)
                await asyncio.sleep(pause)
                pause = min(pause * GROWTH, LONGEST_PAUSE_S)

    async def _look_after(self, replica_id: str, address: str, health_path: str | None) -> None:
        misses = 0
        async with self._client(address, HEALTH_TIMEOUT_S) as client:
            while misses < MISSES:
                await asyncio.sleep(self._watch_every_s)
                fault = await _connect(address) if health_path is None else await _silence(client, health_path)
                if fault not in NOT_ASKED:
                    misses = 0 if fault is None else misses + 1
        self._proofs[replica_id] = Proof(False, fault or "", watched=True, lost=True)
        self._news(replica_id)

    async def _keep_asking(self, replica_id: str, address: str, health_path: str) -> None:
        silence = Silence(step_s=self._ask_every_s + HEALTH_TIMEOUT_S)
        async with self._client(address, HEALTH_TIMEOUT_S) as client:
            while True:
                await asyncio.sleep(self._ask_every_s)
                asked = self._clock()
                fault = await _silence(client, health_path)
                if fault in NOT_ASKED:
                    continue
                if fault is None:
                    silence.misses = 0
                    if self._silences.pop(replica_id, None) is not None:
                        log.info("health.answered_again", replica_id=replica_id)
                        self._proofs[replica_id] = Proof(True, watched=True)
                        self._news(replica_id)
                elif silence.missed(asked, self._clock()) == MISSES:
                    log.warning("health.unanswered", replica_id=replica_id, fault=fault)
                    self._proofs[replica_id] = Proof(True, fault, watched=True)
                    self._silences[replica_id] = silence
                    self._news(replica_id)

    def _client(self, address: str, timeout_s: float, api_key_env: str | None = None) -> httpx.AsyncClient:
        key = secret(api_key_env) if api_key_env else None
        headers = {"authorization": f"Bearer {key}"} if key else {}
        if address.startswith("unix:"):
            transport = httpx.AsyncHTTPTransport(uds=address.removeprefix("unix:"), verify=self._tls, limits=NO_IDLE)
            base = "http://replica"
        else:
            # A URL may name the API's root or the server's: the probe's path brings its own /v1.
            transport = httpx.AsyncHTTPTransport(verify=self._tls, limits=NO_IDLE)
            base = address.rstrip("/").removesuffix("/v1")
        return httpx.AsyncClient(transport=transport, base_url=base, headers=headers, timeout=timeout_s)


async def _silence(client: httpx.AsyncClient, health_path: str) -> str | None:
    """Ask for the health; None when it was answered, however well but for a server's fault, else what was wrong."""
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_S), client.stream("GET", health_path) as response:
            return f"HTTP {response.status_code}" if response.status_code >= 500 else None
    except TimeoutError:
        return f"no answer within {HEALTH_TIMEOUT_S:g} s"
    except httpx.HTTPError as error:
        return _cause(error) or type(error).__name__


async def _connect(address: str) -> str | None:
    """Open a connection to a URL's host and close it; None when that worked, else what was wrong."""
    url = httpx.URL(address)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(url.host, port)
    except TimeoutError:
        return f"no connection within {CONNECT_TIMEOUT_S:g} s"
    except OSError as error:
        lacks = error.strerror in NOT_ASKED
        return error.strerror if lacks else f"cannot connect: {error.strerror or error}"
    writer.close()
    return None


def _cause(error: BaseException) -> str:
    """What the system said, which the layers above it say again in words of their own."""
    told, found = str(error), error.__cause__ or error.__context__
    while found is not None:
        if isinstance(found, OSError) and found.errno is not None:
            told = os.strerror(found.errno)
        found = found.__cause__ or found.__context__
    return told


async def _attempt(client: httpx.AsyncClient, probe: Probe) -> str | None:
    """One probe; None when it was answered well, else what was wrong. Who answers may be anybody's server: the answer
    is read up to ``MOST_READ`` bytes and within the probe's timeout, whatever it sends."""
    try:
        async with (
            asyncio.timeout(probe.timeout_s),
            client.stream(probe.method, probe.path, json=dict(probe.body) or None) as response,
        ):
            text = b""
            async for piece in response.aiter_bytes():
                text += piece
                if len(text) > MOST_READ:
                    return f"HTTP {response.status_code} with more than {MOST_READ} bytes"
    except TimeoutError:
        return f"no answer within {probe.timeout_s:g} s"
    except httpx.ConnectError as error:
        return f"cannot connect: {_cause(error)}"
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if response.is_success:
        return None
    return f"HTTP {response.status_code}: {text[:200].decode('utf-8', 'replace')}"
