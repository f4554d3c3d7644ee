"""The store contract on SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost.store import registry
from roost.testing.store_contract import Connect, DurableStoreContract


class TestSqliteStore(DurableStoreContract):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        return lambda: registry.store(f"sqlite:///{tmp_path / 'roost.db'}")
