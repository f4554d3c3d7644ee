from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from roost.domain.errors import BadRequest, Conflict, NotFound
from roost.domain.event import Event
from roost.domain.model import Model, Source
from roost.models.catalog import SMOLLM2, Catalog
from roost.models.entry import check

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MINE = Model("acme/mine", "llama_cpp", Source("file", "/srv/mine.gguf"), alias="mine", display_name="Mine")


class Shelf:
    """The part of a store that a catalog uses; ``broken`` makes its writes fail."""

    def __init__(self, *models: Model) -> None:
        self.held = {model.id: model for model in models}
        self.events: list[Event] = []
        self.broken = False

    async def put_model(self, model: Model, events: Sequence[Event]) -> None:
        self._write(events)
        self.held[model.id] = model

    async def models(self) -> Sequence[Model]:
        return [self.held[model_id] for model_id in sorted(self.held)]

    async def delete_model(self, model_id: str, events: Sequence[Event]) -> None:
        self._write(events)
        del self.held[model_id]

    def _write(self, events: Sequence[Event]) -> None:
        if self.broken:
            raise ConnectionError("the database is away")
        self.events.extend(events)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def catalog(shelf: Shelf) -> Catalog:
    return Catalog(shelf, known_engines=lambda: ("external", "llama_cpp"), now=lambda: NOW, uuids=lambda: UUID(int=7))


def test_the_default_model_is_there_before_anything_is_loaded(catalog: Catalog) -> None:
    assert catalog.get("HuggingFaceTB/SmolLM2-135M-Instruct") == catalog.get("smollm2-135m") == SMOLLM2
    assert catalog.list() == (SMOLLM2,)
    assert SMOLLM2.built_in
    check(SMOLLM2, ("llama_cpp",))


async def test_an_added_model_is_found_by_id_and_alias_also_after_a_restart(catalog: Catalog, shelf: Shelf) -> None:
    added = await catalog.add(MINE, "ada")
    assert added == replace(MINE, created_at=NOW)
    restarted = Catalog(shelf)
    await restarted.load()
    for each in (catalog, restarted):
        assert each.get("acme/mine") == each.get("mine") == added
        assert each.list() == (SMOLLM2, added)
    assert catalog.get("Mine") is None


async def test_changes_leave_an_event_with_their_actor(catalog: Catalog, shelf: Shelf) -> None:
    await catalog.add(MINE, "ada")
    await catalog.remove("acme/mine", "bob")
    assert [(e.kind, e.actor, e.data["model"], e.at) for e in shelf.events] == [
        ("model.added", "ada", "acme/mine", NOW),
        ("model.removed", "bob", "acme/mine", NOW),
    ]
    assert shelf.held == {}
    assert catalog.get("acme/mine") is None


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"id": SMOLLM2.id}, "id"),
        ({"id": SMOLLM2.alias}, "id"),
        ({"alias": SMOLLM2.id}, "alias"),
        ({"alias": SMOLLM2.alias}, "alias"),
        ({"id": "acme/first"}, "id"),
        ({"id": "first"}, "id"),
        ({"alias": "acme/first"}, "alias"),
        ({"alias": "first"}, "alias"),
    ],
)
async def test_names_that_are_taken_are_a_conflict(catalog: Catalog, values: dict[str, Any], param: str) -> None:
    first = await catalog.add(replace(MINE, id="acme/first", alias="first"), "ada")
    with pytest.raises(Conflict) as caught:
        await catalog.add(replace(MINE, **values), "ada")
    assert caught.value.param == param
    assert catalog.list() == (SMOLLM2, first)


async def test_nobody_can_pretend_to_be_built_in(catalog: Catalog) -> None:
    assert not (await catalog.add(replace(MINE, built_in=True), "ada")).built_in


async def test_built_in_models_stay(catalog: Catalog) -> None:
    with pytest.raises(Conflict, match="built in"):
        await catalog.remove(SMOLLM2.id, "ada")


async def test_removing_what_is_not_there_is_not_found_without_saying_endpoint(catalog: Catalog) -> None:
    with pytest.raises(NotFound, match="no model with the id") as caught:
        await catalog.remove("acme/none", "ada")
    assert "endpoint" not in caught.value.message


async def test_a_later_built_in_entry_wins_over_a_stored_one() -> None:
    stored = Shelf(replace(MINE, id=SMOLLM2.id), replace(MINE, id="acme/other", alias=SMOLLM2.alias))
    catalog = Catalog(stored)
    await catalog.load()
    assert catalog.get(SMOLLM2.id) == SMOLLM2
    assert catalog.get("smollm2-135m") == SMOLLM2
    assert [model.id for model in catalog.list()] == [SMOLLM2.id, "acme/other"]


async def test_a_store_that_fails_changes_nothing(catalog: Catalog, shelf: Shelf) -> None:
    shelf.broken = True
    with pytest.raises(ConnectionError):
        await catalog.add(MINE, "ada")
    assert catalog.get(MINE.id) is None
    shelf.broken = False
    await catalog.add(MINE, "ada")
    shelf.broken = True
    with pytest.raises(ConnectionError):
        await catalog.remove(MINE.id, "ada")
    assert catalog.get(MINE.id) is not None


async def test_a_wrong_entry_is_refused_before_it_reaches_the_store(catalog: Catalog, shelf: Shelf) -> None:
    with pytest.raises(BadRequest) as caught:
        await catalog.add(replace(MINE, engine="warp"), "ada")
    assert caught.value.param == "engine"
    assert "external, llama_cpp" in caught.value.message
    assert shelf.held == {}
