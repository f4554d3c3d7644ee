"""The supervisor's main loop: lock, record, engine, readiness, stop, exit.

One single-threaded process per replica, started by ``runtimes.supervisor_client`` with the launch message on its
standard input (a socket, which stays open as the first connection). It must never start a second engine for an id,
never end before everything its engine started has ended, and never write a secret to disk.

    STARTING --address accepts--> READY --stop--> STOPPING --> EXITED
        any state: the engine ends by itself ---------------------^

SIGTERM and SIGINT to the supervisor mean stop, with the launch message's grace.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import time

from . import process, protocol, record
from .complaint import bound, say
from .log_filter import LogFilter
from .log_tail import LogTail
from .server import Peer, Server, remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXIT_LINES = 100
"""Log lines kept in the record of an exit."""

_SWEEP_S = 0.005
_SAVE_AGAIN_S = 1.0
_DELIVERY_S = 1.0


class Supervisor:
    """One replica. ``run`` returns when its engine and all that it started are gone and the record says so."""

    def __init__(self, launch: dict[str, Any]) -> None:
        self._launch = launch
        self._record: dict[str, Any] = dict(launch["record"])
        self._address: str = self._record["address"]
        self._log = LogTail(self._record["log"])
        rule = launch.get("output")
        self._filter = LogFilter(rule["open_until"], rule["keep"]) if rule is not None else None
        self._selector = selectors.DefaultSelector()
        self._server = Server(self._selector, self._record["control_socket"], self._status, self._on_message)
        self._engine: int | None = None
        self._wait_status: int | None = None
        self._cause: str | None = None
        self._grace_s = float(launch["grace_s"])
        self._terminated = False
        self._output: int | None = None
        self._began = time.monotonic()
        self._probe_at: float | None = None
        self._kill_at: float | None = None
        self._sweep_at: float | None = None
        self._save_at: float | None = None
        self._unsaved = False

    def run(self, connection: socket.socket, received: bytes) -> int:
        """Serve until the end; the exit status of the process."""
        try:
            self._prepare()
        except OSError as error:
            what = error.filename or self._record["control_socket"]
            cause = f"its supervisor could not start: {what}: {error.strerror}"
            connection.sendall(protocol.encode("failed", cause=cause))
            remove(self._record["control_socket"])
            return 1
        self._spawn()
        self._server.add(connection, received)
        while self._record["state"] != "EXITED" or self._save_at is not None:
            for key, mask in self._selector.select(self._timeout()):
                key.data(mask)
            self._tick(time.monotonic())
        self._server.close(_DELIVERY_S)
        return 0

    def _prepare(self) -> None:
        """All that must stand before the engine: when the record exists, the socket answers already."""
        self._listen_for_signals()
        process.adopt_orphans()
        self._server.listen()
        own = process.stat(os.getpid())
        self._record.update(
            supervisor_pid=os.getpid(),
            supervisor_started=own.started if own else None,
            boot_id=process.boot_id(),
            engine_pid=None,
            engine_started=None,
            started=time.time(),
            state="STARTING",
            exit=None,
        )
        record.write(self._launch["record_path"], self._record, durable=False)

    def _listen_for_signals(self) -> None:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._wakeup = (reader, writer)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_terminate)
        for number in (signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        self._selector.register(reader, selectors.EVENT_READ, lambda _: reader.recv(4096))

    def _on_terminate(self, *_: object) -> None:
        self._terminated = True

    def _spawn(self) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        own = os.getpid()
        self._remove_engine_socket()
        try:
            engine = subprocess.Popen(
                self._launch["argv"],
                env=self._launch["env"],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                start_new_session=True,
                # Safe here: this process has one thread. PDEATHSIG follows the thread that forks, which is this one.
                preexec_fn=lambda: process.prepare(own, self._launch.get("files")),
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            os.close(reader)
            self._cause = f"cannot execute {self._launch['argv'][0]}: {getattr(error, 'strerror', None) or error}"
            self._exited()
            return
        finally:
            os.close(writer)
        engine.returncode = 0  # its status is collected by _reap, not by this object
        self._engine = engine.pid
        self._output = reader
        self._selector.register(reader, selectors.EVENT_READ, lambda _: self._read_output())
        seen = process.stat(engine.pid)
        self._record.update(engine_pid=engine.pid, engine_started=seen.started if seen else None)
        self._probe_at = time.monotonic()
        self._save()

    def _timeout(self) -> float | None:
        due = [at for at in (self._probe_at, self._kill_at, self._sweep_at, self._save_at) if at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _tick(self, now: float) -> None:
        if self._terminated:
            self._terminated = False
            self._stop(float(self._launch["grace_s"]))
        self._reap()
        if self._probe_at is not None and now >= self._probe_at:
            if accepts(self._address):
                self._probe_at = None
                self._change("READY")
            else:
                self._probe_at = time.monotonic() + probe_interval(now - self._began)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._cause = f"killed: it did not end within {self._grace_s:g} s of TERM"
            self._kill_all()
        if self._sweep_at is not None and now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_S
            self._kill_all()
        if self._save_at is not None and now >= self._save_at:
            self._save()

    def _reap(self) -> None:
        """Collect ended children; when the engine is one of them, end what it left behind; when none is left, exit."""
        if self._record["state"] == "EXITED":
            return
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._exited()
                return
            if pid == 0:
                return
            if pid == self._engine:
                self._wait_status = status
                self._probe_at = self._kill_at = None
                self._sweep_at = time.monotonic()

    def _kill_all(self) -> None:
        for one in process.descendants(os.getpid(), process.snapshot()):
            process.kill(one)

    def _exited(self) -> None:
        self._probe_at = self._kill_at = self._sweep_at = None
        self._read_output()
        code = None if self._wait_status is None else os.waitstatus_to_exitcode(self._wait_status)
        self._record["exit"] = {
            "code": code if code is None or code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "cause": self._cause,
            "log_tail": self._log.lines(EXIT_LINES),
        }
        self._remove_engine_socket()
        self._change("EXITED")
        self._log.close()

    def _remove_engine_socket(self) -> None:
        if self._address.startswith("unix:"):
            remove(self._address.removeprefix("unix:"))

    def _read_output(self) -> None:
        """Take all output that is there."""
        while self._output is not None:
            try:
                data = os.read(self._output, 65536)
            except BlockingIOError:
                return
            if not data:
                self._end_output()
                self._selector.unregister(self._output)
                os.close(self._output)
                self._output = None
                return
            self._log.feed(data if self._filter is None else self._filter.feed(data))

    def _end_output(self) -> None:
        if self._filter is not None:
            self._log.feed(self._filter.end())

    def _stop(self, grace_s: float) -> None:
        """TERM now, KILL ``grace_s`` later; a repeated stop can only make it sooner."""
        if self._record["state"] == "EXITED" or self._wait_status is not None:
            return
        at = time.monotonic() + grace_s
        if self._record["state"] == "STOPPING":
            if self._kill_at is not None and at < self._kill_at:
                self._kill_at, self._grace_s = at, grace_s
            return
        self._probe_at = None
        self._kill_at, self._grace_s = at, grace_s
        self._cause = "stopped"
        self._change("STOPPING")
        assert self._engine is not None
        os.kill(self._engine, signal.SIGTERM)  # not reaped yet (checked above), so the pid is still the engine's

    def _change(self, state: str) -> None:
        self._record["state"] = state
        self._save()
        self._server.broadcast(self._status())

    def _save(self) -> None:
        """Write the record; when that fails (disk full) try again later and stay alive to tell the truth by socket."""
        self._save_at = None
        try:
            record.write(self._launch["record_path"], self._record, durable=self._record["state"] == "EXITED")
            self._unsaved = False
        except OSError as error:
            if not self._unsaved:
                say(f"{self._launch['record_path']}: {error.strerror}; trying again until it works")
            self._unsaved = True
            self._save_at = time.monotonic() + _SAVE_AGAIN_S

    def _status(self) -> bytes:
        return protocol.encode("status", record=self._record)

    def _on_message(self, peer: Peer, message: dict[str, Any]) -> None:
        if message.get("type") == "stop":
            self._stop(float(message["grace_s"]))
        elif message.get("type") == "logs":
            self._read_output()
            self._server.send(peer, protocol.encode("logs", lines=self._log.lines(int(message["tail"]))))


def accepts(address: str) -> bool:
    """Whether ``address`` (``unix:<path>`` or ``host:port``) accepts a connection now."""
    if address.startswith("unix:"):
        family, target = socket.AF_UNIX, address.removeprefix("unix:")
        if not os.path.exists(target):
            return False
        return _connects(family, target)
    host, _, port = address.rpartition(":")
    return _connects(socket.AF_INET6 if ":" in host else socket.AF_INET, (host.strip("[]"), int(port)))


def _connects(family: int, target: Any) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        attempt.settimeout(0.05)
        try:
            attempt.connect(target)
        except OSError:
            return False
    return True


def probe_interval(waited_s: float) -> float:
    """Seconds until the next look at the address: 10 ms at first, never more than 25 ms, so that readiness is known
    at once also after a long load."""
    return 0.010 if waited_s < 5.0 else 0.025


def receive_launch(connection: socket.socket) -> tuple[dict[str, Any], bytes] | None:
    """The launch message and what came after it; None when the runtime died before it had sent all of it."""
    received = b""
    while b"\n" not in received:
        data = connection.recv(65536)
        if not data:
            return None
        received += data
    line, _, rest = received.partition(b"\n")
    return protocol.decode(line), rest


def close_inherited() -> None:
    """Let go of all descriptors but the standard ones. A supervisor outlives whoever started it, so it must hold
    nothing of theirs: a pipe whose end were kept here would never seem closed to its reader."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                continue  # the descriptor of the listing itself, which is closed already


def main() -> int:
    """Read the launch message from standard input and supervise; 0 also when this id was launched before."""
    os.umask(0o077)
    close_inherited()
    bound()
    connection = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    found = receive_launch(connection)
    if found is None:
        return 0
    launch, rest = found
    lock = record.lock(launch["lock_path"])
    if lock is None or os.path.exists(launch["record_path"]):
        connection.sendall(protocol.encode("refused", reason="recorded" if lock is not None else "running"))
        return 0
    return Supervisor(launch).run(connection, rest)
