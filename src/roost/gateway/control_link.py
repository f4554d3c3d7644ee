"""The link to the control plane: watches the routing table, reports what this worker does.

Run by ``worker``. While the control plane is away it tries again for ever, and the last table stays in force: it must
never empty the table.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import structlog

from roost.domain.creation import Delivery
from roost.domain.routing import PROTOCOL, RoutingTable
from roost.gateway.gateway import Gateway
from roost.gateway.http1 import ResponseHead
from roost.gateway.upstream import Address, Pool

SILENCE_S = 10.0
"""Without a heartbeat for this long the watch is begun anew."""
REPORT_S = 1.0
REPORT_NEVER_TAKEN = (400, 413)
"""A report of usage so answered would be refused for ever, and hold up all that come after it."""
TOUCH_S = 10.0
"""The file's age tells the next start how old its table is; it is renewed this often while connected."""
MAX_BACKOFF_S = 2.0
MAX_NEWS = 10_000
"""News of answers that are kept while the control plane is away."""
MAX_LINE = 256 * 1024 * 1024

log = structlog.get_logger(__name__)


class _Response:
    """Collects one response; ``on_data`` is called for each part of the body."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_data: Callable[[bytes], None]) -> None:
        self.status: asyncio.Future[int] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._on_data = on_data

    def on_head(self, head: ResponseHead) -> bool:
        if not self.status.done():
            self.status.set_result(head.status)
        return False

    def on_body(self, data: bytes) -> None:
        self._on_data(data)

    def on_end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def on_lost(self, reason: str, *, stale: bool) -> None:
        for future in (self.status, self.ended):
            if not future.done():
                future.set_exception(ConnectionError(reason))
                future.exception()  # whoever waits for the other one need not look at this one

    def on_upstream_full(self) -> None: ...

    def on_upstream_drained(self) -> None: ...


class RoutesFile:
    """The last table on disk, mode 0600, so that a gateway can start while the control plane is away."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> tuple[RoutingTable, float] | None:
        """The table and when it was last confirmed (epoch seconds); None when there is none that can be read."""
        try:
            data = orjson.loads(self.path.read_bytes())
            at = self.path.stat().st_mtime
            if data["protocol"] != PROTOCOL:
                log.warning("the routing table on disk has an unknown protocol", path=str(self.path))
                return None
            return RoutingTable.from_dict(data["table"]), at
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("the routing table on disk cannot be read", path=str(self.path), reason=str(error))
            return None

    def save(self, table: RoutingTable) -> None:
        """Replace the file atomically. Raises ``OSError``."""
        # Named by the process: a worker and its successor may write at the same time.
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as out:
            out.write(orjson.dumps({"protocol": PROTOCOL, "table": table.to_dict()}))
        os.replace(fresh, self.path)

    def touch(self) -> None:
        """The table is still the current one. Raises ``OSError``."""
        os.utime(self.path)


class Link:
    """Keeps the watch open and sends reports. ``connected`` tells whether the watch is open now, ``confirmed`` is set
    once the control plane has sent or confirmed a table."""

    def __init__(self, gateway: Gateway, identity: str, file: RoutesFile) -> None:
        self.connected = False
        self.confirmed = asyncio.Event()
        self._gateway = gateway
        self._identity = identity
        self._file = file
        self._pool = Pool(Address(path=str(gateway.settings.internal_socket)), gateway.loop)
        self._due = asyncio.Event()
        self._news: list[dict[str, str]] = []
        self._news_due = asyncio.Event()
        self._buffer = bytearray()
        self._heard_at = 0.0
        self._touched_at = 0.0
        self._saved = False
        self._complained = False

    def load(self) -> None:
        """Start with the table on disk, if there is one."""
        found = self._file.load()
        if found is not None:
            table, at = found
            # What shut down was the server before this one; if it is still at it, it will say so again.
            self._gateway.apply(replace(table, shutting_down=False))
            self._gateway.confirmed_at = at
            self._saved = True

    def report_soon(self) -> None:
        """Send a report at once."""
        self._due.set()

    def tell(self, answer: str, delivery: Delivery) -> None:
        """Tell what became of an answer, at once or when the control plane is back."""
        self._news.append({"answer": answer, "delivery": delivery.value})
        self._news_due.set()

    async def run(self) -> None:
        """Watch and report until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._report())
                group.create_task(self._tell())
                group.create_task(self._report_usage())
        finally:
            self._pool.abort()

    # ---- the watch

    async def _watch(self) -> None:
        failures = 0
        while True:
            try:
                await self._watch_once()
                failures = 0
            except (OSError, ConnectionError, ValueError) as error:
                failures += 1
                if failures == 1:
                    log.info("the control plane is away; the last routing table stays in force", reason=str(error))
            if self.connected:
                failures = 0
            self.connected = False
            # Jitter keeps many gateways from coming back in one moment.
            await asyncio.sleep(min(MAX_BACKOFF_S, 0.1 * 2 ** min(failures, 5)) * random.uniform(0.5, 1.0))

    async def _watch_once(self) -> None:
        loop = self._gateway.loop
        connection = await self._pool.connect()
        try:
            self._buffer.clear()
            response = _Response(loop, self._data)
            target = f"/internal/v1/routes/watch?gateway={self._identity}&pid={os.getpid()}"
            connection.send(response, f"GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            async with asyncio.timeout(SILENCE_S):
                status = await response.status
            if status != 200:
                raise ConnectionError(f"it answered the watch with {status}")
            self.connected = True
            self._heard_at = loop.time()
            while not response.ended.done():
                left = self._heard_at + SILENCE_S - loop.time()
                if left <= 0:
                    raise ConnectionError("no heartbeat")
                await asyncio.wait([response.ended], timeout=left)
            response.ended.result()
        finally:
            connection.abort()

    def _data(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if len(buffer) > MAX_LINE:
            raise ValueError("a line of the watch is too long")
        *lines, rest = bytes(buffer).split(b"\n") if b"\n" in data else [bytes(buffer)]
        if lines:
            self._buffer = bytearray(rest)
        for line in lines:
            if line.strip():
                self._message(line)

    def _message(self, line: bytes) -> None:
        gateway = self._gateway
        try:
            message = orjson.loads(line)
            if message["protocol"] != PROTOCOL:
                raise ValueError(f"protocol {message['protocol']!r} is unknown")
            table = RoutingTable.from_dict(message["table"]) if message["type"] == "snapshot" else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("a message of the control plane cannot be read; the routing table stays", reason=str(error))
            return
        self._heard_at = gateway.now()
        if table is not None and gateway.apply(table):
            self._saved = False
        if gateway.books.table is not None:
            gateway.confirmed_at = gateway.wall()
            self.confirmed.set()
            self._keep(gateway.books.table)

    def _keep(self, table: RoutingTable) -> None:
        now = self._gateway.now()
        try:
            if not self._saved:
                self._file.save(table)
                self._saved, self._touched_at = True, now
            elif now - self._touched_at > TOUCH_S:
                self._file.touch()
                self._touched_at = now
            self._complained = False
        except OSError as error:
            if not self._complained:
                log.error("the routing table cannot be written to disk", path=str(self._file.path), reason=str(error))
            self._complained = True

    # ---- reports

    async def _report(self) -> None:
        while True:
            await self._wait_for_due()
            self._due.clear()
            if not self.connected or self._gateway.books.table is None:
                await asyncio.sleep(0.05)
                continue
            try:
                await self._post("report", self.report())
            except (OSError, TimeoutError) as error:
                log.debug("a report was not delivered", reason=str(error))
                await asyncio.sleep(0.2)
                self._due.set()

    async def _wait_for_due(self) -> None:
        try:
            async with asyncio.timeout(REPORT_S):
                await self._due.wait()
        except TimeoutError:
            pass  # the regular report is due

    def report(self) -> dict[str, Any]:
        """The report as it stands."""
        table = self._gateway.books.table
        return {
            "protocol": PROTOCOL,
            "gateway": self._identity,
            "pid": os.getpid(),
            "term": table.term if table is not None else 0,
            "version": table.version if table is not None else 0,
            **self._gateway.books.report(),
            "demand": self._gateway.demand.report(self._gateway),
        }

    # ---- news of answers

    async def _tell(self) -> None:
        while True:
            await self._news_due.wait()
            self._news_due.clear()
            news, self._news = self._news, []
            try:
                await self._post("deliveries", {"protocol": PROTOCOL, "deliveries": news})
            except (OSError, TimeoutError) as error:
                log.debug("news of answers was not delivered", reason=str(error))
                self._news = (news + self._news)[-MAX_NEWS:]
                await asyncio.sleep(0.1)
                self._news_due.set()

    # ---- usage

    async def _report_usage(self) -> None:
        reports = self._gateway.reports
        while reports is not None:
            await asyncio.sleep(REPORT_S)
            while self.connected and (report := reports.due()) is not None:
                try:
                    status = await self._post("usage", report)
                except (OSError, TimeoutError) as error:
                    log.debug("usage was not delivered", reason=str(error))
                    break
                if status >= 300 and status not in REPORT_NEVER_TAKEN:
                    break  # later: the database may be away, or the control plane of an older release
                if status >= 300:
                    log.error("the control plane refuses a report of usage; it is lost", status=status)
                reports.taken(report)

    async def _post(self, what: str, document: Mapping[str, Any]) -> int:
        connection = self._pool.take() or await self._pool.connect()
        response = _Response(self._gateway.loop, lambda data: None)
        body = orjson.dumps(document)
        head = f"POST /internal/v1/{what} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        connection.send(response, head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        try:
            async with asyncio.timeout(SILENCE_S):
                status = await response.status
                await response.ended
        except BaseException:
            connection.abort()
            raise
        if status >= 300:
            log.warning("the control plane did not take what was told", what=what, status=status)
        return status
