"""The control plane's metrics: names, labels and base units."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from roost._version import __version__
from roost.domain.lifecycle import State
from roost.domain.replica import ReplicaState
from roost.telemetry import metrics
from roost.telemetry.metrics import RESULTS, ControlMetrics


def samples(text: bytes) -> dict[tuple[str, str], float]:
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found[sample.name, sample.labels.get("state") or sample.labels.get("result") or ""] = sample.value
    return found


def test_every_state_has_a_series_from_the_start() -> None:
    found = samples(ControlMetrics().render())
    assert {label for name, label in found if name == "roost_endpoints"} == {state.value for state in State}
    assert {label for name, label in found if name == "roost_replicas"} == {state.value for state in ReplicaState}
    assert {label for name, label in found if name == "roost_reconcile_passes_total"} == set(RESULTS)


def test_states_that_are_not_named_fall_to_zero() -> None:
    control = ControlMetrics()
    control.set_endpoints({State.STARTED: 3, State.ERROR: 1})
    control.set_endpoints({State.STARTED: 2})
    found = samples(control.render())
    assert found["roost_endpoints", "STARTED"] == 2
    assert found["roost_endpoints", "ERROR"] == 0


def test_replicas_are_counted_by_state() -> None:
    control = ControlMetrics()
    control.set_replicas({ReplicaState.READY: 4})
    assert samples(control.render())["roost_replicas", "READY"] == 4


def test_passes_are_counted_and_timed() -> None:
    control = ControlMetrics()
    control.reconciled(0.5, failed=False)
    control.reconciled(0.25, failed=True)
    found = samples(control.render())
    assert found["roost_reconcile_passes_total", "ok"] == 1
    assert found["roost_reconcile_seconds_count", ""] == 2
    assert found["roost_reconcile_seconds_sum", ""] == pytest.approx(0.75)


def test_the_build_is_named() -> None:
    assert f'version="{__version__}"' in ControlMetrics().render().decode()


def test_the_module_functions_write_to_what_render_shows() -> None:
    before = samples(metrics.render())["roost_reconcile_passes_total", "failed"]
    metrics.reconciled(0.1, failed=True)
    assert samples(metrics.render())["roost_reconcile_passes_total", "failed"] == before + 1
