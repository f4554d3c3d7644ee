"""``roost stop``: end the server of a home, from another terminal, and wait until it is gone."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from roost.cli.failure import CommandFailed, Interrupted
from roost.cli.output import Aside, Output
from roost.cli.session import JsonResult
from roost.wiring.pids import Process


def stop(
    home: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The home of the server.  [env: ROOST_HOME; default ~/.roost]")
    ] = None,
    keep_replicas: Annotated[
        bool, typer.Option("--keep-replicas", help="Leave replicas running; the next server adopts them.")
    ] = False,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for requests in flight.")] = False,
    json: JsonResult = False,
) -> None:
    """Stop the server: requests in flight finish first, then its replicas end. Endpoints keep their desired state.

    Without a server, end the replicas that an earlier one left.
    """
    from roost.config import Settings, known_home
    from roost.wiring import instance, left_replicas

    if keep_replicas and now:
        raise CommandFailed("--now ends replicas, --keep-replicas leaves them: give one of the two.")
    out = Aside() if json else Output()
    place = known_home(home)
    process = instance.running(Settings(home=place))
    if process is None:
        ended = end_left(place, out, keep_replicas=keep_replicas, now=now)
        if json:
            out.json({"stopped": True, "pid": None, "ended_replicas": ended, "left_replicas": []})
        return
    with process:
        process.send(signal_for(keep_replicas=keep_replicas, now=now))
        Waiting(process, out, time.monotonic).until_gone()
    left = list(left_replicas.running(place))
    if json:
        out.json({"stopped": True, "pid": process.pid, "ended_replicas": [], "left_replicas": left})
    if not keep_replicas and left:
        # Either it was started with --keep-replicas, or it could not end them, which it said where it was started.
        out.note(f"The server left {left_replicas.counted(len(left))} running; `roost stop` again ends that.")


def end_left(place: Path, out: Output, *, keep_replicas: bool, now: bool) -> list[str]:
    """End the replicas that a server which is gone left running in ``place``; their ids. Raises ``CommandFailed`` when
    there are none, or when some do not end, or when they are to be kept."""
    from roost.wiring import left_replicas

    none = f"No server is running from {place}"
    left = left_replicas.running(place)
    if not left:
        raise CommandFailed(f"{none}.")
    count = left_replicas.counted(len(left))
    if keep_replicas:
        raise CommandFailed(f"{none}. What an earlier one left, {count}, keeps running; `roost stop` ends that.")
    out.note(f"{none}, but an earlier one left {count}: ending that.")
    try:
        left_replicas.end(place, out.note, now=now)
    except KeyboardInterrupt:
        raise Interrupted("\nThe replicas go on ending; `roost stop --now` ends them at once.") from None
    still = left_replicas.running(place)
    if still:
        raise CommandFailed(f"{left_replicas.counted(len(still))} did not end: {', '.join(still)}.")
    out.line(f"Ended {count}: {', '.join(left)}.")
    return list(left)


def signal_for(*, keep_replicas: bool, now: bool) -> signal.Signals:
    """The signal that asks ``roost serve`` to end in this way."""
    if now:
        return signal.SIGQUIT
    return signal.SIGUSR1 if keep_replicas else signal.SIGTERM


@dataclass(frozen=True, slots=True)
class Waiting:
    """Waits for the server's end and says so: a line that counts at a terminal, one line into a pipe."""

    process: Process
    out: Output
    monotonic: Callable[[], float]

    def until_gone(self) -> None:
        """Return when it is gone. Raises ``Interrupted`` on Ctrl-C: the server goes on stopping."""
        began = self.monotonic()
        pid = self.process.pid
        if not self.out.shows_progress:
            self.out.note(f"Stopping the server (pid {pid}).")
        try:
            while not self.process.wait(1.0):
                self._show(f"Stopping the server (pid {pid}): {self.monotonic() - began:.0f} s")
        except KeyboardInterrupt:
            raise Interrupted(
                f"\nThe server (pid {pid}) goes on stopping; `roost stop --now` ends it at once."
            ) from None
        self._show("")
        self.out.line("Stopped.")

    def _show(self, text: str) -> None:
        if self.out.shows_progress:
            typer.echo(f"\r\x1b[K{text}", nl=False, err=True)
