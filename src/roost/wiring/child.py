"""One child of ``roost serve``: started, watched, started again when it dies, replaced by a successor when asked.

Used by ``wiring.parent`` only. It knows nothing of what the child does: it starts it in a session of its own (a
terminal's Ctrl-C reaches the parent alone), hears from it through the ready pipe, and obeys the restart policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from roost.domain.errors import RoostError
from roost.wiring import logfiles
from roost.wiring.life import Found, Life, ending
from roost.wiring.pids import write_pid
from roost.wiring.restart import RestartPolicy


class StartFailed(RoostError):
    """A child ended before it was ready; the message says why as well as it can be told."""

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
    """A supervised child. ``run`` is its task; the other methods are called from the same event loop.

    ``found`` are the processes that an earlier program of the parent started; a child that had some is never given up.
    """

    def __init__(
        self,
        spec: ChildSpec,
        *,
        lifeline_fd: int,
        policy: RestartPolicy,
        say: Callable[[str], None],
        found: Sequence[Found] | None = None,
    ) -> None:
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
        self._life: Life | None = None
        self._coming: Life | None = None
        self._settled = asyncio.Event()
        """Set while no successor is on its way."""
        self._settled.set()
        self._moved = asyncio.Event()
        """Set when a successor has taken over."""
        self._renewing = False
        self._renewed: asyncio.Future[StartFailed | None] | None = None
        self._leaving: dict[Life, tuple[float, asyncio.Task[None]]] = {}
        if found is not None:
            self.first_ready.set_result({})
            self._adopt(found)

    # ---- its life

    async def run(self) -> None:
        """Start the child, and again whenever it dies, until ``finish``. Ends when the child is gone for good."""
        deaths = 0
        try:
            while not self._finished.is_set() or self._life is not None:
                ran_s, how = await self._live()
                if self._finished.is_set() or isinstance(self.first_ready.result(), StartFailed):
                    return
                if how is None:
                    deaths = 0
                    continue
                deaths = self._policy.deaths(deaths, ran_s)
                delay_s = self._policy.delay_s(deaths)
                where = f" (its log: {self.spec.log})" if self.spec.log else ""
                self._say(f"The {self.spec.name} process {how}; starting it again in {delay_s:g} s{where}.")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), delay_s)
                self._hurry.clear()
                if self._finished.is_set():
                    return
        finally:
            await self._settled.wait()
            await asyncio.gather(*(task for _, task in self._leaving.values()))
            self.gone.set()

    def finish(self) -> None:
        """Start it no more; a backoff that is running ends at once."""
        self._finished.set()
        self._hurry.set()

    async def settle(self, timeout_s: float) -> bool:
        """End a backoff at once and wait until the child is ready (True), is gone for good or the time is up."""
        self._hurry.set()
        await _any((self._ready, self.gone), timeout_s)
        return self._ready.is_set()

    def signal(self, number: int) -> None:
        """Send the child a signal, if it runs; its successor and its predecessors too, if there are any."""
        for life in (self._life, self._coming, *self._leaving):
            if life is not None:
                life.signal(number)

    async def _live(self) -> tuple[float, str | None]:
        """One life of the child, its successors' included: how long it ran in seconds, and how it ended (None: it was
        to end)."""
        loop = asyncio.get_running_loop()
        born, log_start = loop.time(), self._log_size()
        how = None
        if self._life is None:
            try:
                self._life = self._start()
            except OSError as error:
                # Out of processes, memory or descriptors: as transient as a death, and no reason to end the others.
                how = f"could not be started ({error.strerror})"
            else:
                self._record(self.spec.pid_file, self._life.pid)
        message: Mapping[str, Any] = {}
        was_ready = False
        if self._life is not None:
            life = await self._until_over()
            how, message = ending(life.ended.result()), await life.last_word()
            was_ready = life.is_ready
            self._life = None
            self.spec.pid_file.unlink(missing_ok=True)
        self._ready.clear()
        assert how is not None
        failure = None if was_ready else self._start_failed(how, message, log_start)
        if not self.first_ready.done() and failure is not None:
            self.first_ready.set_result(failure)
        if self._renewing:
            self._renewing = False
            return loop.time() - born, None
        if failure is not None:
            self._tell_renewed(failure)
        return loop.time() - born, how

    async def _until_over(self) -> Life:
        """Wait until the process in place has ended and no successor takes over; that process."""
        while True:
            life = self._life
            assert life is not None
            self._moved.clear()
            moved = asyncio.ensure_future(self._moved.wait())
            waiting: set[asyncio.Future[Any]] = {life.ended, moved}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            moved.cancel()
            if self._life is life:
                await self._settled.wait()
            if self._life is life and life.ended.done():
                return life

    def _start(self) -> Life:
        spec = self.spec
        first = spec.first_argv if not self.first_ready.done() else ()
        argv = [*spec.argv, *first, "--lifeline", str(self._lifeline_fd)]
        output: contextlib.AbstractContextManager[IO[bytes] | None] = (
            logfiles.open_log(spec.log) if spec.log else contextlib.nullcontext()
        )
        with output as stream:
            return Life.start(
                argv, output=stream, pass_fds=(self._lifeline_fd, *spec.pass_fds), ready=self._heard_ready
            )

    def _heard_ready(self, life: Life, message: Mapping[str, Any]) -> None:
        if life is not self._life:
            return
        self._ready.set()
        if not self.first_ready.done():
            self.first_ready.set_result(message)
        if not self._renewing:
            self._tell_renewed(None)

    def _record(self, path: Path, pid: int) -> None:
        try:
            write_pid(path, pid)
        except OSError as error:
            # A full disk: the server serves on, only a later parent could not find this child.
            self._say(f"Cannot write {path}: {error.strerror}.")

    def _beside(self, life: Life) -> Path:
        """The pid file of a process that is not, or no longer, the one in place."""
        return self.spec.pid_file.with_name(f"{self.spec.name}.{life.pid}.pid")

    def _log_size(self) -> int:
        return logfiles.size(self.spec.log) if self.spec.log else 0

    def _start_failed(self, how: str, message: Mapping[str, Any], log_start: int) -> StartFailed:
        if "error" in message:
            return StartFailed(str(message["error"]), code="refused")
        lines = logfiles.tail(self.spec.log, start=log_start) if self.spec.log else []
        said = "".join(f"\n    {line}" for line in lines)
        where = f" The end of its log, {self.spec.log}:{said}" if lines else ""
        return StartFailed(f"The {self.spec.name} process {how} before it was ready.{where}")

    # ---- a new process in the place of the old one

    async def replace(self, *, hand_over: int, timeout_s: float, leave_s: float) -> StartFailed | None:
        """Start a successor beside the process that runs. Once it is ready it takes over, and the old one is asked by
        the signal ``hand_over`` to leave, for which it has ``leave_s`` seconds. If it never is, the answer says why,
        and the old one goes on."""
        if self._life is None:
            return (
                None if await self.settle(timeout_s) else StartFailed(f"The {self.spec.name} process does not come up.")
            )
        log_start = self._log_size()
        self._settled.clear()
        try:
            coming = self._coming = self._start()
            self._record(self._beside(coming), coming.pid)
            await _any((coming.decided, self._finished), timeout_s)
            if coming.is_ready and not coming.ended.done() and not self._finished.is_set():
                self._take_over(coming, hand_over, leave_s)
                return None
            coming.signal(signal.SIGKILL)
            how = ending(await coming.ended) if coming.decided.is_set() else f"was not ready after {timeout_s:g} s"
            await coming.ended
            self._beside(coming).unlink(missing_ok=True)
            return self._start_failed(how, await coming.last_word(), log_start)
        except OSError as error:
            return StartFailed(f"The {self.spec.name} process could not be started ({error.strerror}).")
        finally:
            self._coming = None
            self._settled.set()

    def _take_over(self, coming: Life, hand_over: int, leave_s: float) -> None:
        old, self._life = self._life, coming
        self._record(self.spec.pid_file, coming.pid)
        self._beside(coming).unlink(missing_ok=True)
        self._ready.set()
        self._moved.set()
        if old is not None and not old.ended.done():
            old.signal(hand_over)
            self._see_off(old, leave_s)

    def leave(self, *, hand_over: int, leave_s: float) -> None:
        """Let the process leave without a successor."""
        self.finish()
        if self._life is not None:
            self._life.signal(hand_over)
            asyncio.get_running_loop().call_later(leave_s, self._life.signal, signal.SIGTERM)

    async def renew(self, *, end: int, timeout_s: float) -> StartFailed | None:
        """End the process by the signal ``end`` and start another one in its place: for children of which two must
        never work at once. If the new one is not ready in time the answer says why; it is tried again and again."""
        self._renewed = asyncio.get_running_loop().create_future()
        life = self._life
        if life is not None:
            self._renewing = True
            life.signal(end)
            if not await life.ends_within(timeout_s):
                life.signal(signal.SIGKILL)
        self._hurry.set()
        await asyncio.wait({self._renewed}, timeout=timeout_s)
        outcome, self._renewed = self._renewed, None
        if outcome.done():
            return outcome.result()
        return StartFailed(f"The {self.spec.name} process was not ready after {timeout_s:g} s.")

    def _tell_renewed(self, failure: StartFailed | None) -> None:
        if self._renewed is not None and not self._renewed.done():
            self._renewed.set_result(failure)

    def _see_off(self, life: Life, leave_s: float) -> None:
        self._record(self._beside(life), life.pid)
        until = asyncio.get_running_loop().time() + leave_s
        self._leaving[life] = (until, asyncio.ensure_future(self._seen_off(life, leave_s)))

    async def _seen_off(self, life: Life, leave_s: float) -> None:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if await life.ends_within(leave_s):
                break
            life.signal(number)
            leave_s = 1.0
        await life.ended
        self._beside(life).unlink(missing_ok=True)
        del self._leaving[life]

    # ---- from one program of the parent to the next

    def found(self) -> list[Found]:
        """Its processes, for the next program of this process."""
        now = asyncio.get_running_loop().time()
        current = [self._life.found()] if self._life is not None else []
        return [
            *current,
            *(life.found(leaving=True, left_s=max(0.0, until - now)) for life, (until, _) in self._leaving.items()),
        ]

    def _adopt(self, found: Sequence[Found]) -> None:
        for one in found:
            life = Life.adopt(one, ready=self._heard_ready)
            if life is None:
                continue
            if one.leaving:
                self._see_off(life, one.left_s)
                continue
            self._life = life
            if life.is_ready:
                self._ready.set()


async def _any(events: Sequence[asyncio.Event], timeout_s: float) -> None:
    """Return when one of the events is set, or the time is up."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()
