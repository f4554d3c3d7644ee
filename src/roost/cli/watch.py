"""Waits for an endpoint and shows how it gets on: the loop around ``cli.wait``. Used by the endpoint commands."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from roost.cli.failure import CommandFailed, ExitCode, Interrupted
from roost.cli.output import Output
from roost.cli.session import Session
from roost.cli.wait import Outcome, Target, failure_lines, next_wait_step, on_its_way, queued_hint

if TYPE_CHECKING:
    from roost.client.requests import Answer
    from roost.schemas import Endpoint

POLL_S = 1.0
PATIENCE_S = 60.0
"""How long the server may be away while somebody waits (it is restarted, upgraded)."""


def wait_for(session: Session, first: Answer[Endpoint], target: Target, timeout_s: float | None) -> Answer[Endpoint]:
    """Poll until the endpoint has reached ``target`` and return the last answer.

    ``first`` is the answer to the request that set it going. Raises ``CommandFailed`` with exit code 5 when it reached
    ERROR, 7 when ``timeout_s`` is over, and ``Interrupted`` on Ctrl-C; the endpoint itself is left as it is.
    """
    endpoint_id = first.value.id
    try:
        with ProgressLine(session.out) as progress:
            return _poll(session, first, target, timeout_s, progress)
    except KeyboardInterrupt:
        verb = "starting" if target == "STARTED" else "stopping"
        lines = [
            f"Not waiting any longer; the endpoint goes on {verb}.",
            f"  Look:  roost endpoints retrieve {endpoint_id}",
        ]
        if target == "STARTED":
            lines.append(f"  Stop:  roost endpoints stop {endpoint_id}")
        raise Interrupted("\n".join(lines)) from None


def _poll(
    session: Session, answer: Answer[Endpoint], target: Target, timeout_s: float | None, progress: ProgressLine
) -> Answer[Endpoint]:
    started = session.monotonic()
    moved = False
    told: set[str] = set()
    while True:
        waited = session.monotonic() - started
        moved = moved or on_its_way(answer.value, target)
        step = next_wait_step(answer.value, target, moved=moved, waited_s=waited)
        progress.show(step.line, step.key)
        hint = queued_hint(answer.value) if step.outcome is Outcome.GOES_ON and target == "STARTED" else None
        if hint is not None and hint not in told:
            told.add(hint)
            progress.say(f"Hint: {hint}")
        if step.outcome is Outcome.REACHED:
            return answer
        if step.outcome is not Outcome.GOES_ON:
            raise _failure(answer.value, step.outcome)
        if timeout_s is not None and waited >= timeout_s:
            raise CommandFailed(
                f"The endpoint is not {target} after {timeout_s:g} s ({step.line}). It goes on; look at it with "
                f"`roost endpoints retrieve {answer.value.id}`.",
                code=ExitCode.TIMED_OUT,
            )
        session.sleep(POLL_S)
        answer = _retrieve(session, answer.value.id, progress)


def _retrieve(session: Session, endpoint_id: str, progress: ProgressLine) -> Answer[Endpoint]:
    """The endpoint now, patient with a server that is away for a while."""
    from roost.client import requests
    from roost.client.errors import ApiError, ConnectionFailed

    since = session.monotonic()
    while True:
        try:
            return session.client.send(requests.retrieve_endpoint(endpoint_id))
        except (ApiError, ConnectionFailed) as error:
            passing = isinstance(error, ConnectionFailed) or error.status >= 500 or error.status == 429
            if not passing or session.monotonic() - since >= PATIENCE_S:
                raise
            progress.show(f"{error.message} Trying again.", "away")
        session.sleep(POLL_S)


def _failure(endpoint: Endpoint, outcome: Outcome) -> CommandFailed:
    if outcome is Outcome.TURNED:
        return CommandFailed(f"The endpoint is {endpoint.state}: something else wanted that meanwhile.")
    reason = endpoint.state_reason
    why = reason.message if reason is not None else "The server gives no reason."
    return CommandFailed(f"The endpoint failed. {why}", lines=failure_lines(endpoint), code=ExitCode.ENDPOINT_FAILED)


class ProgressLine:
    """One line on stderr that is overwritten at a terminal, else a line whenever something changes."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._last: str | None = None
        self._status: Any = None

    def __enter__(self) -> ProgressLine:
        if self._out.shows_progress:
            from rich.console import Console

            self._status = Console(stderr=True).status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, line: str) -> None:
        """Print a line that stays, above the one that is overwritten."""
        if self._status is not None:
            from rich.text import Text

            from roost.cli.output import printable

            self._status.console.print(Text(printable(line)))
        else:
            self._out.note(line)

    def show(self, line: str, key: str) -> None:
        """Show ``line``; ``key`` says whether it is news."""
        if self._status is not None:
            from rich.text import Text

            from roost.cli.output import printable

            self._status.update(Text(printable(line)))
        elif key != self._last:
            self._out.note(line)
        self._last = key
