"""Servers for the end-to-end tests. Weights are fetched once into the project's cache and shared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.server import Server

from roost.testing.weights import smollm2_path

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def weights() -> Path:
    """A weights cache that holds SmolLM2."""
    cache = Path(os.environ.get("ROOST_TEST_CACHE") or PROJECT / ".cache").absolute()
    smollm2_path(cache)
    return cache


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    """A fresh server with the echo engine in its catalog as ``test/echo`` (unhurried: 50 tokens/s)."""
    with Server(home) as it:
        it.cli("models", "add", "test/echo", "--engine", "echo", "--option", "tokens_per_second=50")
        yield it
