"""``roost serve``: the tiny parent of the control plane and the gateways.

It binds the public port, starts its children, starts them again when they die, and ends them in order. Called by
the ``serve`` command. It must never import a part of the server, open the store, or answer a request: what can
crash lives in the children.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from roost._version import __version__
from roost.config import Settings, known_home
from roost.domain.errors import InvalidSettings
from roost.web import certificates
from roost.wiring import home, instance, left_replicas, logfiles, renewal, takeover
from roost.wiring.banner import Welcome, banner, ready_line
from roost.wiring.child import Child, ChildSpec, StartFailed
from roost.wiring.leftovers import Leftovers
from roost.wiring.listen import bind, origin
from roost.wiring.pids import write_pid
from roost.wiring.program import program
from roost.wiring.renewal import Crew, Renewal
from roost.wiring.restart import RestartPolicy
from roost.wiring.takeover import Handover

START_TIMEOUT_S = 60.0
"""How long the children may take to be ready for the first time."""

GATEWAY_HURRY_S = 1.0
"""How long a gateway may take, in a stop at once, before it is told that this means now."""


@dataclass(frozen=True, slots=True)
class Commands:
    """The command lines of the children; replaceable for tests."""

    control: Callable[[Path], Sequence[str]] = lambda settings: _module("roost.wiring.control", str(settings))
    gateway: Callable[[Path, int, int], Sequence[str]] = lambda settings, index, fd: _module(
        "roost.wiring.gateway", str(settings), "--index", str(index), "--fd", str(fd)
    )


@dataclass(frozen=True, slots=True)
class Options:
    """What belongs to one run of ``roost serve`` and not to the settings. ``verbose``: children log to the terminal.
    ``new_key``: make a new admin key. ``json``: one line of JSON instead of the banner. ``slack_s``: what a child may
    take on top of its deadlines before it is killed, and the deadline of a stop at once. ``rotate_every_s``: how often
    the logs' sizes are looked at. ``argv``: the command line that starts this server anew. ``say`` and ``show`` take
    lines for standard error and standard output."""

    keep_replicas: bool = False
    verbose: bool = False
    new_key: bool = False
    json: bool = False
    slack_s: float = 15.0
    rotate_every_s: float = 60.0
    argv: tuple[str, ...] = ()
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    commands: Commands = field(default_factory=Commands)
    say: Callable[[str], None] = lambda line: None
    show: Callable[[str], None] = lambda line: None


def serve(settings: Settings, options: Options) -> int:
    """Serve until told to stop; the exit code.

    Raises ``InvalidSettings``, ``Conflict`` or ``StartFailed`` with one sentence when it cannot begin.
    """
    if sys.platform != "linux":
        raise InvalidSettings(
            f"`roost serve` needs Linux (pidfds, /proc); this is {sys.platform}. Clients run anywhere."
        )
    if settings.tls_cert:
        certificates.read(settings.tls_cert, settings.tls_key)
    if not settings.home.exists():
        # Who cannot have the port gets no empty home either; where there is none, no old gateway holds it.
        bind(settings.host, settings.port).close()
    home.prepare(settings)
    handover = takeover.received()
    if handover is not None:
        return _run(settings, options, socket.socket(fileno=handover.listening), instance.Lock(handover.lock), handover)
    lock = instance.acquire(settings)
    try:
        with Leftovers(settings, options.say) as leftovers:
            leftovers.end_control()
            listening = leftovers.bind()
    except BaseException:
        lock.release()
        raise
    return _run(settings, options, listening, lock, None)


def _run(
    settings: Settings, options: Options, listening: socket.socket, lock: instance.Lock, handover: Handover | None
) -> int:
    try:
        with listening:
            settings = replace(settings, port=listening.getsockname()[1])
            home.write_private(settings.run_dir / "settings.json", settings.dump())
            write_pid(settings.run_dir / "serve.pid", os.getpid())
            if handover is None:
                # Of a server that was killed: it would tell that this one can restart in place before it can.
                (settings.run_dir / renewal.FILE).unlink(missing_ok=True)
            try:
                return asyncio.run(Parent(settings, options, listening, lock, handover).run())
            finally:
                for name in ("serve.pid", renewal.FILE):
                    (settings.run_dir / name).unlink(missing_ok=True)
    finally:
        lock.release()


class Parent:
    """The running parent: its children and its way to end. ``handover``: what the program before this one left."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        listening: socket.socket,
        lock: instance.Lock,
        handover: Handover | None = None,
    ) -> None:
        self._settings = settings
        self._options = options
        self._listening = listening
        self._lock = lock
        self._handover = handover
        self._lasting = handover.lasting if handover is not None else signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._terminal = _has_terminal()
        self._keep = options.keep_replicas
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()

    async def run(self) -> int:
        """Start, serve, stop. Raises ``StartFailed``."""
        # Nothing is ever written to the lifeline: children see its end when this process is gone, however it went.
        before = self._handover
        lifeline_fd, held_fd = os.pipe() if before is None else (before.lifeline, before.held)
        control = self._child(self._control_spec(), lifeline_fd)
        wanted = [self._child(self._gateway_spec(n), lifeline_fd) for n in range(self._settings.gateway_workers)]
        crew = Crew(control, wanted, self._settings.drain_deadline_s + self._options.slack_s)
        gateways = [*wanted, *self._left_over(wanted, lifeline_fd, crew.leave_s)]

        def hold(number: int) -> Handover:
            return self._hold(number, lifeline_fd, held_fd, [control, *gateways])

        restarts = Renewal(self._settings.run_dir, self._options.argv, self._options.say, hold)
        self._handle_signals(restarts)
        try:
            async with asyncio.TaskGroup() as tasks:
                for child in (control, *gateways):
                    tasks.create_task(child.run(), name=child.spec.name)
                background = [tasks.create_task(self._rotate_logs([control, *gateways]))]
                try:
                    failure = await self._start(control, gateways) if before is None else None
                    if failure is not None:
                        self._request(keep=True)
                    elif not self._stopping.is_set():
                        background.append(tasks.create_task(restarts.run(crew, before)))
                    await self._stopping.wait()
                finally:
                    restarts.stop()
                    await self._end(control, gateways)
                    for task in background:
                        task.cancel()
        finally:
            os.close(held_fd)
            os.close(lifeline_fd)
        if failure is not None:
            raise failure
        return self._told_end()

    def _told_end(self) -> int:
        """Say how it ended; the exit code. That the replicas ended is looked up, since a control plane that had to be
        killed, or never came up, did not end them."""
        place = self._settings.home
        left = () if self._keep else left_replicas.running(place)
        if left:
            self._options.say(
                f"The server has stopped, but {left_replicas.counted(len(left))} could not be ended: "
                f"the next server adopts what runs, `roost stop --home {place}` ends it."
            )
            return 1
        self._options.say("Stopped.")
        return 0

    def _handle_signals(self, restarts: Renewal) -> None:
        loop = asyncio.get_running_loop()

        def request(keep: bool, *, at_once: bool = False) -> Callable[[], None]:
            return lambda: self._request(keep=keep, at_once=at_once)

        polite = request(self._keep)
        loop.add_signal_handler(signal.SIGTERM, polite)
        loop.add_signal_handler(signal.SIGINT, lambda: self._request(keep=self._keep, at_once=self._stopping.is_set()))
        loop.add_signal_handler(signal.SIGUSR1, request(True))
        loop.add_signal_handler(signal.SIGQUIT, request(False, at_once=True))
        loop.add_signal_handler(signal.SIGHUP, self._hung_up, restarts)
        loop.add_signal_handler(signal.SIGUSR2, lambda: restarts.wish(gateways_only=False))
        loop.add_signal_handler(takeover.RESTART_GATEWAYS, lambda: restarts.wish(gateways_only=True))
        if self._handover is not None:
            takeover.listen()

    def _hung_up(self, restarts: Renewal) -> None:
        """A terminal that closes stops the server, unless it was started to survive that (nohup); else HUP is the wish
        to start anew, as service managers and administrators send it."""
        if self._terminal and not _has_terminal():
            self._terminal = False
            if not self._lasting:
                self._request(keep=self._keep)
            return
        restarts.wish(gateways_only=False)

    def _request(self, *, keep: bool, at_once: bool = False) -> None:
        """Begin to stop; the first request says whether replicas stay, any may say ``at_once``."""
        if not self._stopping.is_set():
            self._keep = keep
            self._stopping.set()
        if at_once:
            self._at_once.set()

    def _child(self, spec: ChildSpec, lifeline_fd: int) -> Child:
        before = self._handover
        return Child(
            spec,
            lifeline_fd=lifeline_fd,
            policy=self._options.policy,
            say=self._options.say,
            found=before.children.get(spec.name, ()) if before is not None else None,
        )

    def _left_over(self, gateways: Sequence[Child], lifeline_fd: int, leave_s: float) -> list[Child]:
        """Gateways of the program before that the settings no longer want; they are leaving."""
        wanted = {"control", *(gateway.spec.name for gateway in gateways)}
        names = [name for name in (self._handover.children if self._handover else ()) if name not in wanted]
        extra = [self._child(self._gateway_spec(int(name.rpartition("-")[2])), lifeline_fd) for name in names]
        for child in extra:
            child.leave(hand_over=signal.SIGUSR1, leave_s=leave_s)
        return extra

    def _hold(self, number: int, lifeline_fd: int, held_fd: int, children: Sequence[Child]) -> Handover:
        return Handover(
            listening=self._listening.fileno(),
            lock=self._lock.handle,
            lifeline=lifeline_fd,
            held=held_fd,
            children={child.spec.name: child.found() for child in children if not child.gone.is_set()},
            number=number,
            lasting=self._lasting,
        )

    def _control_spec(self) -> ChildSpec:
        run = self._settings.run_dir
        return ChildSpec(
            name="control",
            argv=tuple(self._options.commands.control(run / "settings.json")),
            first_argv=("--new-key",) if self._options.new_key else (),
            pid_file=run / "control.pid",
            log=self._log("control"),
        )

    def _gateway_spec(self, index: int) -> ChildSpec:
        run, fd = self._settings.run_dir, self._listening.fileno()
        return ChildSpec(
            name=f"gateway-{index}",
            argv=tuple(self._options.commands.gateway(run / "settings.json", index, fd)),
            pid_file=run / f"gateway-{index}.pid",
            log=self._log(f"gateway-{index}"),
            pass_fds=(fd,),
        )

    def _log(self, name: str) -> Path | None:
        return None if self._options.verbose else self._settings.logs_dir / f"{name}.log"

    async def _start(self, control: Child, gateways: Sequence[Child]) -> StartFailed | None:
        """Wait until all children are ready and print the banner; what went wrong, if they never will be."""
        ready = asyncio.ensure_future(_all_ready([control, *gateways]))
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({ready, stopping}, timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ready.done():
            ready.cancel()
            if self._stopping.is_set():
                return None
            return StartFailed(
                f"The server was not ready after {START_TIMEOUT_S:g} s; its logs are in {self._settings.logs_dir}."
            )
        failure = ready.result()
        if failure is None:
            self._show_banner(control.first_ready.result())
        return failure

    def _show_banner(self, told: Mapping[str, Any] | StartFailed) -> None:
        assert not isinstance(told, StartFailed)
        settings = self._settings
        welcome = Welcome(
            version=__version__,
            origin=origin(settings.host, settings.port, tls=bool(settings.tls_cert)),
            credentials=settings.credentials_path,
            logs=settings.logs_dir,
            hardware=str(told.get("hardware") or "1x_cpu"),
            program=program(),
            api_key=told.get("api_key"),
            note=told.get("note"),
            home=settings.home if settings.sandbox and settings.home != known_home() else None,
            sandbox=settings.sandbox,
        )
        if self._options.json:
            self._options.show(ready_line(welcome, pid=os.getpid(), home=settings.home))
        else:
            self._options.show(banner(welcome))

    async def _end(self, control: Child, gateways: Sequence[Child]) -> None:
        """End the control plane, then the gateways: requests in flight need them until the replicas are drained."""
        settings = self._settings
        if not self._keep:
            self._options.say(
                f"Stopping: requests in flight may finish (at most {settings.drain_deadline_s:g} s), then the replicas "
                "end. Ctrl-C again stops at once."
            )
            # Only a control plane that lives can end replicas: one that waits for its next try is started now.
            if not await control.settle(self._options.slack_s):
                self._options.say("The control plane does not come up; replicas may be left.")
        control.finish()
        control.signal(signal.SIGUSR1 if self._keep else signal.SIGTERM)
        if self._keep:
            self._end_gateways(gateways)
        drain_s = settings.drain_deadline_s + self._options.slack_s
        hurry = signal.SIGUSR1 if self._keep else signal.SIGQUIT
        await self._gone([control], drain_s + settings.stop_grace_s, hurry, hurry_after_s=0.0)
        self._end_gateways(gateways)
        await self._gone(gateways, drain_s, signal.SIGTERM, hurry_after_s=GATEWAY_HURRY_S)

    def _end_gateways(self, gateways: Sequence[Child]) -> None:
        if self._listening.fileno() < 0:
            return
        # From here on new connections are refused instead of queued for nobody.
        self._listening.close()
        for gateway in gateways:
            gateway.finish()
            gateway.signal(signal.SIGTERM)

    async def _gone(self, children: Sequence[Child], deadline_s: float, hurry: int, hurry_after_s: float) -> None:
        """Return when the children are gone: by themselves, hurried in a stop at once, or killed when late."""
        gone = asyncio.ensure_future(_all_gone(children))
        at_once = asyncio.ensure_future(self._at_once.wait())
        await asyncio.wait({gone, at_once}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if self._at_once.is_set():
            await asyncio.wait({gone}, timeout=hurry_after_s)
            for child in children:
                child.signal(hurry)
            await asyncio.wait({gone}, timeout=self._options.slack_s)
        for child in children:
            if not child.gone.is_set():
                self._options.say(f"The {child.spec.name} process does not end; it is killed.")
                child.signal(signal.SIGKILL)
        await gone

    async def _rotate_logs(self, children: Sequence[Child]) -> None:
        complained: set[Path] = set()
        while True:
            await asyncio.sleep(self._options.rotate_every_s)
            for log in [child.spec.log for child in children if child.spec.log is not None]:
                try:
                    logfiles.rotate(log)
                except OSError as error:
                    # A full disk, say: an exception here would end the whole server.
                    if log not in complained:
                        complained.add(log)
                        self._options.say(f"Cannot set the log {log} aside ({error.strerror}): it is cut instead.")


def _has_terminal() -> bool:
    """Whether there is a terminal that this process would be told of when it closes."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


async def _all_ready(children: Sequence[Child]) -> StartFailed | None:
    for coming in asyncio.as_completed([child.first_ready for child in children]):
        told = await coming
        if isinstance(told, StartFailed):
            return told
    return None


async def _all_gone(children: Sequence[Child]) -> None:
    for child in children:
        await child.gone.wait()


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]
