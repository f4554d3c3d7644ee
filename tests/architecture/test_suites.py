"""Every folder of tests belongs to a target of the Makefile."""

from __future__ import annotations

import tomllib

from tests.architecture.sources import ROOT, tracked

OF_THEIR_OWN = {"tests/faults", "tests/spec"}
"""Suites that ``make test`` leaves out: they need more than PyPI, or take long."""


def test_every_folder_of_tests_is_run() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    paths = [path.relative_to(ROOT) for path in tracked()]
    folders = {"/".join(path.parts[:2]) for path in paths if path.parts[0] == "tests" and len(path.parts) > 2}
    assert folders == set(project["tool"]["pytest"]["ini_options"]["testpaths"]) | OF_THEIR_OWN
