"""Expected failures of commands, and the exit code and sentence of each. Called by ``cli.group`` and the commands.

Pure. The modules of errors that it imports are light: they cost no start-up time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from roost.client.errors import ApiError, ClientError, ConnectionFailed, NoKeyKnown, NoServerKnown
from roost.domain.errors import RoostError, ServerUnreachable


class ExitCode(IntEnum):
    """What the command line answers its caller; documented in ``docs/cli.md``."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    DENIED = 4
    ENDPOINT_FAILED = 5
    UNREACHABLE = 6
    TIMED_OUT = 7
    INTERRUPTED = 130


class CommandFailed(Exception):
    """A command ends here: one sentence, further lines, and the exit code."""

    def __init__(self, message: str, *, lines: tuple[str, ...] = (), code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(message)
        self.message = message
        self.lines = lines
        self.code = code


class Interrupted(Exception):
    """Ctrl-C while something goes on at the server; ``message`` says what and how to follow or end it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Report:
    """What is written to stderr, and the exit code."""

    text: str
    code: ExitCode


EXPECTED = (CommandFailed, Interrupted, ClientError, RoostError)
"""The exceptions that ``explain`` takes; all others are defects and keep their traceback."""


def explain(error: CommandFailed | Interrupted | ClientError | RoostError) -> Report:
    """The report of an expected failure."""
    if isinstance(error, Interrupted):
        return Report(error.message, ExitCode.INTERRUPTED)
    if isinstance(error, CommandFailed):
        return Report("\n".join((f"Error: {error.message}", *error.lines)), error.code)
    if isinstance(error, ApiError):
        wanted = error.request_id is not None and error.status >= 500 and error.request_id not in error.message
        about = f" (request {error.request_id})" if wanted else ""
        look = " `roost endpoints list` shows what there is." if error.code == "endpoint_not_found" else ""
        return Report(f"Error: {in_commands(error.message)}{look}{about}", code_of_status(error.status))
    code = ExitCode.ERROR
    if isinstance(error, ConnectionFailed | ServerUnreachable | NoServerKnown):
        code = ExitCode.UNREACHABLE
    elif isinstance(error, NoKeyKnown):
        code = ExitCode.DENIED
    return Report(f"Error: {error.message}", code)


def in_commands(message: str) -> str:
    """A sentence of the API with its requests named as commands; other sentences stay as they are."""
    return message.replace("GET /v1/models lists", "`roost models list` shows")


def code_of_status(status: int) -> ExitCode:
    """The exit code for an HTTP status that is a refusal or failure."""
    if status in (401, 403):
        return ExitCode.DENIED
    return ExitCode.NOT_FOUND if status == 404 else ExitCode.ERROR
