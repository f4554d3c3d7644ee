"""Sources of weights by kind: dotted paths, loaded when first asked for. Third parties register an entry point in the
group ``roost.sources``. An unknown kind is an error that lists the known ones; there is no default."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from roost.domain.errors import BadRequest
from roost.models.base import ModelSource

BUILT_IN: Mapping[str, str] = {
    "pypi": "roost.models.source_pypi:PypiSource",
    "file": "roost.models.source_file:FileSource",
    "http": "roost.models.source_http:HttpSource",
    "hf": "roost.models.source_hf:HfSource",
}


def kinds() -> tuple[str, ...]:
    """All kinds of sources, built-in and third-party, sorted."""
    return tuple(sorted({*BUILT_IN, *(point.name for point in entry_points(group="roost.sources"))}))


@cache
def source(kind: str) -> ModelSource:
    """The source of that kind. Raises ``BadRequest`` for an unknown one."""
    if kind in BUILT_IN:
        module, attribute = BUILT_IN[kind].split(":")
        return cast(ModelSource, getattr(import_module(module), attribute)())
    for point in entry_points(group="roost.sources"):
        if point.name == kind:
            return cast(ModelSource, point.load()())
    raise BadRequest(
        f"There is no kind of source called {kind[:100]!r}. Known: {', '.join(kinds())}.", param="source.kind"
    )
