"""The catalog as users see it, with downloads. Called by the API. It never fetches anything itself: the cache does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from roost import config
from roost.domain.errors import BadRequest, Conflict
from roost.domain.model import Fetch, Footprint, Model
from roost.engines import registry
from roost.models import entry, presence
from roost.models.base import Cache
from roost.services.access import Principal
from roost.services.catalog import Models, known_model
from roost.store.base import Store


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """A model and how far its weights are."""

    model: Model
    fetch: Fetch


@dataclass(frozen=True, slots=True)
class ModelService:
    """Use cases of the catalog."""

    catalog: Models
    cache: Cache
    store: Store
    secret: Callable[[str], str | None] = config.secret
    """The value of a variable of the server's environment."""

    def list(self) -> Sequence[CatalogItem]:
        """All models, built-in ones first."""
        return [CatalogItem(model, self.cache.status(model)) for model in self.catalog.list()]

    def get(self, id_or_alias: str) -> CatalogItem:
        """One model. Raises ``NotFound``."""
        model = known_model(self.catalog, id_or_alias)
        return CatalogItem(model, self.cache.status(model))

    async def add(self, principal: Principal, model: Model) -> CatalogItem:
        """Add a user's model; the header of a file that is there already gives it a footprint.

        Raises ``PermissionDenied``, ``Conflict``, and ``BadRequest`` naming the field, also for a file or a variable
        that the server does not have.
        """
        principal.require_admin("add models")
        if model.engine not in registry.names():
            known = ", ".join(registry.names())
            raise BadRequest(f"There is no such engine. Known engines: {known}.", param="engine", code="unknown_engine")
        found = await asyncio.to_thread(self._check, model)
        if model.footprint is None and found is not None:
            model = replace(model, footprint=found)
        added = await self.catalog.add(model, principal.owner)
        return CatalogItem(added, self.cache.status(added))

    def _check(self, model: Model) -> Footprint | None:
        entry.check(model)
        return presence.check(model, self.secret)

    async def remove(self, principal: Principal, id_or_alias: str) -> Model:
        """Remove a user's model with its weights, and return it. Raises ``PermissionDenied``, ``NotFound``, and
        ``Conflict`` for a built-in one and one that is deployed; ``ModelUnavailable`` where the weights cannot be
        deleted (the entry is gone then)."""
        principal.require_admin("remove models")
        model = known_model(self.catalog, id_or_alias)
        users = [endpoint.name for endpoint in await self.store.endpoints() if endpoint.spec.model == model.id]
        if users:
            raise Conflict(
                f"{model.id} is deployed as {', '.join(users[:5])}: delete what uses it first.",
                param="id",
                code="model_in_use",
            )
        await self.catalog.remove(model.id, principal.owner)
        await self.cache.remove(model)
        return model

    def pull(self, principal: Principal, id_or_alias: str) -> CatalogItem:
        """Begin to fetch a model's weights, if need be, and tell how far they are. Raises ``NotFound``."""
        principal.require_control()
        model = known_model(self.catalog, id_or_alias)
        self.cache.request(model)
        return CatalogItem(model, self.cache.status(model))
