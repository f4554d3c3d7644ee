"""What every command that talks to a server gets: the connection flags, a client, an output, a clock.

``with_session`` turns a function whose first parameter is a ``Session`` into one that Typer can register. Nothing
heavy is imported before a command asks for its client.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli.failure import CommandFailed, code_of_status
from roost.cli.output import Output
from roost.client.errors import AuthenticationError

if TYPE_CHECKING:
    import httpx

    from roost.client.sync import Roost

BaseUrl = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="The server's base URL.  [env: ROOST_BASE_URL]")
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help="An API key; the variable keeps it private.  [env: ROOST_API_KEY]"),
]
Home = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="Talk to the server of this home.  [env: ROOST_HOME; default ~/.roost]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print the API's own JSON.")]
JsonResult = Annotated[bool, typer.Option("--json", help="Print the result as JSON; the rest goes to stderr.")]

_CONNECTION = {"base_url": BaseUrl, "api_key": ApiKey, "home": Home}

Debug = Annotated[bool, typer.Option("--debug", hidden=True, help="Tell each request and its status on stderr.")]
NonInteractive = Annotated[bool, typer.Option("--non-interactive", hidden=True, help="Accepted: nothing ever asks.")]
NoJson = Annotated[bool, typer.Option("--no-json", hidden=True, help="Accepted: text is the default.")]
Project = Annotated[str | None, typer.Option("--project", hidden=True, help="Accepted: there are no projects.")]

_ACCEPTED: dict[str, tuple[Any, Any]] = {
    "debug": (Debug, False),
    "non_interactive": (NonInteractive, False),
    "no_json": (NoJson, False),
    "project": (Project, None),
}
"""Options that other command lines of this API have everywhere, with their defaults."""


@dataclass(frozen=True, slots=True)
class World:
    """What a command uses of the world; tests give their own as the ``obj`` of Typer's runner."""

    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    patience_s: float = 1.0
    """How long a command waits for the first of an answer, in seconds, before it says why there is none."""


class Session:
    """One run of one command."""

    def __init__(self, world: World, base_url: str | None, api_key: str | None, home: Path | None) -> None:
        self._world = world
        self._flags = (base_url, api_key, home)
        self._client: Roost | None = None
        self.out = Output()
        self.sleep = world.sleep
        self.monotonic = world.monotonic
        self.patience_s = world.patience_s

    @property
    def client(self) -> Roost:
        """The client, made at the first use. Raises ``NotConfigured`` when no server is known."""
        if self._client is None:
            self._client = self.connect()
        return self._client

    def connect(self, timeout_s: float = 60.0) -> Roost:
        """Another client, which the caller closes; ``timeout_s`` is without a byte. Raises ``NotConfigured``."""
        from roost.client.sync import Roost

        base_url, api_key, home = self._flags
        world = self._world
        return Roost(base_url, api_key, home=home, timeout=timeout_s, transport=world.transport, sleep=world.sleep)

    def refused(self, error: AuthenticationError) -> CommandFailed:
        """The refusal of the key in use, with where that key was found."""
        from roost.client.credentials import about_refused, find

        about = about_refused(find(*self._flags), sandbox=error.sandbox)
        return CommandFailed(f"{error.message} {about}", code=code_of_status(error.status))

    def close(self) -> None:
        """Close the client's connections, if it was used."""
        if self._client is not None:
            self._client.close()


def with_session(function: Callable[..., None]) -> Callable[..., None]:
    """A command that takes what ``function`` takes, less its first parameter (a ``Session``), plus the connection
    flags."""
    own = inspect.signature(function, eval_str=True)
    _, *others = own.parameters.values()

    def command(ctx: typer.Context, **arguments: Any) -> None:
        flags = {name: arguments.pop(name) for name in _CONNECTION}
        accepted = {name: arguments.pop(name) for name in _ACCEPTED}
        if accepted["debug"]:
            _tell_requests()
        session = Session(ctx.obj if isinstance(ctx.obj, World) else World(), **flags)
        if accepted["project"]:
            session.out.note("Note: --project has no effect; endpoints belong to the owner of the key.")
        try:
            function(session, **arguments)
        except AuthenticationError as error:
            raise session.refused(error) from error
        finally:
            session.close()

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", keyword, annotation=typer.Context),
        *(parameter.replace(kind=keyword) for parameter in others),
        *(inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in _CONNECTION.items()),
        *(
            inspect.Parameter(name, keyword, default=default, annotation=kind)
            for name, (kind, default) in _ACCEPTED.items()
        ),
    ]
    command.__name__ = function.__name__
    command.__doc__ = function.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _tell_requests() -> None:
    """Have the HTTP library tell each request and its status on stderr; it shows neither headers nor bodies."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("httpx")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
