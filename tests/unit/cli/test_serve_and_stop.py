"""``roost serve`` and ``roost stop`` as commands: what they refuse, and how they ask a server to end."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from roost.cli.commands.serve import _write, serve
from roost.cli.commands.stop import stop
from roost.config import Settings
from roost.wiring import home, instance
from roost.wiring.pids import write_pid

SERVER = """
import signal, sys
from pathlib import Path
from roost.config import Settings
from roost.wiring import home, instance
from roost.wiring.pids import write_pid
import os
settings = Settings(home=Path(sys.argv[1]))
home.prepare(settings)
lock = instance.acquire(settings)
write_pid(settings.run_dir / "serve.pid", os.getpid())
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1])
print("up", flush=True)
print(signal.sigwait([signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1]).name, flush=True)
"""
"""A stand-in for a server: it holds the lock, waits for one signal, says which it was and ends."""


def app() -> typer.Typer:
    # The group's handling of expected failures is part of what a user sees.
    from roost.cli.group import RoostGroup

    made = typer.Typer(cls=RoostGroup, add_completion=False)
    made.command()(serve)
    made.command()(stop)
    return made


def test_stop_without_a_server_is_one_sentence_and_code_1(tmp_path: Path) -> None:
    result = CliRunner().invoke(app(), ["stop", "--home", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert result.stderr == f"Error: No server is running from {tmp_path / 'none'}.\n"


def test_stop_after_a_crash_does_not_signal_whoever_has_the_pid_now(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    home.prepare(settings)
    instance.acquire(settings).release()
    write_pid(settings.run_dir / "serve.pid", os.getpid())
    result = CliRunner().invoke(app(), ["stop", "--home", str(tmp_path)])
    assert result.exit_code == 1
    assert "No server is running" in result.stderr


@pytest.mark.parametrize(
    ("flags", "expected"), [([], "SIGTERM"), (["--now"], "SIGQUIT"), (["--keep-replicas"], "SIGUSR1")]
)
def test_stop_asks_the_server_and_waits_until_it_is_gone(tmp_path: Path, flags: list[str], expected: str) -> None:
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        result = CliRunner().invoke(app(), ["stop", "--home", str(tmp_path), *flags])
        assert result.exit_code == 0, result.output
        assert result.stdout == "Stopped.\n"
        assert f"pid {server.pid}" in result.stderr
        assert server.poll() is not None, "it returned before the server was gone"
        assert server.stdout.read() == f"{expected}\n"
    finally:
        server.kill()
        server.communicate()


def test_stop_refuses_flags_that_contradict(tmp_path: Path) -> None:
    result = CliRunner().invoke(app(), ["stop", "--home", str(tmp_path), "--now", "--keep-replicas"])
    assert result.exit_code == 1
    assert "give one of the two" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "70000"], "port must be between 0 and 65535, not 70000."),
        (["--log-level", "loud"], "log_level must be debug, info, warning or error, not 'loud'."),
        (["--gateway-workers", "0"], "gateway_workers must be between 1 and 64, not 0."),
        (["--config", "/nowhere/config.toml"], "Cannot read the configuration file /nowhere/config.toml"),
        (["--host", "203.0.113.7"], "The host '203.0.113.7' is not an address of this machine"),
    ],
)
def test_serve_refuses_wrong_settings_in_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(app(), ["serve", "--home", str(tmp_path), *arguments])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {sentence}")
    assert "Traceback" not in result.output


def test_the_server_s_lines_are_broken_between_words_at_a_terminal_and_commands_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    command = "  roost endpoints create --model smollm2-135m --hardware 1x_cpu --wait"
    text = f"\n{command}\n\nCtrl-C finishes the requests in flight and stops everything."
    ours, theirs = pty.openpty()
    try:
        _write(theirs, text)
        lines = os.read(ours, 4096).decode().split("\r\n")
    finally:
        os.close(ours)
        os.close(theirs)
    assert lines == ["", command, "", "Ctrl-C finishes the requests in flight", "    and stops everything.", ""]
