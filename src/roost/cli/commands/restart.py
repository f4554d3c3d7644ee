"""``roost restart``: the running server of a home takes up new code and settings, and no request notices.

The server does it (``roost.wiring.renewal``); this asks for it and tells what became of it.
"""

from __future__ import annotations

import json as encoding
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from roost.cli.failure import CommandFailed, Interrupted
from roost.cli.output import Aside, Output
from roost.cli.session import JsonResult
from roost.wiring.pids import Process

TIMEOUT_S = 300.0
"""More than the server's own limits together."""


def restart(
    home: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The home of the server.  [env: ROOST_HOME; default ~/.roost]")
    ] = None,
    gateways: Annotated[
        bool, typer.Option("--gateways", help="New gateway workers only, with the code and settings of now.")
    ] = False,
    json: JsonResult = False,
) -> None:
    """Restart the server in place, after an upgrade or a change of settings: its process, port and replicas stay,
    streams go on, no connection is refused.

    The new program checks itself first. If that fails, the server goes on as it was, and the reason is told here.
    """
    from roost.config import Settings, known_home
    from roost.wiring import instance, renewal, takeover

    out = Aside() if json else Output()
    settings = Settings(home=known_home(home))
    process = instance.running(settings)
    if process is None:
        raise CommandFailed(f"No server is running from {settings.home}. Start one: roost serve")
    with process:
        waiting = Waiting(settings.run_dir / renewal.FILE, process, time.monotonic)
        before = waiting.told()
        if before is None:
            # Its parent would be ended by the signal.
            raise CommandFailed(
                f"The server (pid {process.pid}) cannot restart in place: it is still starting, or an older version. "
                "`roost stop --keep-replicas`, then `roost serve`."
            )
        process.send(takeover.RESTART_GATEWAYS if gateways else signal.SIGUSR2)
        out.note(f"Restarting the server (pid {process.pid}).")
        told = waiting.until_over(int(before["number"]))
    if json:
        out.json({"restarted": told["state"] == renewal.DONE, "pid": process.pid, **told})
    if told["state"] != renewal.DONE:
        raise CommandFailed(f"Not restarted: {told['message']}")
    out.line(f"Restarted: the server runs Roost {told['version']}.")


@dataclass(frozen=True, slots=True)
class Waiting:
    """Reads what the server tells of its restarts."""

    path: Path
    process: Process
    monotonic: Callable[[], float]

    def told(self) -> Mapping[str, Any] | None:
        """What it told last; None when it has told nothing."""
        try:
            told: Mapping[str, Any] = encoding.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return told

    def until_over(self, number: int) -> Mapping[str, Any]:
        """Wait for the end of a restart after ``number``; what it told. Raises ``Interrupted`` on Ctrl-C."""
        from roost.wiring.renewal import DONE, FAILED

        deadline = self.monotonic() + TIMEOUT_S
        try:
            while self.monotonic() < deadline:
                told = self.told()
                if told is not None and told["number"] > number and told["state"] in (DONE, FAILED):
                    return told
                if self.process.wait(0.05):
                    raise CommandFailed("The server has ended. Its last words are where it was started.")
        except KeyboardInterrupt:
            raise Interrupted("\nThe server goes on restarting.") from None
        raise CommandFailed(f"The server has not told within {TIMEOUT_S:g} s what became of its restart.")
