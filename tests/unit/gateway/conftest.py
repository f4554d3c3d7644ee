"""The gateway under both event loops it runs on."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.unit.gateway import fakes


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, since a unix socket's may not exceed 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="rg"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def world(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[fakes.World]:
    settings: dict[str, Any] = getattr(request, "param", {})
    async with fakes.world(folder, **settings) as made:
        yield made
