"""Waits for an endpoint and shows how it gets on: the loop around ``client.waiting``. Used by the endpoint commands."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from roost.cli.failure import CommandFailed, ExitCode, Interrupted
from roost.cli.output import Output
from roost.cli.session import Session
from roost.cli.wait import condition, failure_lines, queued_hint
from roost.client.errors import ClientError, EndpointFailed, WaitFailed, WaitTimeout
from roost.client.waiting import Done, Fail, Target, Waiting, news_key, step

if TYPE_CHECKING:
    from roost.client.requests import Answer
    from roost.schemas import Endpoint


def wait_for(session: Session, first: Answer[Endpoint], target: Target, timeout_s: float | None) -> Answer[Endpoint]:
    """Poll until the endpoint has reached ``target`` and return the last answer.

    ``first`` is the answer to the request that set it going. Raises ``CommandFailed`` with exit code 5 when it reached
    ERROR, 7 when ``timeout_s`` is over, and ``Interrupted`` on Ctrl-C; the endpoint itself is left as it is.
    """
    endpoint_id = first.value.id
    progress = ProgressLine(session.out)
    try:
        with progress:
            return _poll(session, first, target, timeout_s, progress)
    except KeyboardInterrupt:
        goes_on = {"STARTED": "goes on starting", "STOPPED": "goes on stopping"}[target]
        if progress.state == "PENDING" and target == "STARTED":
            goes_on = "stays in the queue and starts when there is room"
        lines = [
            f"Not waiting any longer; the endpoint {goes_on}.",
            f"  Look:  roost endpoints retrieve {endpoint_id}",
        ]
        if target == "STARTED":
            lines.append(f"  Stop:  roost endpoints stop {endpoint_id}")
        raise Interrupted("\n".join(lines)) from None


def _poll(
    session: Session, answer: Answer[Endpoint], target: Target, timeout_s: float | None, progress: ProgressLine
) -> Answer[Endpoint]:
    from roost.client import requests

    endpoint_id = answer.value.id
    started = session.monotonic()
    waiting, told = Waiting(target, timeout_s), set[str]()
    seen: Endpoint | ClientError = answer.value
    while True:
        waiting, now = step(waiting, seen, session.monotonic() - started)
        if not isinstance(seen, ClientError):
            progress.state = seen.state
            if isinstance(now, Done | Fail) or waiting.moved:
                _tell(seen, target, told, progress, over=isinstance(now, Done | Fail))
            else:
                # What it still shows is the state of before it was asked.
                progress.show("starting …" if target == "STARTED" else "stopping …", "asked")
        if isinstance(now, Done):
            return answer
        if isinstance(now, Fail):
            raise _failure(now.error) from None
        if isinstance(seen, ClientError):
            progress.show(f"{seen.message} Trying again.", "away")
        session.sleep(now.seconds)
        try:
            answer = session.client.send(requests.retrieve_endpoint(endpoint_id))
            seen = answer.value
        except ClientError as error:
            seen = error


def _tell(endpoint: Endpoint, target: Target, told: set[str], progress: ProgressLine, *, over: bool) -> None:
    """Show how it is, and then what helps, once. Where the line is overwritten, both are kept above it."""
    hint = queued_hint(endpoint) if target == "STARTED" and not over else None
    new = hint is not None and hint not in told
    if hint is not None and progress.live:
        if new:
            progress.say(condition(endpoint))
        progress.show(f"{endpoint.state} · waiting", news_key(endpoint))
    else:
        progress.show(condition(endpoint), news_key(endpoint))
    if hint is not None and new:
        told.add(hint)
        progress.say(f"Hint: {hint}")


def _failure(error: ClientError) -> CommandFailed | ClientError:
    """The end of the waiting as the end of the command; failures of the connection stay as they are."""
    if isinstance(error, EndpointFailed):
        return CommandFailed(error.message, lines=failure_lines(error.endpoint), code=ExitCode.ENDPOINT_FAILED)
    if isinstance(error, WaitTimeout):
        look = f"It goes on; look at it with `roost endpoints retrieve {error.endpoint.id}`."
        return CommandFailed(f"{error.message} {look}", code=ExitCode.TIMED_OUT)
    return CommandFailed(error.message) if isinstance(error, WaitFailed) else error


class ProgressLine:
    """One line on stderr that is overwritten at a terminal, else a line whenever something changes."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self.state: str | None = None
        """The state in which the endpoint was last seen."""
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

    @property
    def live(self) -> bool:
        """Whether there is a line that is overwritten."""
        return self._status is not None

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
