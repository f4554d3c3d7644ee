"""Reading the record of events. Called by the API. It never writes one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roost.domain.errors import BadRequest
from roost.domain.event import Event
from roost.services.access import Principal
from roost.services.endpoints import endpoint_missing
from roost.store.base import Store

MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class EventService:
    """Use cases of events."""

    store: Store

    async def list(
        self,
        principal: Principal,
        *,
        endpoint: str | None = None,
        after: int = 0,
        limit: int = 100,
        newest_first: bool = False,
    ) -> Sequence[Event]:
        """At most ``limit`` events with a sequence above ``after``, of one endpoint (id or name, deleted ones too) or,
        for admins, of all.

        Raises ``BadRequest`` naming the field, ``NotFound`` for an endpoint that the principal may not see.
        """
        principal.require_control()
        if not 1 <= limit <= MAX_PAGE:
            raise BadRequest(f"limit must be 1 to {MAX_PAGE}.", param="limit")
        if not 0 <= after < 1 << 63:
            raise BadRequest("after must be the sequence of an event, 0 or more.", param="after")
        if endpoint is None and not principal.is_admin:
            raise BadRequest("endpoint is required: this key may read the events of its own only.", param="endpoint")
        endpoint_id = None if endpoint is None else await self._id_of(principal, endpoint)
        return await self.store.events(endpoint_id=endpoint_id, after=after, limit=limit, newest_first=newest_first)

    async def _id_of(self, principal: Principal, id_or_name: str) -> str:
        found = await self.store.endpoint(id_or_name) or await self.store.endpoint_by_name(id_or_name)
        if found is None or not principal.may_use(found.id, found.owner):
            raise endpoint_missing(id_or_name)
        return found.id
