"""One child process of ``roost serve``: started, watched, started again when it dies.

Used by ``wiring.parent`` only. It knows nothing of what the child does: it starts it in a session of its own (a
terminal's Ctrl-C reaches the parent alone), hears from it through the ready pipe, and obeys the restart policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from roost.domain.errors import RoostError
from roost.wiring import logfiles
from roost.wiring.pids import write_pid
from roost.wiring.restart import RestartPolicy

LAST_WORD_S = 1.0
"""How long after a child's end the parent waits for the end of its ready pipe."""


class StartFailed(RoostError):
    """A child ended before it was ready for the first time; the message says why as well as it can be told."""

    code = "start_failed"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start. ``argv`` gets ``--ready FD --lifeline FD`` appended, and ``first_argv`` on the first start only.
    ``log`` None leaves the child the parent's own standard output and error."""

    name: str
    argv: tuple[str, ...]
    pid_file: Path
    log: Path | None
    first_argv: tuple[str, ...] = ()
    pass_fds: tuple[int, ...] = ()


class Child:
    """A supervised child. ``run`` is its task; the other methods are called from the same event loop."""

    def __init__(self, spec: ChildSpec, *, lifeline_fd: int, policy: RestartPolicy, say: Callable[[str], None]) -> None:
        self.spec = spec
        self.first_ready: asyncio.Future[Mapping[str, Any] | StartFailed]
        """What the child said when it was ready for the first time, or why it never was."""
        self.first_ready = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self._lifeline_fd = lifeline_fd
        self._policy = policy
        self._say = say
        self._ready = asyncio.Event()
        self._hurry = asyncio.Event()
        self._finished = asyncio.Event()
        self._process: Process | None = None

    async def run(self) -> None:
        """Start the child, and again whenever it dies, until ``finish``. Ends when the child is gone for good."""
        deaths = 0
        try:
            while True:
                ran_s, ending = await self._live()
                if self._finished.is_set() or isinstance(self.first_ready.result(), StartFailed):
                    return
                deaths = self._policy.deaths(deaths, ran_s)
                delay_s = self._policy.delay_s(deaths)
                where = f" (its log: {self.spec.log})" if self.spec.log else ""
                self._say(f"The {self.spec.name} process {ending}; starting it again in {delay_s:g} s{where}.")
                await _first(self._hurry, delay_s)
                self._hurry.clear()
                if self._finished.is_set():
                    return
        finally:
            self.gone.set()

    def finish(self) -> None:
        """Start it no more; a backoff that is running ends at once."""
        self._finished.set()
        self._hurry.set()

    async def settle(self, timeout_s: float) -> bool:
        """End a backoff at once and wait until the child is ready (True), is gone for good or the time is up."""
        self._hurry.set()
        ready, gone = asyncio.ensure_future(self._ready.wait()), asyncio.ensure_future(self.gone.wait())
        await asyncio.wait({ready, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (ready, gone):
            waiting.cancel()
        return self._ready.is_set()

    def signal(self, number: int) -> None:
        """Send the child a signal, if it runs."""
        if self._process is not None:
            # It may have ended this instant without this loop having heard of it.
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _live(self) -> tuple[float, str]:
        """One life of the child: how long it ran in seconds, and how it ended."""
        loop = asyncio.get_running_loop()
        born, log_start = loop.time(), logfiles.size(self.spec.log) if self.spec.log else 0
        ready_fd, told_fd = os.pipe()
        listening = asyncio.ensure_future(self._listen(ready_fd))
        process: Process | None = None
        try:
            process = await self._spawn(told_fd)
        except OSError as error:
            # Out of processes, memory or descriptors: as transient as a death, and no reason to end the others.
            ending = f"could not be started ({error.strerror})"
        finally:
            os.close(told_fd)
        if process is not None:
            self._process = process
            self._record(process.pid)
            ending = _ending(await process.wait())
            self._process = None
            self.spec.pid_file.unlink(missing_ok=True)
        message = await _last_word(listening)
        self._ready.clear()
        if not self.first_ready.done():
            self.first_ready.set_result(self._start_failed(ending, message, log_start))
        return loop.time() - born, ending

    def _record(self, pid: int) -> None:
        try:
            write_pid(self.spec.pid_file, pid)
        except OSError as error:
            # A full disk: the server serves on, only a later parent could not find this child.
            self._say(f"Cannot write {self.spec.pid_file}: {error.strerror}.")

    async def _spawn(self, told_fd: int) -> Process:
        spec = self.spec
        first = spec.first_argv if not self.first_ready.done() else ()
        argv = [*spec.argv, *first, "--ready", str(told_fd), "--lifeline", str(self._lifeline_fd)]
        output: contextlib.AbstractContextManager[IO[bytes] | None] = (
            logfiles.open_log(spec.log) if spec.log else contextlib.nullcontext()
        )
        with output as stream:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                pass_fds=(told_fd, self._lifeline_fd, *spec.pass_fds),
            )

    async def _listen(self, ready_fd: int) -> Mapping[str, Any]:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ready_fd, "rb", buffering=0)
        )
        try:
            line = await reader.readline()
        finally:
            transport.close()
        message: Mapping[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
        if message.get("ready"):
            self._ready.set()
            if not self.first_ready.done():
                self.first_ready.set_result(message)
        return message

    def _start_failed(self, ending: str, message: Mapping[str, Any], log_start: int) -> StartFailed:
        if "error" in message:
            return StartFailed(str(message["error"]), code="refused")
        lines = logfiles.tail(self.spec.log, start=log_start) if self.spec.log else []
        said = "".join(f"\n    {line}" for line in lines)
        where = f" The end of its log, {self.spec.log}:{said}" if lines else ""
        return StartFailed(f"The {self.spec.name} process {ending} before it was ready.{where}")


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by signal {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


async def _last_word(listening: asyncio.Future[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What a child that has ended said. It is there by now, but the pipe's end may not be: a process that the child
    started and that lives on can hold it open."""
    try:
        return await asyncio.wait_for(listening, LAST_WORD_S)
    except TimeoutError:
        return {}


async def _first(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
