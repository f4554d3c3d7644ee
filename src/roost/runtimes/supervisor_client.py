"""Starting supervisors and talking to them. Used by the local runtime; ``supervision`` is the other side.

A supervisor is believed only when it knows the record's nonce. Nothing here signals a process.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roost.runtimes.supervision import protocol

_PROGRAM = Path(__file__).parent / "supervision" / "__main__.py"


class SupervisorUnreachable(Exception):
    """The supervisor does not answer at its socket, or somebody else does, or it speaks another protocol."""


class SupervisorConnection:
    """A stream of messages in both directions."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> Mapping[str, Any] | None:
        """The next message; None when the supervisor closed or died."""
        try:
            line = await self._reader.readline()
        except (ConnectionError, ValueError):  # ValueError: a line beyond the limit
            return None
        return protocol.decode(line) if line.endswith(b"\n") else None

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message. One to a supervisor that has died is lost; ``receive`` then says that it died."""
        if not self._writer.is_closing():
            self._writer.write(protocol.encode(kind, **fields))

    def close(self) -> None:
        """Hang up. The supervisor does not mind."""
        self._writer.close()


async def spawn(record_path: Path, log_path: Path, environment: Mapping[str, str]) -> tuple[int, SupervisorConnection]:
    """Start a supervisor: its pid (a child of this process) and the connection on which it waits for its launch
    message. ``record_path`` is only there to be seen in process lists; ``log_path`` takes its own complaints.

    Raises ``OSError``.
    """
    ours, theirs = socket.socketpair()
    try:
        pid = await asyncio.to_thread(_spawn, theirs.fileno(), record_path, log_path, environment)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours, limit=protocol.MAX_LINE)
    return pid, SupervisorConnection(reader, writer)


def _spawn(stdin: int, record_path: Path, log_path: Path, environment: Mapping[str, str]) -> int:
    # -I -S: no site-packages, no user's modules, a third of the time to start. A session of its own: a Ctrl-C at the
    # terminal, or the end of it, is not the supervisor's business.
    argv = [sys.executable, "-I", "-S", str(_PROGRAM), str(record_path)]
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_DUP2, stdin, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, str(log_path), append, 0o600),
    ]
    return os.posix_spawn(argv[0], argv, dict(environment), file_actions=actions, setsid=True)


async def connect(path: str, nonce: str, timeout_s: float) -> tuple[SupervisorConnection, Mapping[str, Any]]:
    """Connect to a running supervisor: the connection and its first ``status`` message.

    Raises ``SupervisorUnreachable``.
    """
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(path, limit=protocol.MAX_LINE)
            connection = SupervisorConnection(reader, writer)
            try:
                first = await connection.receive()
            except BaseException:
                connection.close()
                raise
    except (OSError, TimeoutError, ValueError) as error:
        raise SupervisorUnreachable(str(error) or "it does not answer") from error
    if first is None or first.get("protocol") != protocol.VERSION or first.get("type") != "status":
        connection.close()
        raise SupervisorUnreachable(f"it does not speak protocol {protocol.VERSION}")
    if first["record"].get("nonce") != nonce:
        connection.close()
        raise SupervisorUnreachable("somebody else answers at its socket")
    return connection, first


async def logs(path: str, nonce: str, tail: int, timeout_s: float) -> tuple[str, ...]:
    """The engine's last ``tail`` lines from its supervisor. Raises ``SupervisorUnreachable``."""
    connection, _ = await connect(path, nonce, timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            connection.send("logs", tail=tail)
            while (message := await connection.receive()) is not None:
                if message.get("type") == "logs":
                    return tuple(message["lines"])
    except TimeoutError as error:
        raise SupervisorUnreachable("it does not answer") from error
    finally:
        connection.close()
    raise SupervisorUnreachable("it ended")


async def ended(pid: int) -> None:
    """Wait until the child process ``pid`` has ended, and collect its status."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    fd = os.pidfd_open(pid)
    try:
        loop.add_reader(fd, _resolve, over)
        await over
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    _collect(pid)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _collect(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # collected already, by a parent that collects everything
