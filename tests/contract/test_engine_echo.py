"""The echo engine keeps the contract of engines."""

from __future__ import annotations

import pytest

from roost.engines.echo import EchoEngine
from roost.testing.builders import make_model
from roost.testing.engine_contract import EngineCase, EngineContract, make_launch_request


class TestEchoEngine(EngineContract):
    @pytest.fixture
    def case(self) -> EngineCase:
        return EngineCase(
            EchoEngine(),
            make_launch_request(make_model(options={"tokens_per_second": "200"})),
            broken=make_launch_request(make_model(options={"fail_at_start": "Out of cheese."})),
        )
