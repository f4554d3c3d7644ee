"""Who is told from whom by the User-Agent."""

from __future__ import annotations

import pytest

from roost.web.clients import is_classic


@pytest.mark.parametrize(
    ("agent", "classic"),
    [
        (b"Together/Python 2.42.0", True),
        (b"AsyncTogether/Python 2.42.0", True),
        (b"Together/JS 0.20.0", True),
        (b"Together/v1 PythonBindings/1.5.35", True),
        (b"together-cli/1.0", True),
        (b"OpenAI/Python 1.60.0", False),
        (b"curl/8 Together", False),
        (b"", False),
    ],
)
def test_classic_clients_are_told_by_how_their_agent_begins(agent: bytes, classic: bool) -> None:
    assert is_classic(agent) is classic
