"""Which weights make way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.policy.eviction import Held, NoRoom, Room, make_room, shown

GB = 10**9


def held(name: str, size: int, used_at: float, in_use: bool = False) -> Held:
    return Held(f"/{name}", (name,), size, used_at, in_use)


OLD, MIDDLE, NEW = held("old", 3 * GB, 1), held("middle", 3 * GB, 2), held("new", 3 * GB, 3)


PINNED = held("pinned", 3 * GB, 1, in_use=True)


def evicted(needed: int, held: list[Held], quota: int = 10 * GB) -> list[str]:
    answer = make_room("acme/next", needed, held, quota)
    assert isinstance(answer, Room), answer
    return [each.models[0] for each in answer.evict]


def test_what_fits_evicts_nothing() -> None:
    assert evicted(GB, [NEW, OLD, MIDDLE]) == []
    assert evicted(10 * GB, []) == []


def test_the_least_recently_used_goes_first() -> None:
    assert evicted(2 * GB, [NEW, OLD, MIDDLE]) == ["old"]
    assert evicted(5 * GB, [NEW, OLD, MIDDLE]) == ["old", "middle"]
    assert evicted(10 * GB, [NEW, OLD, MIDDLE]) == ["old", "middle", "new"]


def test_what_is_in_use_stays_however_old() -> None:
    assert evicted(2 * GB, [held("old", 3 * GB, 1, in_use=True), MIDDLE, NEW]) == ["middle"]


def test_nothing_goes_that_could_have_stayed() -> None:
    assert evicted(5 * GB, [held("tiny", GB, 0), held("large", 8 * GB, 1)]) == ["large"]


def test_weights_beyond_the_quota_name_the_setting_and_evict_nothing() -> None:
    answer = make_room("acme/next", 11 * GB, [OLD], 10 * GB)
    assert isinstance(answer, NoRoom)
    assert "acme/next need 11 GB" in answer.reason
    assert "10 GB: raise models_quota_gb" in answer.reason


def test_what_is_beyond_the_quota_never_fits_and_what_is_crowded_out_may() -> None:
    never, now = make_room("acme/next", 11 * GB, [], 10 * GB), make_room("acme/next", 9 * GB, [PINNED], 10 * GB)
    assert isinstance(never, NoRoom)
    assert isinstance(now, NoRoom)
    assert (never.ever, now.ever) == (False, True)


@pytest.mark.parametrize("needed", [11 * GB, 9 * GB, 8 * GB])
def test_a_size_that_is_not_the_last_word_is_called_at_least(needed: int) -> None:
    held = [PINNED] if needed > 8 * GB else [OLD]
    assert f"at least {shown(needed)}" in make_room("acme/next", needed, held, 10 * GB, at_least=True).reason
    assert "at least" not in make_room("acme/next", needed, held, 10 * GB).reason


def test_a_quota_full_of_weights_in_use_names_them() -> None:
    answer = make_room("acme/next", 5 * GB, [held(f"m{n}", GB, n, in_use=True) for n in range(7)], 10 * GB)
    assert isinstance(answer, NoRoom)
    assert "7 GB are in use or on their way (m0, m1, m2, m3, m4 and 2 more)" in answer.reason


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (98_362_432, "0.0984 GB"), (4_370_000_000, "4.37 GB"), (12_345 * GB, "12345 GB")],
)
def test_sizes_are_in_the_settings_unit(size: int, text: str) -> None:
    assert shown(size) == text


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.booleans()), max_size=12),
    st.integers(0, 30),
    st.integers(1, 60),
)
def test_room_is_made_whenever_it_can_be_and_only_as_much_as_is_needed(
    files: list[tuple[int, int, bool]], needed: int, quota: int
) -> None:
    items = [held(f"m{n}", size, used, in_use) for n, (size, used, in_use) in enumerate(files)]
    pinned = sum(each.size for each in items if each.in_use)

    answer = make_room("acme/next", needed, items, quota)

    assert isinstance(answer, NoRoom) == (pinned + needed > quota)
    assert answer.reason
    if isinstance(answer, Room):
        left = sum(each.size for each in items) - sum(each.size for each in answer.evict)
        assert not any(each.in_use for each in answer.evict)
        assert len(set(answer.evict)) == len(answer.evict)
        assert left + needed <= quota
        assert all(left + each.size + needed > quota for each in answer.evict)
        assert list(answer.evict) == sorted(answer.evict, key=lambda each: (each.used_at, each.path))
