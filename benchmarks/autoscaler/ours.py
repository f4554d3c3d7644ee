"""Roost's own policy under test: the counts of the simulated gateway, as ``roost.policy.autoscale`` is told them.

Called by ``runs``. It begins without a probe: from the prior that is shipped.
"""

from __future__ import annotations

from benchmarks.autoscaler.fleet import View

from roost.policy.autoscale import decide
from roost.policy.autoscale_state import Observation, Settings, State, Totals
from roost.policy.calibration import Work


class Roost:
    """The shipped configuration; ``max_replicas`` and ``slots`` are the endpoint's."""

    interval_s = 1.0
    undrains = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = State()
        self.firsts_seen = self.starts_seen = self.in_time = 0

    def desired(self, view: View, now: float) -> int:
        """One decision."""
        self.state, decision = decide(self.settings, self.state, self.observation(view), now)
        return decision.desired

    def observation(self, view: View) -> Observation:
        """What the gateways and the control plane tell since they last did."""
        fresh = view.ttfts[self.firsts_seen :]
        self.firsts_seen += len(fresh)
        self.in_time += sum(1 for each in fresh if each <= self.settings.ttft_target_s)
        started = tuple(each for each in view.started[self.starts_seen :] if each > 0)
        self.starts_seen = len(view.started)
        books = view.books
        return Observation(
            totals=Totals(
                requests=view.arrived,
                prompt_tokens=view.arrived_prompt_tokens,
                finished=view.finished,
                finished_output_tokens=view.finished_output_tokens,
                first_tokens=self.firsts_seen,
                first_tokens_in_time=self.in_time,
                work=Work(books.busy_s, books.prefilled_tokens, books.iterations, books.output_tokens),
            ),
            ready=view.ready,
            starting=view.starting,
            draining=view.draining,
            in_flight=view.in_flight,
            held=view.held,
            unserved=view.arrived - len(view.ttfts),
            unserved_prompt_tokens=view.unserved_prompt_tokens,
            started=started,
        )
