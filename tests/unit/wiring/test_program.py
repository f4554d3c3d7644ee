"""How the hints call ``roost``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from roost.wiring.program import called


def test_by_its_name_where_the_shell_finds_it(tmp_path: Path) -> None:
    assert called("/usr/bin/roost", tmp_path / "python", tmp_path) == "roost"


def test_by_its_path_in_an_environment_that_is_not_activated(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.with_name("roost").touch()
    assert called(None, python, tmp_path) == ".venv/bin/roost"
    assert called(None, python, tmp_path / "elsewhere") == str(python.with_name("roost"))


def test_as_a_module_where_there_is_no_script(tmp_path: Path) -> None:
    assert called(None, tmp_path / "python3", tmp_path) == f"{tmp_path}/python3 -m roost"


def test_what_it_says_is_a_command_that_works(tmp_path: Path) -> None:
    env = {**os.environ, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", "from roost.wiring.program import program; print(program())"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert subprocess.run(["/bin/sh", "-c", f"{said} --version"], cwd=tmp_path, env=env, check=False).returncode == 0
