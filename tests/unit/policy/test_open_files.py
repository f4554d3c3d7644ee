"""How many connections a limit of open files allows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roost.policy.open_files import MOST_TOLD, SPARE_FILES, carried, needed


@given(st.integers(0, 1 << 20), st.integers(1, 100_000))
def test_clients_and_replicas_never_need_more_files_than_there_are(files: int, wanted: int) -> None:
    clients, told = carried(files, wanted)
    assert 1 <= clients <= wanted
    assert clients == 1 or 2 * clients + told + SPARE_FILES <= files


@given(st.integers(1, 100_000))
def test_what_is_needed_is_enough_and_not_more(wanted: int) -> None:
    assert carried(needed(wanted), wanted)[0] == wanted
    assert carried(None, wanted) == (wanted, MOST_TOLD)


def test_little_is_shared() -> None:
    assert carried(256, 10_000) == (72, 16)
