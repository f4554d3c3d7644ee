"""The sandbox's engine keeps the contract of engines, with the real weights behind a large model's name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from roost.engines.sandbox import CONTEXT, SLOTS, SandboxEngine
from roost.models import sandbox
from roost.testing.engine_contract import EngineCase, EngineContract, make_launch_request
from roost.testing.engine_process import EngineProcess
from roost.testing.weights import smollm2_path

CACHE = Path(os.environ.get("ROOST_TEST_CACHE") or Path(__file__).parents[2] / ".cache")
MODEL = sandbox.catalog()[0]


class TestSandboxEngine(EngineContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> EngineCase:
        weights = smollm2_path(CACHE)
        broken = tmp_path / "truncated.gguf"
        with weights.open("rb") as file:
            broken.write_bytes(file.read(10_000_000))
        return EngineCase(
            SandboxEngine(),
            make_launch_request(MODEL, str(weights)),
            broken=make_launch_request(replace(MODEL, source=None), str(broken)),
        )

    async def test_its_context_is_the_sandboxs_not_the_models(
        self, case: EngineCase, engine_process: EngineProcess
    ) -> None:
        assert case.request.model.context_length > CONTEXT
        async with engine_process.client() as client:
            slots = (await client.get("/slots")).json()
        assert [slot["n_ctx"] for slot in slots] == [CONTEXT] * SLOTS
