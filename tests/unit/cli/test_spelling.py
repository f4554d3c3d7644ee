"""Other spellings of the endpoint commands."""

from __future__ import annotations

import pytest

from roost.cli.spelling import as_argument


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--endpoint-id e-1 --wait", "e-1 --wait"),
        ("--wait --endpoint-id e-1", "--wait e-1"),
        ("--endpoint-id=e-1", "e-1"),
        ("e-1 --wait", "e-1 --wait"),
        ("--endpoint-id", "--endpoint-id"),
        ("-- --endpoint-id e-1", "-- --endpoint-id e-1"),
        ("--endpoint-id -- e-1", "--endpoint-id -- e-1"),
        ("", ""),
    ],
)
def test_an_option_becomes_an_argument(given: str, expected: str) -> None:
    assert as_argument(given.split(), "--endpoint-id") == expected.split()
