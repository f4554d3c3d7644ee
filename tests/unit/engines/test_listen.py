"""Addresses that engine processes are told to listen on."""

from __future__ import annotations

import pytest

from roost.engines.listen import Listen, parse_listen


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("unix:/run/e.sock", Listen(path="/run/e.sock")),
        ("unix:e:1", Listen(path="e:1")),
        ("127.0.0.1:80", Listen(host="127.0.0.1", port=80)),
        ("[::1]:8080", Listen(host="::1", port=8080)),
        ("localhost:0", Listen(host="localhost", port=0)),
    ],
)
def test_both_kinds_of_address(text: str, listen: Listen) -> None:
    assert parse_listen(text) == listen


@pytest.mark.parametrize(
    "text", ["", "unix:", "localhost", ":80", "localhost:", "localhost:x", "localhost:65536", "a:-1"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_listen(text)
