"""What routes are given: the services, the settings and the one who asks. FastAPI dependencies."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from roost.config import Settings
from roost.services import Services
from roost.services.access import Principal
from roost.web.auth import principal_of


def services_of(request: Request) -> Services:
    """The services of the app that serves the request."""
    return cast(Services, request.app.state.services)


def settings_of(request: Request) -> Settings:
    """The settings of the app that serves the request."""
    return cast(Settings, request.app.state.settings)


async def asker(request: Request) -> Principal:
    """The holder of the request's key. Raises ``AuthenticationFailed``."""
    return await principal_of(request.headers.get("authorization"), services_of(request).keys)


Asker = Annotated[Principal, Depends(asker)]
UseServices = Annotated[Services, Depends(services_of)]
UseSettings = Annotated[Settings, Depends(settings_of)]
