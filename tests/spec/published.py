"""The published clients that the API is measured by: their pins and where they lie.

``python -m tests.spec.published`` installs what is missing into ``.cache/clients/<name>-<version>``; ``make test-spec``
calls it. The clients of the development environment itself (``together`` 2.42.0, ``openai``) are used from there.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PINS = Path(__file__).parent / "pins"
CACHE = PROJECT / ".cache" / "clients"
ENVIRONMENT = Path(sys.executable).parent
"""Where the commands of the development environment lie."""

TOGETHER = version("together")
OPENAI = version("openai")


@dataclass(frozen=True)
class PythonPackage:
    """A client in a virtual environment of its own, since its version excludes another one."""

    name: str
    version: str

    @property
    def folder(self) -> Path:
        return CACHE / f"{self.name}-{self.version}"

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def pins(self) -> Path:
        return PINS / f"{self.name}-{self.version}.txt"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.pins.read_bytes() + sys.version.encode()).hexdigest()

    def install(self) -> None:
        """Into an empty folder."""
        subprocess.run([sys.executable, "-m", "venv", str(self.folder)], check=True)
        pip = [str(self.bin / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "-r", str(self.pins)], check=True)


@dataclass(frozen=True)
class NodePackage:
    """A client in a folder of its own; ``pins`` holds its ``package.json`` and lock file."""

    name: str
    version: str

    @property
    def folder(self) -> Path:
        return CACHE / f"{self.name}-npm-{self.version}"

    @property
    def pins(self) -> Path:
        return PINS / f"{self.name}-npm"

    @property
    def digest(self) -> str:
        return hashlib.sha256((self.pins / "package-lock.json").read_bytes()).hexdigest()

    def install(self) -> None:
        """Into an empty folder."""
        self.folder.mkdir()
        for file in self.pins.iterdir():
            shutil.copy(file, self.folder)
        # The lock file names versions and digests, but no host: whichever registry is set up serves.
        npm = ["npm", "ci", "--omit=optional", "--omit=peer", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        subprocess.run(npm, cwd=self.folder, check=True)


CLASSIC = PythonPackage("together", "1.5.35")
SUCCESSOR = PythonPackage("together", "3.1.1")
"""The newest release: it speaks another API, under /v2."""
TYPESCRIPT = NodePackage("together-ai", "0.52.0")
OPENAI_NODE = NodePackage("openai", "6.49.0")
"""The last that runs on the Node.js of Debian 12 (7.x asks for 22)."""

PACKAGES: tuple[PythonPackage | NodePackage, ...] = (CLASSIC, SUCCESSOR, TYPESCRIPT, OPENAI_NODE)


def installed(package: PythonPackage | NodePackage) -> bool:
    """Whether all of it lies there, as pinned now."""
    mark = package.folder / ".installed"
    return mark.is_file() and mark.read_text() == package.digest


def main() -> int:
    """Install what is missing. 1 when a tool for it is."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if installed(package):
            continue
        if isinstance(package, NodePackage) and shutil.which("npm") is None:
            print(f"npm is missing: {package.name} {package.version} is not installed, and its tests are skipped")
            continue
        print(f"installing {package.name} {package.version} into {package.folder.relative_to(PROJECT)}", flush=True)
        shutil.rmtree(package.folder, ignore_errors=True)
        try:
            package.install()
        except subprocess.CalledProcessError as error:
            print(f"{package.name} {package.version} could not be installed: {error}")
            return 1
        (package.folder / ".installed").write_text(package.digest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
