"""What a gateway worker needs of a control plane, for the benchmark: one routing table, heartbeats, reports taken.

A thread of the benchmark's own process, so that its work is in nobody's figure. Used by ``peers``.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from roost.domain.routing import PROTOCOL, RoutingTable

HEARTBEAT_S = 3.0


@contextmanager
def control_plane(socket: Path, table: RoutingTable) -> Iterator[None]:
    """Serves on ``socket`` until the context ends; its clients must have ended by then."""
    loop = asyncio.new_event_loop()
    serving = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        async with asyncio.TaskGroup() as clients:

            def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                clients.create_task(_client(reader, writer, table, stop))

            server = await asyncio.start_unix_server(welcome, socket)
            serving.set()
            await stop.wait()
            server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    serving.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


async def _client(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, table: RoutingTable, stop: asyncio.Event
) -> None:
    with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            if head.startswith("get /internal/v1/routes/watch"):
                return await _watch(writer, table, stop)
            length = head.partition("content-length:")[2].partition("\r\n")[0]
            await reader.readexactly(int(length or 0))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")


async def _watch(writer: asyncio.StreamWriter, table: RoutingTable, stop: asyncio.Event) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")
    message: dict[str, object] = {"type": "snapshot", "protocol": PROTOCOL, "table": table.to_dict()}
    while not stop.is_set():
        line = json.dumps(message).encode() + b"\n"
        writer.write(b"%x\r\n%s\r\n" % (len(line), line))
        await writer.drain()
        message = {"type": "heartbeat", "protocol": PROTOCOL}
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), HEARTBEAT_S)
