"""``--expires``: durations and times."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.cli.expiry import expiry
from roost.cli.failure import CommandFailed, ExitCode

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30d", NOW + timedelta(days=30)),
        ("12h", NOW + timedelta(hours=12)),
        ("90M", NOW + timedelta(minutes=90)),
        (" 2w ", NOW + timedelta(weeks=2)),
        ("1s", NOW + timedelta(seconds=1)),
        ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00:00+02:00", datetime(2027, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_a_duration_or_a_time(text: str, moment: datetime) -> None:
    assert expiry(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "0d", "d", "1y", "-1d", "soon", "2027-01-31", "2027-01-31T12:00:00", "999999w"])
def test_anything_else_is_a_mistake_of_usage(text: str) -> None:
    with pytest.raises(CommandFailed, match="--expires") as raised:
        expiry(text, NOW)
    assert raised.value.code is ExitCode.USAGE


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    with suppress(CommandFailed):
        assert expiry(text, NOW) > NOW
