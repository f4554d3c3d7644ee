"""The local runtime passes the runtime contract, with real processes and real kills."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.local_world import LocalWorld

from roost.testing.runtime_contract import RuntimeContract, RuntimeHarness


class TestLocalRuntime(RuntimeContract):
    @pytest.fixture
    async def harness(self, tmp_path: Path) -> AsyncIterator[RuntimeHarness]:
        world = LocalWorld(tmp_path / "home")
        yield world
        await world.close()
