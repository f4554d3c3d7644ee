"""Gets the peers: Debian packages, and Python packages into a virtual environment each under ``.bench`` of the project.

Used by ``peers``. Never installs anything into the environment it runs in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent.parent / ".bench"


class Missing(Exception):
    """A program that the benchmark needs is not there; the message says why, and how to get it."""


def debian_program(program: str, package: str) -> str:
    """The path of ``program``, installed from the distribution if it is not there. Raises ``Missing``."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if found:
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(f"it is not installed, and only root on Debian has it installed here: apt-get install {package}")
    # Without this level the package's scripts would start a server of their own.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", package]):
        _run(command, environment)
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if not found:
        raise Missing(f"the package {package} was installed, and has no {program}")
    return found


def python_package(name: str, requirement: str) -> Path:
    """The folder of programs of an environment that has ``requirement`` with the versions of
    ``constraints-<name>.txt``, made at the first use. Raises ``Missing``."""
    environment, constraints = ENVIRONMENTS / name, HERE / f"constraints-{name}.txt"
    wanted = f"{requirement}\n{constraints.read_text()}"
    mark = environment / "installed"
    if not mark.is_file() or mark.read_text() != wanted:
        print(f"Installing {requirement} into {environment} ...", file=sys.stderr, flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(environment)])
        python = str(environment / "bin" / "python")
        _run([python, "-m", "pip", "install", "--disable-pip-version-check", "-c", str(constraints), requirement])
        mark.write_text(wanted)
    return environment / "bin"


def compile_c(name: str, folder: Path) -> Path:
    """Compile ``<name>.c`` from this folder. Raises ``Missing`` without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Missing("The upstream and the load generator are C programs: apt-get install gcc libc6-dev")
    target = folder / name
    _run([compiler, "-O2", "-o", str(target), str(HERE / f"{name}.c")])
    return target


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"`{' '.join(command)}` failed: {done.stderr.strip()[-300:]}")
