"""Use cases of endpoints: create, read, change, delete. Called by the API.

It writes specs and events, never a status, and starts nothing itself: it wakes control, which looks at the spec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from roost.domain.creation import Creation, Wish
from roost.domain.endpoint import Endpoint, EndpointSpec, EndpointStatus
from roost.domain.errors import Conflict, NotFound, VersionConflict
from roost.domain.event import Event
from roost.domain.ids import UuidSource, endpoint_id, endpoint_name, event_id
from roost.domain.lifecycle import DesiredState, State
from roost.domain.replica import Replica
from roost.services import endpoint_requests as requests
from roost.services.access import Principal
from roost.services.catalog import Models, known_model
from roost.services.endpoint_requests import EndpointChange, EndpointDraft, Unset
from roost.services.hardware import HardwareService
from roost.store.base import Store

ATTEMPTS = 5
"""How often a lost compare-and-set or a taken name is tried again."""


@dataclass(frozen=True, slots=True)
class EndpointService:
    """Use cases of endpoints. ``wake`` puts an endpoint's id on control's queue."""

    store: Store
    catalog: Models
    hardware: HardwareService
    default_timeout: timedelta | None
    now: Callable[[], datetime]
    uuids: UuidSource
    wake: Callable[[str], None]

    async def create(self, principal: Principal, draft: EndpointDraft, wish: Wish | None = None) -> Endpoint:
        """Make an endpoint as asked; ``wish`` is kept with it, for requests that repeat it.

        Raises ``BadRequest`` naming the field, ``NotFound`` for an unknown model, ``PermissionDenied``.
        """
        principal.require_create()
        spec = await self._new_spec(draft)
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._insert(principal, spec, wish)
            except Conflict:
                # The name or an id was drawn before: draw again.
                continue
        return await self._insert(principal, spec, wish)

    async def get(self, principal: Principal, id_or_name: str) -> Endpoint:
        """The endpoint of that id or name. Raises ``NotFound``, also for what is not the principal's to see."""
        principal.require_control()
        found = await self.store.endpoint(id_or_name)
        if found is None:
            found = await self.store.endpoint_by_name(id_or_name)
        if found is None or found.deleted_at is not None or not principal.may_use(found.id, found.owner):
            raise endpoint_missing(id_or_name)
        return found

    async def replicas(self, endpoint: Endpoint) -> Sequence[Replica]:
        """The endpoint's replicas, oldest first."""
        return await self.store.replicas(endpoint.id)

    async def list(self, principal: Principal, *, mine: bool = False) -> Sequence[Endpoint]:
        """All endpoints that the principal may see, newest first; with ``mine`` those of its owner only."""
        principal.require_control()
        everything = principal.is_admin and not mine
        found = await self.store.endpoints(owner=None if everything else principal.owner)
        return [endpoint for endpoint in found if principal.may_use(endpoint.id, endpoint.owner)]

    async def all_replicas(self) -> Mapping[str, Sequence[Replica]]:
        """All replicas by endpoint, for lists."""
        found: dict[str, list[Replica]] = {}
        for replica in await self.store.replicas():
            found.setdefault(replica.endpoint_id, []).append(replica)
        return found

    async def update(self, principal: Principal, id_or_name: str, change: EndpointChange) -> Endpoint:
        """Change an endpoint's spec: all of ``change`` or nothing. Asking for what is already so changes nothing.

        Raises ``NotFound``, ``BadRequest`` naming the field, ``VersionConflict`` when others keep writing.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._changed(principal, id_or_name, change)
            except VersionConflict:
                # Somebody wrote between our reading and writing: decide again on what is there now.
                continue
        return await self._changed(principal, id_or_name, change)

    async def delete(self, principal: Principal, id_or_name: str) -> Endpoint:
        """Hide the endpoint from now on and return it as it was; control tears it down. Raises ``NotFound``, also when
        it is deleted."""
        endpoint = await self.get(principal, id_or_name)
        now = self.now()
        reason = f"{principal.owner} deleted it while {endpoint.status.state}"
        await self.store.mark_deleted(
            endpoint.id, now, [self._event("endpoint.deleted", reason, principal, endpoint.id, now)]
        )
        self.wake(endpoint.id)
        return endpoint

    async def _new_spec(self, draft: EndpointDraft) -> EndpointSpec:
        model = known_model(self.catalog, requests.required(draft.model, "model"))
        hardware = requests.required(draft.hardware, "hardware")
        autoscaling = requests.new_autoscaling(draft.autoscaling)
        asked = draft.inactive_timeout
        timeout = self.default_timeout if isinstance(asked, Unset) else requests.timeout_of(asked)
        name = requests.display_name_of(draft.display_name, model.id)
        desired = requests.desired_of(draft.state or DesiredState.STARTED)
        zone = draft.availability_zone or None
        chosen = await self.hardware.check(hardware, model, zone, draft.zone_required)
        return EndpointSpec(
            model=model.id,
            hardware=chosen.id,
            autoscaling=autoscaling,
            display_name=name,
            desired_state=desired,
            inactive_timeout=timeout,
            availability_zone=zone,
            zone_required=draft.zone_required,
            disable_speculative_decoding=draft.disable_speculative_decoding,
        )

    async def _insert(self, principal: Principal, spec: EndpointSpec, wish: Wish | None) -> Endpoint:
        now, uuid = self.now(), self.uuids()
        state = State.PENDING if spec.desired_state is DesiredState.STARTED else State.STOPPED
        endpoint = Endpoint(
            id=endpoint_id(uuid),
            name=endpoint_name(principal.owner, spec.model, uuid),
            owner=principal.owner,
            spec=spec,
            status=EndpointStatus(state, changed_at=now),
            created_at=now,
            updated_at=now,
        )
        reason = f"{principal.owner} created it: {spec.model} on {spec.hardware}, to be {spec.desired_state}"
        event = self._event("endpoint.created", reason, principal, endpoint.id, now)
        creation = None if wish is None else Creation(endpoint.id, wish, now, now)
        await self.store.insert_endpoint(endpoint, [event], creation)
        self.wake(endpoint.id)
        return endpoint

    async def _changed(self, principal: Principal, id_or_name: str, change: EndpointChange) -> Endpoint:
        endpoint = await self.get(principal, id_or_name)
        spec = requests.changed_spec(endpoint.spec, endpoint.status.state, change)
        if spec == endpoint.spec:
            return endpoint
        now = self.now()
        changes = requests.differences(endpoint.spec, spec) or {"state": "STARTED again after failures"}
        reason = f"{principal.owner} changed {', '.join(f'{field}: {text}' for field, text in changes.items())}"
        event = self._event("endpoint.updated", reason, principal, endpoint.id, now, changes)
        updated = await self.store.update_spec(endpoint.id, endpoint.spec_version, spec, now, [event])
        self.wake(updated.id)
        return updated

    def _event(
        self,
        kind: str,
        reason: str,
        principal: Principal,
        endpoint: str,
        now: datetime,
        data: Mapping[str, str] | None = None,
    ) -> Event:
        return Event(event_id(self.uuids()), now, kind, principal.owner, reason, endpoint, data=data or {})


def endpoint_missing(id_or_name: str) -> NotFound:
    """No such endpoint, or not the caller's to see: the two must read the same."""
    return NotFound(f"The endpoint {id_or_name[:300]} was not found.", param="id", code="endpoint_not_found")
