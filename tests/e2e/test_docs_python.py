"""``docs/python.md``: its examples are one program that runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.e2e.server import Server

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_examples_run_as_they_stand(home: Path, weights: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 8
    program = tmp_path / "examples.py"
    program.write_text("\n".join(blocks))
    with Server(home, weights=weights) as server:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ROOST_")} | {"ROOST_HOME": str(home)}
        done = subprocess.run(
            [sys.executable, str(program)], env=environment, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{server.log_text()}"
    assert done.stderr == ""
    assert "endpoint_not_found" in done.stdout
