"""The command line as a process: what it imports, its help, its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from roost import __version__
from roost.cli.failure import CommandFailed, ExitCode, Interrupted, code_of_status, explain
from roost.cli.main import app
from roost.client.errors import ApiError, ConnectionFailed, NoKeyKnown, NoServerKnown, NotConfigured
from roost.domain.errors import InvalidSettings

HEAVY = ("pydantic", "httpx", "fastapi", "starlette", "sqlalchemy", "rich", "uvicorn", "structlog")


def roost(*arguments: str, home: Path, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
    return subprocess.run(
        [sys.executable, *flags, "-m", "roost", *arguments],
        env={**env, "ROOST_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def imported(report: str) -> set[str]:
    lines = [line for line in report.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    result = roost("--help", home=tmp_path, flags=("-X", "importtime"))
    assert result.returncode == 0
    found = imported(result.stderr)
    assert "typer" in found
    assert found.isdisjoint(HEAVY)


def test_the_help_of_a_group_imports_no_client_and_no_server(tmp_path: Path) -> None:
    result = roost("endpoints", "--help", home=tmp_path, flags=("-X", "importtime"))
    assert result.returncode == 0
    # Pydantic is Typer's own way to read parameters.
    assert imported(result.stderr).isdisjoint(set(HEAVY) - {"pydantic"})


def test_an_expected_failure_is_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    result = roost("endpoints", "list", home=tmp_path)
    assert (result.returncode, result.stdout) == (6, "")
    assert result.stderr.startswith("Error: No server is known")
    assert len(result.stderr.splitlines()) == 1


def test_an_unreachable_server_ends_with_6(tmp_path: Path) -> None:
    # Port 1 of the loopback interface is reserved, and nobody listens there.
    result = roost("whoami", "--base-url", "http://127.0.0.1:1/v1", "--api-key", "k", home=tmp_path)
    assert result.returncode == 6
    assert result.stderr.startswith("Error: Cannot reach the server at http://127.0.0.1:1/v1")


def test_a_reader_that_has_enough_ends_it_without_a_word(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as nobody:
        command = [sys.executable, "-m", "roost", "doctor", "--json", "--home", str(tmp_path / "home")]
        result = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (1, "")


def test_a_missing_key_ends_with_4(tmp_path: Path) -> None:
    result = roost("endpoints", "list", "--base-url", "http://127.0.0.1:1/v1", home=tmp_path)
    assert result.returncode == 4
    assert result.stderr.startswith("Error: No API key for http://127.0.0.1:1/v1")


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), prog_name="roost")
    return result.exit_code, result.stdout, result.stderr


def test_the_version() -> None:
    assert run("--version") == (0, f"roost {__version__}\n", "")


def test_help_lists_every_command() -> None:
    code, text, _ = run("--help")
    assert code == 0
    names = [
        "serve",
        "stop",
        "doctor",
        "demo",
        "endpoints",
        "models",
        "keys",
        "events",
        "chat",
        "whoami",
        "--install-completion",
    ]
    assert [name for name in names if name not in text] == []


def test_the_help_of_a_lazy_command_is_its_own() -> None:
    code, text, _ = run("serve", "--help")
    assert code == 0
    assert "--port" in text


@pytest.mark.parametrize("command", ["", "endpoints", "endpoints create", "chat", "keys list", "serve", "demo"])
def test_the_short_form_of_help_is_known_everywhere(command: str) -> None:
    assert run(*command.split(), "-h") == run(*command.split(), "--help")
    assert run(*command.split(), "-h")[0] == 0


def test_the_usage_of_chat_writes_its_arguments_as_the_others_do() -> None:
    assert "ENDPOINT" in run("endpoints", "retrieve", "-h")[1].splitlines()[0]
    assert run("chat", "-h")[1].splitlines()[0].endswith("{ENDPOINT} [MESSAGE]")


def test_the_help_does_not_promise_auto_stop() -> None:
    text = " ".join(run("endpoints", "create", "-h")[1].split())
    assert "not in force yet" in text


@pytest.mark.parametrize(
    ("group", "commands"),
    [
        (
            "endpoints",
            "create retrieve list update start stop delete logs hardware availability-zones",
        ),
        ("models", "list retrieve pull add rm"),
        ("keys", "create list update revoke"),
    ],
)
def test_groups_list_their_commands(group: str, commands: str) -> None:
    code, text, _ = run(group, "--help")
    listed = text[text.index("Commands:") :].splitlines()[1:]
    assert code == 0
    assert {line.split()[0] for line in listed if line.startswith("  ") and not line.startswith("   ")} == set(
        commands.split()
    )


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (
            "endpoints create",
            "--model --hardware --min-replicas --max-replicas --display-name --no-auto-start --no-speculative-decoding "
            "--availability-zone --wait --json --inactive-timeout --timeout --base-url --api-key --home",
        ),
        ("endpoints hardware", "--model --available --json"),
        ("endpoints list", "--mine --type --usage-type --after --json"),
        ("endpoints logs", "--follow --tail --replica --json"),
        ("endpoints update", "--min-replicas --max-replicas --display-name --inactive-timeout --json"),
        ("endpoints start", "--wait --timeout --json"),
        ("endpoints stop", "--wait --timeout --json"),
        ("endpoints retrieve", "--json"),
        ("endpoints delete", "--json"),
        ("endpoints availability-zones", "--json"),
        ("chat", "--system --temperature --max-tokens --json"),
        ("events", "--endpoint --follow --json"),
        ("whoami", "--json"),
        ("serve", "--json"),
        ("stop", "--json"),
        ("demo", "--json"),
        ("doctor", "--home --online --json"),
    ],
)
def test_every_flag_of_the_reference_is_there(command: str, flags: str) -> None:
    code, text, _ = run(*command.split(), "--help")
    assert code == 0
    assert [flag for flag in flags.split() if f"{flag} " not in text and f"{flag}\n" not in text] == []


def test_an_unknown_command_is_a_mistake_of_usage() -> None:
    code, _, err = run("endpoint")
    assert code == 2
    assert "'endpoints'" in err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (CommandFailed("No.", lines=("Try this.",)), 1, "Error: No.\nTry this."),
        (CommandFailed("No.", code=ExitCode.USAGE), 2, "Error: No."),
        (Interrupted("Goes on."), 130, "Goes on."),
        (ConnectionFailed("Gone."), 6, "Error: Gone."),
        (NotConfigured("Where?"), 1, "Error: Where?"),
        (NoServerKnown("Where?"), 6, "Error: Where?"),
        (NoKeyKnown("Who?"), 4, "Error: Who?"),
        (InvalidSettings("port?"), 1, "Error: port?"),
        (ApiError("No key.", status=401), 4, "Error: No key."),
        (ApiError("Broken.", status=500, request_id="req-2"), 1, "Error: Broken. (request req-2)"),
        (ApiError("Broken, see req-1.", status=500, request_id="req-1"), 1, "Error: Broken, see req-1."),
        (ApiError("Bad.", status=400, request_id="r"), 1, "Error: Bad."),
    ],
)
def test_each_failure_has_its_code(error: CommandFailed | Interrupted | ApiError, code: int, text: str) -> None:
    report = explain(error)
    assert (report.code, report.text) == (code, text)


@pytest.mark.parametrize("option", ["--api-key", "--json", "--base-url=http://h/v1"])
def test_an_option_of_the_commands_before_the_command_is_told_its_place(option: str) -> None:
    result = CliRunner().invoke(app, [option, "endpoints", "list"], prog_name="roost")
    assert result.exit_code == 2
    name = option.partition("=")[0]
    assert f"Error: {name} stands after the command: `roost COMMAND … {name}`." in result.stderr


def test_the_codes_of_statuses() -> None:
    assert {status: int(code_of_status(status)) for status in (400, 401, 403, 404, 409, 429, 500)} == {
        400: 1,
        401: 4,
        403: 4,
        404: 3,
        409: 1,
        429: 1,
        500: 1,
    }
