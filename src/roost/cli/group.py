"""The command group: loads heavy commands only when they are run, and turns expected failures into exit codes.

Used by ``cli.main``. It never hides an unexpected error: that one keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from roost.cli import spelling
from roost.cli.failure import EXPECTED, explain


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command's function is, and its line in the list of commands."""

    module: str
    function: str
    help: str


class RoostGroup(TyperGroup):
    """The root of the command line. Subclasses set ``lazy``: commands by name whose modules are imported when run."""

    lazy: ClassVar[Mapping[str, LazyCommand]] = {}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Say of an option that commands have where it belongs."""
        for arg in args:
            if not arg.startswith("-"):
                break
            name = arg.partition("=")[0]
            if name in spelling.OF_COMMANDS:
                ctx.fail(f"{name} stands after the command: `roost COMMAND … {name}`.")
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """All names: the lazy ones first, since they are what a new user needs first."""
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; of a lazy one a stand-in that has its help line, enough for lists and completion."""
        entry = self.lazy.get(cmd_name)
        return super().get_command(ctx, cmd_name) if entry is None else _stand_in(cmd_name, entry)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command to run, loaded if it is a lazy one."""
        entry = self.lazy.get(args[0])
        return super().resolve_command(ctx, args) if entry is None else (args[0], _load(args[0], entry), args[1:])

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an expected failure is told on stderr and ends with its exit code."""
        try:
            return super().invoke(ctx)
        except EXPECTED as error:
            report = explain(error)
            typer.echo(report.text, err=True)
            raise typer.Exit(report.code) from error


class EndpointsGroup(TyperGroup):
    """The group of the endpoint commands, which have short forms."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace a short form by the command's name."""
        if args and args[0] in spelling.COMMANDS:
            args = [spelling.COMMANDS[args[0]], *args[1:]]
        return super().parse_args(ctx, args)


class EndpointCommand(TyperCommand):
    """A command about one endpoint, which may also be named by an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the option's value as the argument."""
        return super().parse_args(ctx, spelling.as_argument(args, "--endpoint-id"))


def _load(name: str, entry: LazyCommand) -> Any:
    return _command(name, getattr(import_module(entry.module), entry.function))


def _stand_in(name: str, entry: LazyCommand) -> Any:
    def show_help() -> None: ...

    show_help.__doc__ = entry.help
    return _command(name, show_help)


def _command(name: str, function: Any) -> Any:
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(function)
    return get_command(single)
