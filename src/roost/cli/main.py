"""The command line, ``roost``: puts the commands together. Entry point ``run``.

Kept light, since every call pays for what is imported here: no module of it imports pydantic, httpx or the server.
"""

from __future__ import annotations

from typing import Annotated

import typer

from roost.cli.commands import account, chat, endpoints, keys, models
from roost.cli.group import LazyCommand, RoostGroup
from roost.cli.session import with_session


class _Root(RoostGroup):
    lazy = {
        "serve": LazyCommand("roost.cli.commands.serve", "serve", "Run a server on this machine."),
        "stop": LazyCommand("roost.cli.commands.stop", "stop", "Stop the server of a home."),
        "restart": LazyCommand("roost.cli.commands.restart", "restart", "New code and settings, without a pause."),
        "doctor": LazyCommand("roost.cli.commands.doctor", "doctor", "What this machine lacks, and what to do."),
        "demo": LazyCommand("roost.cli.commands.demo", "demo", "A server, a small model, two questions; cleans up."),
        "selftest": LazyCommand("roost.cli.commands.selftest", "selftest", "Proof that no answer is lost."),
    }


app = typer.Typer(
    name="roost",
    cls=_Root,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Dedicated LLM endpoints on your own machines.",
    epilog="Commands find their server by --base-url and --api-key, then ROOST_BASE_URL and ROOST_API_KEY, then the "
    "credentials that `roost serve` leaves in its home.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from roost._version import __version__

        typer.echo(f"roost {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Dedicated LLM endpoints on your own machines."""


app.add_typer(endpoints.app, name="endpoints", help="Create, look at, change, start, stop and delete endpoints.")
app.add_typer(models.app, name="models", help="The catalog of models, and their weights.")
app.add_typer(keys.app, name="keys", help="API keys.")
app.command("chat")(with_session(chat.chat))
app.command("events")(with_session(account.events))
app.command("whoami")(with_session(account.whoami))


def run() -> None:
    """Run the command line with the process's arguments, and exit."""
    app(prog_name="roost")
