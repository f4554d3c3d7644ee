"""``roost doctor`` on this machine, over homes in several conditions."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from roost.cli.examination import examine
from roost.cli.main import app


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a home that does not exist yet, on a port that is free."""
    for name in ("ROOST_SANDBOX", "ROOST_DATABASE_URL", "ROOST_BASE_URL", "ROOST_API_KEY", "ROOST_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROOST_PORT", "0")
    return tmp_path / "home"


def run(home: Path) -> tuple[int, dict[str, tuple[str, str]]]:
    result = CliRunner().invoke(app, ["doctor", "--home", str(home), "--json"], prog_name="roost")
    found = json.loads(result.stdout)
    return result.exit_code, {item["check"]: (item["outcome"], item["message"]) for item in found["findings"]}


def test_it_looks_and_leaves_nothing_behind(home: Path) -> None:
    code, found = run(home)
    assert code == 0, found
    assert found["python"][0] == "ok"
    assert found["system"] == ("ok", "Linux with /proc, pidfds and PDEATHSIG")
    assert found["database"][1].endswith("(made by the first `roost serve`)")
    assert "engine llama_cpp" in found
    assert "index" not in found
    assert not home.exists()


def test_the_report_is_a_line_a_check(home: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--home", str(home)], prog_name="roost")
    lines = result.stdout.splitlines()
    assert all(line.startswith(("ok    ", "WARN  ", "FAIL  ")) for line in lines)
    assert len(lines) == len(run(home)[1])


def test_a_port_that_is_held_names_its_holder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        monkeypatch.setenv("ROOST_PORT", str(port))
        code, found = run(home)
    assert (code, found["port"][0]) == (1, "failure")
    assert f"Port {port} on 127.0.0.1 is held by " in found["port"][1]
    assert "(pid " in found["port"][1]


def test_broken_files_are_told_and_do_not_break_it(home: Path) -> None:
    (home / "models").mkdir(parents=True)
    (home / "config.toml").write_text("port = ")
    (home / "credentials.json").write_text("{")
    (home / "roost.db").write_bytes(b"no database" * 100)
    (home / "models" / "index.json").write_text("{")
    code, found = run(home)
    assert code == 1
    assert {check for check, (outcome, _) in found.items() if outcome == "failure"} == {
        "settings",
        "credentials",
        "database",
    }
    assert "not valid TOML" in found["settings"][1]


def test_weights_that_were_changed_are_named(home: Path) -> None:
    blob = home / "models" / "blobs" / "sha256-00"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"weights")
    entry = {"source": "s", "digest": "00", "path": "blobs/sha256-00", "size": 6, "mtime_ns": 1, "in_place": False}
    (home / "models" / "index.json").write_text(json.dumps({"format": 1, "models": {"a/b": entry}}))
    weights = examine(home, online=False).weights
    assert weights is not None
    assert weights.damaged == ("a/b",)


def test_a_home_under_a_file_cannot_be_used(home: Path) -> None:
    home.write_text("")
    code, found = run(home / "deeper")
    assert code == 1
    assert "is not a folder" in found["home"][1]
