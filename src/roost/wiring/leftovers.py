"""Children of an earlier parent of the same home that was killed.

They noticed by themselves (``wiring.lifeline``): the old control plane is ending and leaves its replicas running, the
old gateways closed their listening sockets and finish their requests. A new parent waits for the former, takes the port
when the latter have let go of it, and gets tough only with a process that hangs. It must never signal a process whose
command line does not name this home.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from roost.config import Settings
from roost.wiring.listen import PortTaken, bind
from roost.wiring.pids import Process, open_process, read_pid

PATIENCE_S = 10.0
"""How long an orphan may take to notice that its parent died, and to let go."""


class Leftovers:
    """The orphans found in a home, and how they are dealt with. Use it as a context manager."""

    def __init__(self, settings: Settings, say: Callable[[str], None], patience_s: float = PATIENCE_S) -> None:
        self._settings = settings
        self._say = say
        self._patience_s = patience_s
        self._stack = ExitStack()

    def __enter__(self) -> Leftovers:
        run = self._settings.run_dir
        mark = str(self._settings.home)
        self.control = self._keep(open_process(read_pid(run / "control.pid"), mark))
        found = (self._keep(open_process(read_pid(path), mark)) for path in sorted(run.glob("gateway-*.pid")))
        self.gateways = [gateway for gateway in found if gateway is not None]
        return self

    def __exit__(self, *unused: object) -> None:
        self._stack.close()

    def end_control(self) -> None:
        """Return when the old control plane is gone: two must never work at once."""
        if self.control is None:
            return
        self._say(f"Waiting for the control plane of an earlier, killed server to end (pid {self.control.pid}).")
        if not self.control.wait(self._patience_s):
            self._say("It hangs and is killed; replicas keep running and are adopted.")
            self.control.send(signal.SIGKILL)
            self.control.wait(self._patience_s)

    def await_gateways(self, patience_s: float) -> None:
        """Return when the old gateways have finished their requests, or after ``patience_s`` seconds."""
        until = time.monotonic() + patience_s
        for gateway in self.gateways:
            if not gateway.wait(0):
                self._say(f"Waiting for the requests of an earlier server's gateway (pid {gateway.pid}).")
                gateway.wait(max(0.0, until - time.monotonic()))

    def bind(self) -> socket.socket:
        """The listening socket, as soon as old gateways have let go of the port.

        Raises ``PortTaken`` when it is somebody else's.
        """
        for attempt in self._attempts():
            try:
                return bind(self._settings.host, self._settings.port)
            except PortTaken:
                if not attempt:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _attempts(self) -> Iterator[bool]:
        """True while another attempt may help; between them, wait a moment or for a gateway's end."""
        for step, number in enumerate((None, signal.SIGTERM, signal.SIGKILL)):
            until = time.monotonic() + (self._patience_s if step == 0 else self._patience_s / 5)
            while alive := [gateway for gateway in self.gateways if not gateway.wait(0)]:
                if number is not None:
                    for gateway in alive:
                        gateway.send(number)
                    number = None
                yield True
                if time.monotonic() >= until:
                    break
                alive[0].wait(0.05)
        yield False

    def _keep(self, process: Process | None) -> Process | None:
        return self._stack.enter_context(process) if process is not None else None
