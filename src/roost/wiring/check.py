"""A dry start: whether the program on the disk, with the settings as they are now, could take over a running server.

Run by ``roost serve --check`` in a process of its own, which the parent starts before it restarts in place. It imports
all that the server is made of and looks at the settings. It must never change anything.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

from roost._version import __version__
from roost.config import Settings
from roost.wiring import takeover

PARTS = (
    *("roost.wiring.parent", "roost.wiring.control", "roost.wiring.gateway", "roost.wiring.http"),
    *("roost.control.plane", "roost.api.app", "roost.services", "roost.store.registry", "roost.runtimes.registry"),
    *("roost.models.cache", "roost.models.catalog", "roost.telemetry.metrics", "roost.gateway.worker"),
)
"""What the processes import only once they have begun, and would fail at."""


def check(settings: Settings) -> dict[str, Any]:
    """What the running parent wants to know of the program that is to take over: its ``version``, and the ``protocol``
    in which it takes over.

    Raises ``CannotRestart`` when a setting has changed that no restart in place can change, ``InvalidSettings`` for
    settings that do not work, and whatever an import raises.
    """
    for part in PARTS:
        importlib.import_module(part)
    from roost.store.registry import store

    store(settings.database)
    _same_address(settings)
    return {"version": __version__, "protocol": takeover.PROTOCOL}


def _same_address(settings: Settings) -> None:
    path = settings.run_dir / "settings.json"
    try:
        running = json.loads(path.read_text())
        host, port = running["host"], running["port"]
    except (OSError, ValueError, KeyError) as error:
        raise takeover.CannotRestart(f"The settings of the running server, {path}, cannot be read: {error}.") from error
    if settings.host != host or settings.port not in (0, port):
        raise takeover.CannotRestart(
            f"The server listens on {host}:{port}, and the settings now say {settings.host}:{settings.port}: another "
            f"address takes `roost stop --keep-replicas` and `roost serve`."
        )
