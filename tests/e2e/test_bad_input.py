"""A user's mistakes: one clear sentence, an exit code, nothing half-written."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.server import Server


def serve(home: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roost", "serve", "--home", str(home), *flags],
        capture_output=True,
        text=True,
        timeout=60,
    )


def clear(done: subprocess.CompletedProcess[str], *words: str) -> None:
    text = done.stdout + done.stderr
    assert done.returncode not in (0, -9), text
    assert "Traceback" not in text
    for word in words:
        assert word in text


def test_port_taken(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        clear(serve(home, "--port", str(port)), str(port), "--port")
    assert not home.exists()


def test_home_not_usable(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    clear(serve(file / "home", "--port", "0"), str(file))


def test_not_a_database(home: Path) -> None:
    home.mkdir()
    (home / "roost.db").write_bytes(b"no database at all" * 100)
    clear(serve(home, "--port", "0"), "roost.db")


def test_bad_settings(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("prot = 3\n")
    clear(serve(home, "--config", str(config)), "prot")
    clear(serve(home, "--config", str(tmp_path / "none.toml")), "none.toml")


def test_a_second_server_on_the_same_home(server: Server) -> None:
    clear(serve(server.home, "--port", "0"), str(server.pid("serve")))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("endpoints", "create", "--model", "no/such", "--hardware", "1x_cpu"), ("no/such",)),
        (("endpoints", "create", "--model", "test/echo", "--hardware", "9x_dream"), ("hardware", "1x_cpu")),
        (("endpoints", "create", "--model", "test/echo", "--hardware", "4096x_cpu"), ("hardware", "1x_cpu")),
        (("endpoints", "retrieve", "endpoint-none"), ("endpoint-none",)),
        (("endpoints", "hardware", "--available"), ("--model",)),
        (("models", "pull", "no/such"), ("no/such",)),
        (("chat", "endpoint-none", "hi"), ("endpoint-none",)),
    ],
)
def test_commands(server: Server, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    clear(server.cli(*arguments, check=False), *words)


def test_keys(server: Server) -> None:
    with server.http as http:
        for headers in ({"authorization": ""}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eA=="}):
            for method, path in (("GET", "/endpoints"), ("POST", "/chat/completions")):
                answer = http.request(method, path, headers=headers, json={} if method == "POST" else None)
                assert answer.status_code == 401
                assert "authentication" in answer.json()["error"]["message"].lower()


def test_full_hardware_is_pending_and_runs_when_room_appears(server: Server) -> None:
    import psutil

    whole = f"{psutil.cpu_count()}x_cpu"
    first = server.create("test/echo", whole)
    server.cli("endpoints", "create", "--model", "test/echo", "--hardware", whole)
    with server.http as http:
        second = http.get("/endpoints").json()["data"][0]
    waiting = server.wait_state(second["id"], "PENDING")
    assert waiting["state_reason"]["code"] == "no_capacity"
    assert "CPU threads: " in waiting["state_reason"]["message"]
    server.cli("endpoints", "delete", first["id"])
    server.wait_state(second["id"], "STARTED")
