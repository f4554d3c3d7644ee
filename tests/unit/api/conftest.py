"""The public API over an empty store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from tests.unit.api.front import app_of, client_of
from tests.unit.services.office import Office


@pytest.fixture
async def office() -> Office:
    """Services over an empty store with three keys."""
    return await Office().open()


@pytest.fixture
def app(office: Office) -> FastAPI:
    """The public app."""
    return app_of(office)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the admin's key."""
    async with client_of(app) as client:
        yield client
