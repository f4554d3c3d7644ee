"""``roost demo`` as a newcomer runs it, but with the weights at hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.wiring.pids import processes_naming

pytestmark = pytest.mark.e2e


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path leaves room for the names of sockets."""
    with tempfile.TemporaryDirectory(prefix="rd") as name:
        yield Path(name)


@pytest.fixture
def user(folder: Path, weights: Path) -> dict[str, str]:
    """The environment of a user whose weights cache is filled and whose temporary files are in ``folder``."""
    cache = folder / "user" / ".cache" / "roost"
    cache.mkdir(parents=True)
    (cache / "models").symlink_to(weights)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
    return {**kept, "HOME": str(folder / "user"), "TMPDIR": str(folder)}


@pytest.fixture
def demo(user: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "roost", "demo"],
        env=user,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_it_answers_and_leaves_nothing_behind(demo: subprocess.Popen[str], folder: Path) -> None:
    said, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, said
    assert "STARTING" in said
    assert "STARTED" in said
    assert "Paris" in said
    assert "tokens/s" in said
    assert "no process is left" in said
    assert "roost serve" in said
    assert list(folder.glob("roost-demo-*")) == []
    assert processes_naming(str(folder)) == {}


def test_ctrl_c_ends_the_server_too(demo: subprocess.Popen[str], folder: Path) -> None:
    assert demo.stdout is not None
    for line in demo.stdout:
        if "the server is up" in line:
            break
    demo.send_signal(signal.SIGINT)
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, said
    assert processes_naming(str(folder)) == {}
    assert list(folder.glob("roost-demo-*")) == []
