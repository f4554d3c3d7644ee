"""Which replicas are left out for how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roost.policy.ejection import (
    FIRST_FULL_S,
    FIRST_S,
    GOOD,
    LONGEST_FULL_S,
    LONGEST_S,
    MOST_ERRORS,
    TRIAL_S,
    Standing,
    erred,
    failed,
    full,
    has_room,
    takes,
    takes_for_want_of_others,
    tried,
)


def test_a_lost_connection_leaves_a_replica_out_at_once_and_for_twice_as_long_each_time() -> None:
    standing = failed(GOOD, 10.0)
    assert not takes(standing, 10.0 + FIRST_S - 0.01)
    assert takes(standing, 10.0 + FIRST_S)
    assert failed(standing, 20.0).until == 20.0 + 2 * FIRST_S
    for _ in range(100):
        standing = failed(standing, 30.0)
    assert standing.until == 30.0 + LONGEST_S


def test_without_a_sound_one_it_is_tried_a_second_later_however_often_it_failed() -> None:
    standing = GOOD
    for _ in range(10):
        standing = failed(standing, 10.0)
    assert not takes_for_want_of_others(standing, 10.5)
    assert takes_for_want_of_others(standing, 10.0 + FIRST_S)
    assert not takes(standing, 10.0 + FIRST_S)


def test_one_request_decides_and_another_after_a_while() -> None:
    standing = tried(failed(GOOD, 10.0), 11.0)
    assert not takes(standing, 11.5)
    assert not takes_for_want_of_others(standing, 11.5)
    assert takes(standing, 11.0 + TRIAL_S)


def test_errors_count_in_a_row_and_leave_nobody_out_for_want_of_others() -> None:
    standing = GOOD
    for _ in range(MOST_ERRORS - 1):
        standing = tried(erred(standing, 10.0), 10.0)
        assert takes(standing, 10.0)
        assert standing.sound
    standing = tried(erred(standing, 10.0), 10.0)
    assert not takes(standing, 10.0)
    assert not standing.sound
    assert takes_for_want_of_others(standing, 10.0)


def test_a_full_one_is_sound_and_asked_again_soon_or_once_it_has_room() -> None:
    standing = full(GOOD, 10.0, 0.0)
    assert standing.sound
    assert not takes(standing, 10.0)
    assert takes(standing, 10.0 + FIRST_FULL_S)
    assert takes(has_room(standing), 10.0)
    assert full(standing, 10.0, 0.0).until == 10.0 + 2 * FIRST_FULL_S
    assert full(GOOD, 10.0, 2.0).until == 12.0
    assert full(GOOD, 10.0, 3600.0).until == 10.0 + LONGEST_FULL_S


def test_room_does_not_make_a_failed_one_good() -> None:
    standing = failed(full(GOOD, 10.0, 0.0), 10.0)
    assert has_room(standing) is standing


@given(st.lists(st.sampled_from([failed, erred, lambda s, now: full(s, now, 1.0), tried]), max_size=40))
def test_nobody_is_left_out_for_longer_than_the_longest(steps: list[object]) -> None:
    standing: Standing = GOOD
    for step in steps:
        standing = step(standing, 10.0)  # type: ignore[operator]
    assert takes(standing, 10.0 + LONGEST_S)
    assert takes_for_want_of_others(standing, 10.0 + max(LONGEST_FULL_S, FIRST_S, TRIAL_S))
