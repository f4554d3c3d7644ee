"""What makes a server a sandbox: settings, catalog and the mark on its database. Used by ``wiring.control``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from uuid import UUID

from roost.config import SANDBOX, Settings
from roost.domain.errors import InvalidSettings
from roost.domain.hardware import HardwarePrice
from roost.domain.model import Model

MARK = "sandbox-"
"""What a sandbox's installation id begins with: so a database tells which of the two it belongs to."""


def settings_of(settings: Settings) -> Settings:
    """The settings with the fleet's prices, where the user's own say nothing, and a zone for this machine."""
    from roost.runtimes import sandbox_fleet

    if not settings.sandbox:
        return settings
    prices = sandbox_fleet.prices()
    for accelerator, own in settings.hardware.items():
        prices[accelerator] = _merged(prices.get(accelerator, HardwarePrice()), own)
    zone = sandbox_fleet.ZONES[0] if settings.zone == Settings(home=Path()).zone else settings.zone
    return replace(settings, hardware=prices, zone=zone)


def _merged(built_in: HardwarePrice, own: HardwarePrice) -> HardwarePrice:
    given = {f.name: getattr(own, f.name) for f in fields(own) if getattr(own, f.name) is not None}
    return replace(built_in, **given)


def installation_id(settings: Settings, uuid: UUID) -> str:
    """An id for a new installation."""
    return f"{MARK if settings.sandbox else ''}{uuid}"


def check_mode(settings: Settings, installation: str) -> None:
    """Raise ``InvalidSettings`` when the database was begun in the other mode."""
    is_sandbox = installation.startswith(MARK)
    if is_sandbox == settings.sandbox:
        return
    where = "The database" if settings.database_url else f"The database in {settings.home}"
    if is_sandbox:
        raise InvalidSettings(
            f"{where} is a sandbox's: start it with `roost serve --sandbox`, or choose another "
            "--home for a server without it."
        )
    raise InvalidSettings(
        f"{where} is that of a server without --sandbox: start it without, or choose another "
        "--home for the sandbox (leave --home and ROOST_HOME out, and it is ~/.roost-sandbox)."
    )


def built_in_models(settings: Settings) -> Sequence[Model]:
    """The models that a server brings along."""
    from roost.models import catalog, sandbox

    return sandbox.catalog() if settings.sandbox else catalog.BUILT_IN


def engine_names(settings: Settings) -> Sequence[str]:
    """The engines that an entry of the user's may name: the sandbox's own in a sandbox only."""
    from roost.engines import registry

    return [name for name in registry.names() if settings.sandbox or name != SANDBOX]
