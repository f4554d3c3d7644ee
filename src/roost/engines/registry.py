"""Engines by name: dotted paths, loaded when first asked for. Third parties register an entry point in the group
``roost.engines``. An unknown name is an error that lists the known ones; there is no default."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from roost.domain.errors import BadRequest
from roost.engines.base import Engine

BUILT_IN: Mapping[str, str] = {
    "llama_cpp": "roost.engines.llama_cpp:LlamaCppEngine",
    "external": "roost.engines.external:ExternalEngine",
    "echo": "roost.engines.echo:EchoEngine",
    "sandbox": "roost.engines.sandbox:SandboxEngine",
}


@cache
def names() -> tuple[str, ...]:
    """All engine names, built-in and third-party, sorted."""
    return tuple(sorted({*BUILT_IN, *(point.name for point in entry_points(group="roost.engines"))}))


@cache
def engine(name: str) -> Engine:
    """The engine called ``name``. Raises ``BadRequest`` for an unknown name."""
    if name in BUILT_IN:
        module, attribute = BUILT_IN[name].split(":")
        return cast(Engine, getattr(import_module(module), attribute)())
    for point in entry_points(group="roost.engines"):
        if point.name == name:
            return cast(Engine, point.load()())
    raise BadRequest(f"There is no engine called {name!r}. Known engines: {', '.join(names())}.", param="engine")
