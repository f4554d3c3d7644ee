"""Runtimes by name: dotted paths, loaded when first asked for. Third parties register an entry point in the group
``roost.runtimes``. An unknown name is an error that lists the known ones; there is no default."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from roost.domain.errors import InvalidSettings
from roost.runtimes.base import Runtime, RuntimeSettings

BUILT_IN: Mapping[str, str] = {
    "local": "roost.runtimes.local:LocalRuntime",
    "memory": "roost.runtimes.memory:MemoryRuntime",
    "sandbox": "roost.runtimes.sandbox:SandboxRuntime",
}


def names() -> tuple[str, ...]:
    """All runtime names, built-in and third-party, sorted."""
    return tuple(sorted({*BUILT_IN, *(point.name for point in entry_points(group="roost.runtimes"))}))


def runtime(name: str, settings: RuntimeSettings) -> Runtime:
    """A new runtime called ``name``. Raises ``InvalidSettings`` for an unknown name."""
    if name in BUILT_IN:
        module, attribute = BUILT_IN[name].split(":")
        return cast(Runtime, getattr(import_module(module), attribute)(settings))
    for point in entry_points(group="roost.runtimes"):
        if point.name == name:
            return cast(Runtime, point.load()(settings))
    raise InvalidSettings(f"There is no runtime called {name!r}. Known runtimes: {', '.join(names())}.")
