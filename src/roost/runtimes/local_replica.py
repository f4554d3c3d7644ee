"""One replica of the local runtime: follows its supervisor, and cleans up after one that died.

Owned by ``runtimes.local``. It never decides about room, and never ends a process that it cannot prove to be its
replica's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from typing import Any

from roost.domain.hardware import Resources
from roost.domain.replica import ExitInfo, RuntimeState, RuntimeStatus
from roost.runtimes import local_records, supervisor_client
from roost.runtimes.local_paths import ReplicaPaths
from roost.runtimes.local_records import Record
from roost.runtimes.log_file import last_lines
from roost.runtimes.reservation import Wait
from roost.runtimes.supervision import process
from roost.runtimes.supervision import record as record_file
from roost.runtimes.supervision.log_tail import MAX_LINES
from roost.runtimes.supervisor_client import SupervisorConnection, SupervisorUnreachable

_log = logging.getLogger(__name__)

_ANSWER_S = 2.0
"""How long a supervisor may take to answer a question."""
STOP_MARGIN = timedelta(seconds=10)
"""How long, beyond the grace, a supervisor may take to end an engine before it is taken for hung."""
_EXIT_LINES = 100


class LocalReplica:
    """What this process knows of one replica. ``on_change`` is called after every change of its state."""

    def __init__(
        self,
        replica_id: str,
        paths: ReplicaPaths,
        installation: str,
        resources: Resources,
        on_change: Callable[[LocalReplica], None],
        stop_margin: timedelta = STOP_MARGIN,
    ) -> None:
        self.id = replica_id
        self.paths = paths
        self.resources = resources
        self.state = RuntimeState.PENDING
        self.node_id: str | None = None
        """Where it is; None before that is decided."""
        self.waits_for: Wait | None = None
        self.settled = asyncio.Event()
        """Set once its true state is known (after a launch or an adoption)."""
        self.over = asyncio.Event()
        """Set when it has ended and its supervisor, too."""
        self._installation = installation
        self._on_change = on_change
        self._stop_margin = stop_margin
        self._record: Record | None = None
        self._exit: ExitInfo | None = None
        self._connection: SupervisorConnection | None = None
        self._grace: timedelta | None = None
        self._failure: str | None = None
        self._is_foreign = False
        self._task: asyncio.Task[None] | None = None
        self._child: int | None = None
        self._child_ended: asyncio.Task[None] | None = None

    @property
    def holds(self) -> bool:
        """Whether its reservation counts."""
        return self.state not in (RuntimeState.PENDING, RuntimeState.EXITED)

    def status(self) -> RuntimeStatus:
        """Its status as the runtime interface wants it."""
        state, record = self.state, self._record
        if self.holds and self._grace is not None:
            state = RuntimeState.STOPPING
        is_up = state in (RuntimeState.READY, RuntimeState.STOPPING) and record is not None
        engine_pid = record.engine_pid if record is not None and self.holds else None
        return RuntimeStatus(
            replica_id=self.id,
            state=state,
            address=record.address if record is not None and is_up else None,
            node_id=None if state is RuntimeState.PENDING else self.node_id,
            pending_reason=self.waits_for.reason if self.waits_for else None,
            pending_message=self.waits_for.message if self.waits_for else None,
            exit=self._exit,
            pids=() if engine_pid is None else (engine_pid,),
            started_at=self._started_at(),
            log_tail=self._exit.log_tail if self._exit else (),
        )

    def wait_for(self, wait: Wait) -> bool:
        """Stay PENDING because of ``wait``; whether that is news."""
        is_news = wait != self.waits_for
        self.waits_for = wait
        return is_news

    def begin(self, launch: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Start its supervisor; from now on its reservation counts."""
        self.state, self.waits_for = RuntimeState.STARTING, None
        self._follow(self._bring_up(launch, environment))

    def adopt(self, record: Record) -> None:
        """Take over a replica that an earlier control plane launched."""
        self._apply(record)
        self._follow(self._recover())

    def end(self, exit_: ExitInfo) -> None:
        """It has ended (or never began): nothing of it runs."""
        self.state, self._exit, self.waits_for = RuntimeState.EXITED, exit_, None
        self._on_change(self)
        if self._task is None:
            self.settled.set()
            self.over.set()

    async def stop(self, grace: timedelta) -> None:
        """Have it ended, and wait until it is."""
        if self.holds and (self._grace is None or grace < self._grace):
            self._grace = grace
            self._ask_to_stop()
            self._on_change(self)
        try:
            async with asyncio.timeout((grace + self._stop_margin).total_seconds()):
                await self.over.wait()
        except TimeoutError:
            _log.warning("the supervisor of %s does not end its engine; killing the supervisor", self.id)
            self._signal_supervisor(signal.SIGKILL)
            await self.over.wait()

    async def logs(self, tail: int) -> tuple[str, ...]:
        """The last lines of its output: from its supervisor while that answers, else from its log file."""
        if self.holds and self._record is not None:
            try:
                held = await supervisor_client.logs(self._record.control_socket, self._record.nonce, tail, _ANSWER_S)
                return held if tail <= MAX_LINES or len(held) < MAX_LINES else await self._longer(held, tail)
            except SupervisorUnreachable as error:
                _log.info("%s: reading the log file, since its supervisor is unreachable: %s", self.id, error)
        lines = await asyncio.to_thread(last_lines, self.paths.log, tail)
        return lines or (self._exit.log_tail[-tail:] if self._exit and tail > 0 else ())

    async def _longer(self, held: tuple[str, ...], tail: int) -> tuple[str, ...]:
        """More lines than a supervisor holds, where its file has them."""
        filed = await asyncio.to_thread(last_lines, self.paths.log, tail)
        return filed if len(filed) > len(held) else held

    async def close(self) -> None:
        """Let go of it; it keeps running."""
        tasks = [task for task in (self._task, self._child_ended) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def forget(self) -> None:
        """Remove what is left of it on disk, unless its id turned out to be another installation's."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self.over.wait()
        except TimeoutError:
            _log.warning("the supervisor of %s does not end, though its engine has", self.id)
        await self.close()
        for path in () if self._is_foreign else self.paths.all:
            path.unlink(missing_ok=True)

    def _has_ended(self) -> bool:
        return self.state is RuntimeState.EXITED

    def _started_at(self) -> datetime | None:
        return self._record.started if self._record is not None else None

    def _follow(self, work: Coroutine[Any, Any, None]) -> None:
        self._on_change(self)
        self._task = asyncio.create_task(self._until_over(work), name=f"follow {self.id}")

    async def _until_over(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
            if self._child_ended is not None:
                await asyncio.wait([self._child_ended], timeout=_ANSWER_S)
        finally:
            self.settled.set()
            self.over.set()

    async def _bring_up(self, launch: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        log_path = self.paths.log.with_name("supervisors.log")
        try:
            self._child, connection = await supervisor_client.spawn(self.paths.record, log_path, environment)
        except OSError as error:
            self.end(ExitInfo(cause=f"its supervisor could not be started: {error.strerror}"))
            return
        self._child_ended = asyncio.create_task(supervisor_client.ended(self._child), name=f"reap {self.id}")
        connection.send("launch", **launch)
        await self._listen(connection)
        await self._recover()

    async def _listen(self, connection: SupervisorConnection, first: Mapping[str, Any] | None = None) -> None:
        """Take what the supervisor says until it hangs up; ``first`` it has said already."""
        self._connection = connection
        if self._grace is not None:
            self._ask_to_stop()
        try:
            if first is not None:
                self._hear(first)
            while (message := await connection.receive()) is not None:
                self._hear(message)
        except ValueError as error:
            _log.error("the supervisor of %s talks nonsense: %s", self.id, error)
        finally:
            self._connection = None
            connection.close()

    def _hear(self, message: Mapping[str, Any]) -> None:
        if message.get("type") == "status":
            self._apply(local_records.parse(message["record"]))
            self.settled.set()
        elif message.get("type") == "failed":
            self._failure = message["cause"]
        # "refused" needs no reaction: the connection ends, and _recover finds out who has the id.

    async def _recover(self) -> None:
        """Without a connection: find the supervisor again, or bury a replica whose supervisor is dead."""
        delay = 0.01
        while not self._has_ended():
            try:
                if await self._look_again():
                    delay = 0.01
            except (OSError, ValueError) as error:
                _log.error("cannot find out about %s, trying again: %s", self.id, error)
            if not self._has_ended():
                self.settled.set()
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)

    async def _look_again(self) -> bool:
        """One attempt to find the supervisor; whether it was there for a while. Raises ``OSError``."""
        record = self._read_record()
        if record is not None and record.installation != self._installation:
            self._is_foreign = True
            self.end(ExitInfo(cause="its id belongs to a replica of another installation"))
            return False
        if record is not None:
            self._apply(record)
            if record.state is RuntimeState.EXITED:
                return False
            if await self._reconnect(record):
                return True
        lock = record_file.lock(str(self.paths.lock))
        if lock is not None:
            try:
                await self._bury()
            finally:
                os.close(lock)
        return False

    async def _reconnect(self, record: Record) -> bool:
        try:
            connection, first = await supervisor_client.connect(record.control_socket, record.nonce, _ANSWER_S)
        except SupervisorUnreachable as error:
            _log.info("the supervisor of %s is unreachable: %s", self.id, error)
            return False
        await self._listen(connection, first)
        return True

    async def _bury(self) -> None:
        """The lock is ours, so the supervisor is dead. The engine died with it, or dies now, with all it started."""
        record = self._read_record()
        if record is None:
            cause = self._failure or "its supervisor died before it could start the engine; see logs/supervisors.log"
            self.end(ExitInfo(cause=cause))
            return
        self._apply(record)
        if record.state is RuntimeState.EXITED:
            return
        while await asyncio.to_thread(_kill_left_over, record):  # noqa: ASYNC110 (the kernel sends no event for this)
            await asyncio.sleep(0.005)
        tail = await asyncio.to_thread(last_lines, self.paths.log, _EXIT_LINES)
        exit_ = ExitInfo(cause="its supervisor died", log_tail=tail)
        try:
            local_records.write_exit(self.paths.record, record.raw, exit_)
        except OSError as error:
            _log.error("cannot write the end of %s to %s: %s", self.id, self.paths.record, error.strerror)
        for path in (self.paths.engine_socket, self.paths.control_socket):
            path.unlink(missing_ok=True)
        self.end(exit_)

    def _read_record(self) -> Record | None:
        try:
            return local_records.read(self.paths.record)
        except ValueError as error:
            _log.error("%s cannot be read: %s", self.paths.record, error)
            return None

    def _apply(self, record: Record) -> None:
        known = self._record
        self._record = record
        self.resources = record.resources
        if record.state is RuntimeState.EXITED:
            self.end(record.exit or ExitInfo(cause="its record does not say how it ended"))
        elif known is None or known.state is not record.state or known.engine_pid != record.engine_pid:
            self.state = record.state
            self._on_change(self)

    def _ask_to_stop(self) -> None:
        grace = self._grace
        assert grace is not None
        if self._connection is not None:
            self._connection.send("stop", grace_s=grace.total_seconds())
        else:
            self._signal_supervisor(signal.SIGTERM)

    def _signal_supervisor(self, number: signal.Signals) -> None:
        record = self._record
        if record is not None and record.boot_id == process.boot_id():
            seen = process.stat(record.supervisor_pid)
            if seen is not None and seen.started == record.supervisor_started:
                process.kill(seen, number)
        elif number is signal.SIGKILL and self._child_ended is not None and not self._child_ended.done():
            assert self._child is not None
            os.kill(self._child, number)  # a child of ours, not collected yet: the pid is still its own


def _kill_left_over(record: Record) -> bool:
    """Kill what a dead supervisor left behind; whether anything was left. Blocking: reads all of /proc."""
    is_this_boot = record.boot_id == process.boot_id()
    found = process.left_over(
        process.snapshot(),
        process.marked(record.marker),
        record.engine_pid if is_this_boot else None,
        record.engine_started if is_this_boot else None,
    )
    for one in found:
        process.kill(one)
    return bool(found)
