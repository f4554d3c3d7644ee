"""The boundary around engines, which may be anybody's plug-ins: whatever one raises ends an attempt, not a loop.

Called by the observer, the actuator and the routing table's publisher, for every question they have for an engine. It
must never hold anything but the question: a fault of Roost itself that is caught here would be blamed on an engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog

from roost.domain.errors import EngineFault, LaunchRefused
from roost.domain.model import Model
from roost.engines.base import Engine
from roost.engines.registry import engine

log = structlog.get_logger(__name__)
T = TypeVar("T")


def ask(model: Model, question: Callable[[Engine], T]) -> T:
    """What the engine of ``model`` answers to ``question``, which should use the answer's fields itself, since they may
    not be there. Raises ``LaunchRefused``: the engine's own, or an ``EngineFault`` for anything else it raises."""
    try:
        return question(engine(model.engine))
    except LaunchRefused:
        raise
    except Exception as fault:  # the boundary of plug-ins
        log.exception("engine.fault", engine=model.engine, model=model.id)
        raise EngineFault(
            f"The engine {model.engine!r} failed with {type(fault).__name__}, which is its own fault; the server's log "
            "has the details for its authors."
        ) from fault
