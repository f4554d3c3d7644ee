"""The echo engine's dials, as options of an entry."""

from __future__ import annotations

import pytest

from roost.domain.errors import LaunchRefused
from roost.engines.echo import EchoEngine
from roost.testing.builders import make_model


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slots", "9" * 5000),
        ("slots", "-1"),
        ("load_time", "1e300"),
        ("load_time", "nan"),
        ("load_time", "9" * 5000),
        ("tokens_per_second", "-1"),
        ("hang", "maybe"),
        ("fail_at_start", "a\0b"),
    ],
)
def test_values_that_it_does_not_take(name: str, value: str) -> None:
    with pytest.raises(LaunchRefused) as refused:
        EchoEngine().check_options(make_model(options={name: value}))
    assert refused.value.code == "unknown_option"
    assert name in refused.value.message
    assert len(refused.value.message) < 300
