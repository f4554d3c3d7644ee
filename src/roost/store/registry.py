"""Stores by URL scheme: dotted paths, loaded when first asked for. An unknown scheme is an error that lists the known
ones; there is no default."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from roost.domain.errors import InvalidSettings
from roost.store.base import Store

BUILT_IN: Mapping[str, str] = {
    "sqlite": "roost.store.sql:SqlStore",
    "postgresql": "roost.store.sql:SqlStore",
    "memory": "roost.store.memory:MemoryStore",
}


def store(url: str) -> Store:
    """A new store for a database URL such as ``sqlite:////var/lib/roost/roost.db``,
    ``postgresql+psycopg://user@host/db`` or ``memory://``. Raises ``InvalidSettings`` for an unknown scheme."""
    scheme = url.split(":", 1)[0].split("+", 1)[0]
    if scheme in BUILT_IN:
        module, attribute = BUILT_IN[scheme].split(":")
        return cast(Store, getattr(import_module(module), attribute)(url))
    for point in entry_points(group="roost.stores"):
        if point.name == scheme:
            return cast(Store, point.load()(url))
    known = ", ".join(sorted(BUILT_IN))
    raise InvalidSettings(f"The database URL starts with {scheme!r}; Roost can use: {known}.")
