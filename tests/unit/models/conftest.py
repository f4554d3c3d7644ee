from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.models.weights_server import WeightsServer, weights_server


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    with weights_server() as running:
        yield running
