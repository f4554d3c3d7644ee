"""Documents: every value reads back, newer and older ones too."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, timedelta
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.domain.endpoint import EndpointSpec, EndpointStatus, Progress, StateReason
from roost.domain.model import Model
from roost.domain.replica import Failure, Replica
from roost.store.documents import decode, encode
from roost.testing.builders import make_spec

T = TypeVar("T")

texts = st.text(st.characters(exclude_categories=()))
times = st.datetimes(timezones=st.just(UTC))
durations = st.timedeltas(timedelta(0), timedelta(days=36500))
floats = st.floats(allow_nan=False, allow_infinity=False)


def through_json(kind: type[T], value: T) -> T:
    """``value`` written to text and read again."""
    return decode(kind, json.loads(json.dumps(encode(value))))


@given(
    st.builds(EndpointSpec, display_name=texts, inactive_timeout=st.none() | durations),
)
def test_specs_read_back(spec: EndpointSpec) -> None:
    assert through_json(EndpointSpec, spec) == spec


reasons = st.builds(
    StateReason,
    code=texts,
    message=texts,
    since=st.none() | times,
    deadline=st.none() | times,
    log_tail=st.tuples(texts),
)
progresses = st.builds(Progress, phase=texts, percent=st.none() | floats)


@given(
    st.builds(
        EndpointStatus,
        reason=st.none() | reasons,
        progress=st.none() | progresses,
        next_attempt_at=st.none() | times,
        changed_at=st.none() | times,
    )
)
def test_statuses_read_back(status: EndpointStatus) -> None:
    assert through_json(EndpointStatus, status) == status


optional_times = st.none() | times


@given(
    st.builds(
        Replica,
        created_at=times,
        ready_at=optional_times,
        deadline=optional_times,
        stop_requested_at=optional_times,
        reason=texts,
        failure=st.none() | st.builds(Failure, message=texts),
    )
)
def test_replicas_read_back(replica: Replica) -> None:
    assert through_json(Replica, replica) == replica


@given(st.builds(Model, created_at=optional_times, options=st.dictionaries(texts, texts)))
def test_models_read_back(model: Model) -> None:
    assert through_json(Model, model) == model


def test_fields_of_a_newer_version_are_ignored() -> None:
    document = {**encode(make_spec()), "colour": "green"}
    document["autoscaling"]["cooldown_s"] = 60
    assert decode(EndpointSpec, document) == make_spec()


def test_fields_that_an_older_version_did_not_write_take_their_default() -> None:
    document = encode(make_spec(start_requests=5, zone_required=True))
    del document["start_requests"]
    assert decode(EndpointSpec, document) == replace(make_spec(), zone_required=True)


def test_a_field_without_a_default_must_be_there() -> None:
    document = encode(make_spec())
    del document["model"]
    with pytest.raises(TypeError, match="model"):
        decode(EndpointSpec, document)


def test_durations_are_written_in_seconds() -> None:
    assert encode(make_spec(inactive_timeout=timedelta(minutes=90)))["inactive_timeout"] == 5400.0
