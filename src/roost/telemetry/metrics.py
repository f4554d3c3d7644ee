"""Prometheus metrics of the control plane, in base units (seconds, bytes, counts).

Control sets them through the functions below; the API's ``/metrics`` serves ``render()``. It must never carry a label
that users choose freely (endpoint names, keys): labels come from fixed sets, so that the number of series is bounded.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from roost._version import __version__
from roost.domain.lifecycle import State
from roost.domain.replica import ReplicaState

RESULTS = ("ok", "failed")
"""How a reconcile pass ended; a lost compare-and-set is no failure."""


class ControlMetrics:
    """The control plane's metrics in a registry of their own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._endpoints = Gauge("roost_endpoints", "Endpoints by state.", ["state"], registry=self.registry)
        self._replicas = Gauge("roost_replicas", "Replicas by state.", ["state"], registry=self.registry)
        self._passes = Counter(
            "roost_reconcile_passes", "Reconcile passes by result.", ["result"], registry=self.registry
        )
        self._seconds = Histogram(
            "roost_reconcile_seconds",
            "Duration of reconcile passes in seconds.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        build = Gauge("roost_build_info", "Always 1; says what runs.", ["version", "python"], registry=self.registry)
        build.labels(__version__, platform.python_version()).set(1)
        for result in RESULTS:
            self._passes.labels(result)
        self.set_endpoints({})
        self.set_replicas({})

    def set_endpoints(self, counts: Mapping[State, int]) -> None:
        """Endpoints (tombstones left out) by state; states that are not named become 0."""
        for state in State:
            self._endpoints.labels(state.value).set(counts.get(state, 0))

    def set_replicas(self, counts: Mapping[ReplicaState, int]) -> None:
        """Replica rows by state; states that are not named become 0."""
        for state in ReplicaState:
            self._replicas.labels(state.value).set(counts.get(state, 0))

    def reconciled(self, seconds: float, *, failed: bool) -> None:
        """Count one reconcile pass that took ``seconds``."""
        self._passes.labels("failed" if failed else "ok").inc()
        self._seconds.observe(seconds)

    def render(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)


control = ControlMetrics()
"""The metrics of this process."""


def set_endpoints(counts: Mapping[State, int]) -> None:
    """``control.set_endpoints``."""
    control.set_endpoints(counts)


def set_replicas(counts: Mapping[ReplicaState, int]) -> None:
    """``control.set_replicas``."""
    control.set_replicas(counts)


def reconciled(seconds: float, *, failed: bool) -> None:
    """``control.reconciled``."""
    control.reconciled(seconds, failed=failed)


def render() -> bytes:
    """``control.render``."""
    return control.render()
