"""The reconciler: one pass for one endpoint: observe, ask ``policy.plan``, act. Level-triggered: call it at any
time, any number of times. Called by the plane's worker (and by tests, pass by pass)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from roost.control.actuator import Actuator
from roost.control.observer import Observer
from roost.domain.errors import NotFound, VersionConflict
from roost.policy.facts import Plan, PlanSettings
from roost.policy.plan import plan

log = structlog.get_logger(__name__)


class Reconciler:
    """Passes over endpoints. ``changed`` is called after each pass that wrote something."""

    def __init__(
        self,
        *,
        observer: Observer,
        actuator: Actuator,
        settings: PlanSettings,
        now: Callable[[], datetime],
        changed: Callable[[str, Plan], None],
    ) -> None:
        self._observer = observer
        self._actuator = actuator
        self.settings = settings
        self._now = now
        self._changed = changed
        self.shutting_down = False
        # Passes are short and place on shared hardware: one at a time, so that no two count on the same room.
        self._one = asyncio.Lock()

    async def run(self, endpoint_id: str) -> timedelta | None:
        """One pass. Returns when to come back: None means when there is news, zero means at once."""
        async with self._one:
            facts = await self._observer.facts(endpoint_id, shutting_down=self.shutting_down)
            if facts is None:
                return None
            now = self._now()
            decision = plan(facts, self.settings, now)
            if decision.empty(facts.endpoint.status):
                return decision.requeue_after
            try:
                await self._actuator.execute(facts, decision, now)
            except VersionConflict:
                return timedelta(0)
            except NotFound:
                return None
            self._log(endpoint_id, facts.endpoint.status.state.value, decision)
            self._changed(endpoint_id, decision)
            return decision.requeue_after

    def _log(self, endpoint_id: str, before: str, decision: Plan) -> None:
        after = decision.status.state.value
        for note in decision.notes:
            log.info(note.kind, endpoint_id=endpoint_id, replica_id=note.replica_id, reason=note.reason)
        if before == after and not decision.notes:
            log.debug("endpoint.pass", endpoint_id=endpoint_id, state=after, reason=decision.reason)
