"""``roost selftest`` as a user runs it, short and without a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_it_injects_faults_and_finds_every_answer_right(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "roost", "selftest", "--minutes", "0.4", "--echo-only", "--json"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
    done = subprocess.run(
        command, env=env | {"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] is True
    answers = told["engines"]["echo"]
    assert answers["right"] + answers["left"] == answers["answers"] > 20
    assert {"replica killed", "replica drained"} <= {fault["kind"] for fault in told["faults"]}
    assert not told["trouble"]
