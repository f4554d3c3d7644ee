"""``roost endpoints`` takes the command lines of the hosted service's command line, read from that program itself."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from anyio.from_thread import start_blocking_portal
from tests.integration.cli_bench import MODEL, Bench
from typer.main import get_command

from roost.cli.main import app

COMMANDS = ("create", "retrieve", "list", "update", "start", "stop", "delete", "hardware", "availability-zones")
GLOBAL = ("--debug", "--non-interactive", "--project", "--json", "--no-json", "--help", "-h")
BY_OPTION = "--endpoint-id"
"""Taken from the command line before Typer reads it (``roost.cli.spelling``)."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with start_blocking_portal() as portal:
        yield Bench(portal, tmp_path)


def flags_of_the_hosted(command: str) -> list[str]:
    """The options of one command, by the parameters of the function behind it."""
    name = command.replace("-", "_")
    function = getattr(import_module(f"together.lib.cli.api.endpoints.{name}"), name)
    function = inspect.unwrap(function)
    hints = get_type_hints(function, include_extras=True)
    flags = []
    for parameter in inspect.signature(function).parameters:
        if parameter == "config":
            continue
        named = [name for extra in getattr(hints[parameter], "__metadata__", ()) for name in _names(extra)]
        flags.append(named[0] if named else parameter.strip("_").replace("_", "-"))
    return [flag if flag.startswith("--") else f"--{flag}" for flag in flags]


def _names(extra: Any) -> tuple[str, ...]:
    name = getattr(extra, "name", None) or ()
    return (name,) if isinstance(name, str) else tuple(name)


def flags_of_ours(command: str) -> set[str]:
    """The options of one command of ``roost endpoints``."""
    # Typer's own copies of Click's classes have no names that are public.
    group: Any = get_command(app)
    for name in ("endpoints", command):
        group = group.commands[name]
    return {flag for param in group.params for flag in param.opts}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_the_hosted_command_line_is_taken(command: str) -> None:
    known = flags_of_ours(command) | {"--help", "-h", BY_OPTION}
    wanted = flags_of_the_hosted(command)
    assert wanted or command == "availability-zones"
    assert [flag for flag in (*wanted, *GLOBAL) if flag not in known] == []


def test_the_comparison_sees_the_flags() -> None:
    assert flags_of_the_hosted("create")[:3] == ["--model", "--min-replicas", "--max-replicas"]
    assert "--no-prompt-cache" in flags_of_the_hosted("create")
    assert flags_of_the_hosted("stop") == ["--endpoint-id", "--wait"]
    assert {"--type", "--mine", "--after"} <= set(flags_of_the_hosted("list"))


def test_the_model_may_be_the_argument(bench: Bench) -> None:
    for words in ((MODEL, "--hardware", "1x_cpu"), ("--hardware", "1x_cpu", MODEL), (MODEL, "--model", MODEL)):
        hardware = () if "--hardware" in words else ("--hardware", "1x_cpu")
        assert bench.run("endpoints", "create", *words, *hardware).exit_code == 0
    both = bench.run("endpoints", "create", MODEL, "--model", "other", "--hardware", "1x_cpu")
    assert both.exit_code == 2
    assert "give one of the two" in both.stderr


def test_the_endpoint_may_be_named_by_an_option(bench: Bench) -> None:
    created = bench.create()
    assert bench.json("endpoints", "retrieve", "--endpoint-id", created["id"]) == created
    renamed = bench.json("endpoints", "update", f"--endpoint-id={created['id']}", "--display-name", "New")
    assert renamed["display_name"] == "New"
    assert bench.run("endpoints", "delete", "--endpoint-id", created["id"]).exit_code == 0


def test_commands_have_their_short_forms(bench: Bench) -> None:
    created = json.loads(bench.run("endpoints", "-c", MODEL, "--hardware", "1x_cpu", "--json").stdout)
    assert json.loads(bench.run("endpoints", "get", created["id"], "--json").stdout) == created
    assert created["id"] in bench.run("endpoints", "ls").stdout
    assert bench.run("endpoints", "-d", created["id"]).exit_code == 0


def test_options_that_mean_nothing_here_say_so_where_it_matters(bench: Bench) -> None:
    plain = bench.run("endpoints", "list", "--non-interactive", "--no-json")
    assert (plain.exit_code, plain.stdout) == (0, "")
    project = bench.run("endpoints", "availability-zones", "--project", "p-1")
    assert (project.exit_code, project.stdout) == (0, "local\n")
    assert "--project has no effect" in project.stderr
    cached = bench.run("endpoints", "create", MODEL, "--hardware", "1x_cpu", "--no-prompt-cache")
    assert cached.exit_code == 0
    assert "--no-prompt-cache is deprecated" in cached.stderr


def test_a_list_goes_on_after_an_endpoint(bench: Bench) -> None:
    for _ in range(3):
        bench.create()
    ids = [item["id"] for item in bench.json("endpoints", "list")["data"]]
    assert [item["id"] for item in bench.json("endpoints", "list", "--after", ids[0])["data"]] == ids[1:]
    shown = bench.run("endpoints", "list", "--after", ids[1])
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == ids[2:]
    assert bench.run("endpoints", "list", "--after", ids[2]).stderr == f"No endpoint matches --after {ids[2]}.\n"
    unknown = bench.run("endpoints", "list", "--after", "endpoint-none")
    assert (unknown.exit_code, unknown.stdout) == (3, "")


@pytest.mark.parametrize(
    "command", [("create", "--hardware", "1x_cpu", "--model"), ("create", "--model"), ("hardware", "--model")]
)
def test_an_unknown_model_is_answered_with_similar_ones(bench: Bench, command: tuple[str, ...]) -> None:
    result = bench.run("endpoints", *command, "smolm2-135")
    assert result.exit_code == 3
    first, second = result.stderr.splitlines()
    assert first.startswith("Error: ")
    assert second.startswith("Did you mean smollm2-135m")


def test_an_unknown_zone_is_answered_with_those_there_are(bench: Bench) -> None:
    result = bench.run("endpoints", "create", MODEL, "--hardware", "1x_cpu", "--availability-zone", "moon")
    assert result.exit_code == 1
    assert "Known zones: local." in result.stderr
