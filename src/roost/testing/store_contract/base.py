"""What the groups of the store contract share: the fixtures and a few values."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from roost.domain.endpoint import Endpoint
from roost.domain.lifecycle import State
from roost.store.base import StatusChange, Store
from roost.testing.builders import make_status
from roost.testing.clock import START

Connect = Callable[[], Store]
"""A factory of stores that are not open yet, all over one database, which is empty at first."""

LATER = START + timedelta(days=1, microseconds=123456)
UNUSUAL_TEXT = "naïve 日本語 🐓👩‍🚀 \U0001f9ff ' \" ; -- % \\ \n\t NUL \0 half a pair \ud83d"
UNSTORABLE = ("with\0nul", "half\ud83dpair")
WRITERS = 20


def change(endpoint: Endpoint, **over: Any) -> StatusChange:
    """A change of ``endpoint`` to STARTING, expected to win unless ``over`` says otherwise."""
    values: dict[str, Any] = {
        "endpoint_id": endpoint.id,
        "expected_version": endpoint.status_version,
        "status": make_status(state=State.STARTING),
    }
    return StatusChange(**{**values, **over})


async def kinds(store: Store) -> list[str]:
    """The kinds of all events in order."""
    return [event.kind for event in await store.events()]


class StoreFixtures:
    """The store under test."""

    @pytest.fixture
    def connect(self) -> Connect:
        """The factory of the stores under test: overridden by subclasses."""
        raise NotImplementedError("override the fixture 'connect'")

    @pytest.fixture
    async def store(self, connect: Connect) -> AsyncIterator[Store]:
        """An open store over an empty database."""
        store = connect()
        await store.open()
        yield store
        await store.close()
