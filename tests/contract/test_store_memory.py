"""The store contract on the store in memory."""

from __future__ import annotations

import pytest

from roost.store import registry
from roost.testing.store_contract import Connect, StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def connect(self) -> Connect:
        store = registry.store("memory://")
        return lambda: store
