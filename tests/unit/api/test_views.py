"""Domain objects on the wire."""

from __future__ import annotations

from datetime import datetime, timedelta

from roost.api.views import endpoint_view, event_view, model_view, plain
from roost.domain.endpoint import Progress, StateReason
from roost.domain.lifecycle import State
from roost.domain.model import Fetch, FetchState
from roost.domain.replica import ReplicaState
from roost.services.models import CatalogItem
from roost.testing.builders import make_endpoint, make_event, make_model, make_replica
from roost.testing.clock import START


def test_an_endpoint_with_all_there_is() -> None:
    endpoint = make_endpoint(
        1,
        state=State.STARTING,
        reason=StateReason("loading", "It loads.", "Wait.", "loading", START, START + timedelta(minutes=2), ("a", "b")),
        progress=Progress("fetching", 25.0, 1, 4),
        inactive_timeout=timedelta(hours=2),
        availability_zone="b",
    )
    ready = make_replica(1, state=ReplicaState.READY, ready_at=START + timedelta(seconds=9), reason="placed")

    shown = endpoint_view(endpoint, [ready]).model_dump(mode="json")

    assert shown["inactive_timeout"] == 120
    assert shown["created_at"] == "2026-01-01T00:00:01Z"
    assert shown["state_reason"] == {
        "code": "loading",
        "message": "It loads.",
        "hint": "Wait.",
        "phase": "loading",
        "since": "2026-01-01T00:00:00Z",
        "deadline": "2026-01-01T00:02:00Z",
        "log_tail": ["a", "b"],
    }
    assert shown["progress"] == {"phase": "fetching", "percent": 25.0, "done_bytes": 1, "total_bytes": 4}
    assert shown["replicas"] == [
        {
            "id": ready.id,
            "state": "READY",
            "node": "local",
            "zone": "local",
            "since": "2026-01-01T00:00:09Z",
            "reason": "placed",
        }
    ]


def test_an_endpoint_was_updated_when_its_spec_or_its_state_last_changed() -> None:
    hour = timedelta(hours=1)

    def shown(updated_at: datetime, changed_at: datetime | None) -> datetime | None:
        return endpoint_view(make_endpoint(updated_at=updated_at, changed_at=changed_at), []).updated_at

    assert shown(START, START + hour) == START + hour
    assert shown(START + 2 * hour, START + hour) == START + 2 * hour
    assert shown(START, None) == START


def test_every_documented_field_of_a_bare_endpoint_is_there() -> None:
    shown = endpoint_view(make_endpoint(inactive_timeout=None), []).model_dump(mode="json")

    documented = ("object", "id", "name", "display_name", "model", "hardware", "type", "owner", "state")
    assert all(shown[name] is not None for name in (*documented, "autoscaling", "created_at"))
    assert shown["inactive_timeout"] is None


def test_texts_that_utf8_cannot_carry_are_replaced() -> None:
    reason = StateReason("x", "bad \udcff", "\ud800", log_tail=("ok ü", "\udc80"))

    shown = endpoint_view(make_endpoint(reason=reason), [make_replica(reason="\udcff")])
    shown.model_dump_json().encode()
    assert shown.state_reason is not None
    assert shown.state_reason.log_tail == ["ok ü", "?"]
    event_view(make_event(reason="\udcff", data={"a": "\ud800"}, sequence=1)).model_dump_json().encode()
    assert plain("ü\0") == "ü\0"


def test_a_model_of_which_little_is_known() -> None:
    model = make_model(id="org/name", display_name="", organization="", created_at=None)

    shown = model_view(CatalogItem(model, Fetch(model.id, FetchState.ABSENT))).model_dump(mode="json")

    assert (shown["created"], shown["display_name"], shown["organization"]) == (0, "org/name", "org")
    assert set(shown["pricing"]) == {"base", "finetune", "hourly", "input", "output"}
    assert shown["download"]["state"] == "absent"
