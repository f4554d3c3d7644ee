"""How a user calls ``roost`` from the shell that they are in: for the hints that the server and the demo print.

It must never print a command that is not there: in a virtual environment that is not activated, plain ``roost`` is
unknown to the shell.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def program() -> str:
    """The word (or words) to call this installation by, from the folder that the process runs in."""
    return called(shutil.which("roost"), Path(sys.executable), Path.cwd())


def called(on_path: str | None, python: Path, folder: Path) -> str:
    """``roost`` where the shell finds it (``on_path``), else the script beside ``python``, relative to ``folder`` when
    it lies below it, else the module."""
    if on_path is not None:
        return "roost"
    script = python.with_name("roost")
    if not script.exists():
        return f"{python} -m roost"
    return str(script.relative_to(folder) if script.is_relative_to(folder) else script)
