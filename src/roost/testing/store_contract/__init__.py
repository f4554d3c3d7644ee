"""The contract of stores: what every implementation of ``roost.store.base.Store`` must do.

Subclass ``StoreContract`` (``DurableStoreContract`` when data survives the process) and override the ``connect``
fixture; pytest with asyncio in auto mode then runs everything::

    class TestMyStore(DurableStoreContract):
        @pytest.fixture
        def connect(self, tmp_path):
            return lambda: MyStore(f"mystore://{tmp_path}")
"""

from __future__ import annotations

import pytest

# Before the imports, so that failing assertions in them show their values.
pytest.register_assert_rewrite(
    *(f"{__name__}.{group}" for group in ("durable", "endpoints", "records", "statuses", "usage", "values"))
)

from roost.testing.store_contract.base import Connect  # noqa: E402
from roost.testing.store_contract.durable import DurabilityContract  # noqa: E402
from roost.testing.store_contract.endpoints import EndpointContract  # noqa: E402
from roost.testing.store_contract.records import RecordContract  # noqa: E402
from roost.testing.store_contract.statuses import StatusContract  # noqa: E402
from roost.testing.store_contract.usage import UsageContract  # noqa: E402
from roost.testing.store_contract.values import ValueContract  # noqa: E402

__all__ = ["Connect", "DurableStoreContract", "StoreContract"]


class StoreContract(EndpointContract, StatusContract, RecordContract, UsageContract, ValueContract):
    """Holds for every store."""


class DurableStoreContract(StoreContract, DurabilityContract):
    """Holds for stores whose data survives them."""
