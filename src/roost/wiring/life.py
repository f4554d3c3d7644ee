"""One process of a child of ``roost serve``, from its start (or from when a new parent finds it) to its end.

Used by ``wiring.child`` only. The process is a child of this process, but perhaps not of this program: a restart
replaces the parent's program and keeps its children. It must never wait for a process of anybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

LAST_WORD_S = 1.0
"""How long after a process's end the parent waits for the end of its ready pipe."""


@dataclass(frozen=True, slots=True)
class Found:
    """A process as one program hands it to the next. ``ready_fd`` is its ready pipe while it has not said anything;
    ``leaving``: a successor has taken its place, and it may take ``left_s`` more seconds to finish its requests."""

    pid: int
    ready: bool
    ready_fd: int | None = None
    leaving: bool = False
    left_s: float = 0.0


class Life:
    """A running process. ``ended`` is its exit code, ``decided`` is done once it is ready or has ended."""

    def __init__(
        self,
        pid: int,
        pipe: IO[bytes] | None,
        *,
        ready: Callable[[Life, Mapping[str, Any]], None] = lambda life, message: None,
        is_ready: bool = False,
        popen: subprocess.Popen[bytes] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.pid = pid
        self.born = loop.time()
        self.is_ready = is_ready
        self.message: Mapping[str, Any] = {}
        self.ended: asyncio.Future[int] = loop.create_future()
        self.decided = asyncio.Event()
        self._ready = ready
        self._pipe = pipe
        self._popen = popen
        self._handle = os.pidfd_open(pid)
        loop.add_reader(self._handle, self._reap)
        self._listening = asyncio.ensure_future(self._listen(pipe)) if pipe is not None else None
        if is_ready:
            self.decided.set()

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        output: IO[bytes] | None,
        pass_fds: tuple[int, ...],
        ready: Callable[[Life, Mapping[str, Any]], None],
    ) -> Life:
        """Start ``argv`` with ``--ready FD`` appended, in a session of its own. Raises ``OSError``."""
        ready_fd, told_fd = os.pipe()
        try:
            popen = subprocess.Popen(
                [*argv, "--ready", str(told_fd)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(told_fd, *pass_fds),
            )
        except OSError:
            os.close(ready_fd)
            raise
        finally:
            os.close(told_fd)
        return cls(popen.pid, os.fdopen(ready_fd, "rb", buffering=0), ready=ready, popen=popen)

    @classmethod
    def adopt(cls, found: Found, *, ready: Callable[[Life, Mapping[str, Any]], None]) -> Life | None:
        """The process that an earlier program of this process started; None when it is no child of this process."""
        try:
            os.waitid(os.P_PID, found.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        pipe = None
        if found.ready_fd is not None:
            os.set_inheritable(found.ready_fd, False)
            pipe = os.fdopen(found.ready_fd, "rb", buffering=0)
        return cls(found.pid, pipe, ready=ready, is_ready=found.ready)

    def found(self, *, leaving: bool = False, left_s: float = 0.0) -> Found:
        """What the next program has to know of it."""
        open_pipe = self._pipe is not None and self._listening is not None and not self._listening.done()
        fd = self._pipe.fileno() if open_pipe and self._pipe is not None else None
        return Found(self.pid, self.is_ready, fd, leaving, left_s)

    def signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if not self.ended.done():
            # It may have ended this instant without this loop having heard of it.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    async def ends_within(self, timeout_s: float) -> bool:
        """Whether it ends within so many seconds."""
        await asyncio.wait({self.ended}, timeout=timeout_s)
        return self.ended.done()

    async def last_word(self) -> Mapping[str, Any]:
        """What a process that has ended said. It is there by now, but the pipe's end may not be: a process that it
        started and that lives on can hold it open."""
        if self._listening is not None:
            await asyncio.wait({self._listening}, timeout=LAST_WORD_S)
            self._listening.cancel()
        return self.message

    async def _listen(self, pipe: IO[bytes]) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            line = await reader.readline()
        finally:
            transport.close()
        self.message = json.loads(line) if line.endswith(b"\n") else {}
        if self.message.get("ready"):
            self.is_ready = True
            self.decided.set()
            self._ready(self, self.message)

    def _reap(self) -> None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return
        asyncio.get_running_loop().remove_reader(self._handle)
        os.close(self._handle)
        code = os.waitstatus_to_exitcode(status)
        if self._popen is not None:
            self._popen.returncode = code
        self.ended.set_result(code)
        self.decided.set()


def ending(code: int) -> str:
    """How a process ended, for a sentence about it."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by signal {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
