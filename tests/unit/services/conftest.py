"""The services' world."""

from __future__ import annotations

import pytest
from tests.unit.services.office import Office


@pytest.fixture
async def office() -> Office:
    """Services over an empty store with three keys."""
    return await Office().open()
