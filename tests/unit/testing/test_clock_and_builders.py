"""The fake clock, the seeded identifiers and the builders."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from roost.domain.endpoint import Autoscaling
from roost.domain.key import digest_of
from roost.domain.lifecycle import DesiredState, State
from roost.testing.builders import (
    make_endpoint,
    make_event,
    make_key,
    make_model,
    make_replica,
    make_spec,
    secret_of,
)
from roost.testing.clock import FakeClock, SeededUuids


def test_the_clock_moves_only_when_told() -> None:
    clock = FakeClock(datetime(2026, 3, 1, tzinfo=UTC))
    assert clock.now() == clock.now() == datetime(2026, 3, 1, tzinfo=UTC)
    assert clock.advance(timedelta(seconds=90)) == clock.now() == datetime(2026, 3, 1, 0, 1, 30, tzinfo=UTC)
    assert clock.advance(timedelta(seconds=-30)) == datetime(2026, 3, 1, 0, 1, tzinfo=UTC)


def test_the_clock_wants_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        FakeClock(datetime(2026, 3, 1))


def test_seeded_identifiers_repeat_and_differ() -> None:
    first, second = SeededUuids(1), SeededUuids(1)
    drawn = [first() for _ in range(100)]
    assert drawn == [second() for _ in range(100)]
    assert len(set(drawn)) == 100
    assert {uuid.version for uuid in drawn} == {4}
    assert SeededUuids(2)() not in drawn


@pytest.mark.parametrize("make", [make_endpoint, make_replica, make_key, make_model, make_event])
def test_equal_numbers_give_equal_objects_and_others_other_ids(make: Callable[..., Any]) -> None:
    assert make(3) == make(3)
    assert len({make(number).id for number in range(50)}) == 50


def test_an_endpoint_takes_fields_of_its_spec_and_status() -> None:
    endpoint = make_endpoint(
        2, owner="ann", model="a/b", autoscaling=Autoscaling(0, 4), state=State.STARTED, desired_state="STOPPED"
    )
    assert endpoint.spec == make_spec(model="a/b", autoscaling=Autoscaling(0, 4), desired_state=DesiredState.STOPPED)
    assert endpoint.status.state is State.STARTED
    assert endpoint.name == "ann/a/b-00000002"


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(TypeError):
        make_endpoint(colour="green")


def test_the_objects_of_one_number_belong_together() -> None:
    assert make_replica().endpoint_id == make_event().endpoint_id == make_endpoint().id
    assert make_key(4).digest == digest_of(secret_of(4))
