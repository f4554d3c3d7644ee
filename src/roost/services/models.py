"""The catalog as users see it, with downloads. Called by the API. It never fetches anything itself: the cache does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from roost import config
from roost.domain.errors import BadRequest, Conflict, LaunchRefused
from roost.domain.model import Fetch, Footprint, Model
from roost.engines import registry
from roost.models import entry, presence
from roost.models.base import Cache
from roost.models.location import PUBLIC_KINDS
from roost.services.access import Principal
from roost.services.catalog import Models, known_model
from roost.store.base import Store


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """A model, how far its weights are, and the names of the endpoints deployed from it that the asker may see."""

    model: Model
    fetch: Fetch
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Removed:
    """A model that was removed, or its weights; ``freed`` is in bytes."""

    model: Model
    freed: int


@dataclass(frozen=True, slots=True)
class ModelService:
    """Use cases of the catalog."""

    catalog: Models
    cache: Cache
    store: Store
    secret: Callable[[str], str | None] = config.secret
    """The value of a variable of the server's environment."""

    async def list(self, principal: Principal) -> Sequence[CatalogItem]:
        """All models, built-in ones first."""
        users = await self._users(principal)
        return [self._item(principal, model, users) for model in self.catalog.list()]

    async def get(self, principal: Principal, id_or_alias: str) -> CatalogItem:
        """One model. Raises ``NotFound``."""
        model = known_model(self.catalog, id_or_alias)
        return self._item(principal, model, await self._users(principal))

    async def _users(self, principal: Principal) -> Mapping[str, tuple[str, ...]]:
        """Names of endpoints by the model that they are deployed from."""
        users: dict[str, tuple[str, ...]] = {}
        for endpoint in await self.store.endpoints():
            if principal.may_use(endpoint.id, endpoint.owner):
                users[endpoint.spec.model] = (*users.get(endpoint.spec.model, ()), endpoint.name)
        return users

    def _item(self, principal: Principal, model: Model, users: Mapping[str, tuple[str, ...]]) -> CatalogItem:
        item = CatalogItem(model, self.cache.status(model), users.get(model.id, ()))
        return item if principal.is_admin else _withheld(item)

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
        try:
            registry.engine(model.engine).check_options(model)
        except LaunchRefused as error:
            raise BadRequest(error.message, param="options", code=error.code) from error
        return presence.check(model, self.secret)

    async def remove(self, principal: Principal, id_or_alias: str) -> Removed:
        """Remove a user's model with its weights. Raises ``PermissionDenied``, ``NotFound``, and ``Conflict`` for a
        built-in one and one that is deployed; ``ModelUnavailable`` where the weights cannot be deleted (the entry is
        gone then)."""
        principal.require_admin("remove models")
        model = await self._unused(id_or_alias)
        await self.catalog.remove(model.id, principal.owner)
        return Removed(model, await self.cache.remove(model))

    async def remove_weights(self, principal: Principal, id_or_alias: str) -> Removed:
        """Free the disk of a model's weights and keep its entry: they are fetched again when they are needed. A file of
        the user's own stays. Raises as ``remove`` does, and not for a built-in one."""
        principal.require_admin("remove weights")
        model = await self._unused(id_or_alias)
        return Removed(model, await self.cache.remove(model))

    async def _unused(self, id_or_alias: str) -> Model:
        model = known_model(self.catalog, id_or_alias)
        users = [endpoint.name for endpoint in await self.store.endpoints() if endpoint.spec.model == model.id]
        if users:
            more = f" and {len(users) - 5} more" if len(users) > 5 else ""
            raise Conflict(
                f"{model.id} is deployed as {', '.join(users[:5])}{more}: delete what uses it first.",
                param="id",
                code="model_in_use",
            )
        return model

    async def pull(self, principal: Principal, id_or_alias: str) -> CatalogItem:
        """Begin to fetch a model's weights, if need be, and tell how far they are. Raises ``NotFound``."""
        principal.require_control()
        model = known_model(self.catalog, id_or_alias)
        self.cache.request(model)
        # Before they make way for others, too: somebody wants them here.
        await self.cache.used(model)
        return self._item(principal, model, await self._users(principal))


def _withheld(item: CatalogItem) -> CatalogItem:
    """The item as all but admins see it: where files lie on the server's machine, which other servers there are and how
    engines are set is for those who run them."""
    model, fetch = item.model, item.fetch
    source = model.source
    if source is not None and source.kind not in PUBLIC_KINDS:
        source = replace(source, location="")
    error = fetch.error
    if error is not None:
        error = f"It failed with {fetch.error_code or 'model_unavailable'}; an admin's key shows the whole message."
    return replace(
        item,
        model=replace(model, source=source, url=None, served_model=None, options={}),
        fetch=replace(fetch, path=None, error=error),
    )
