"""From the header to the key."""

from __future__ import annotations

import pytest
from tests.unit.services.office import MEMBER, Office

from roost.domain.errors import AuthenticationFailed
from roost.testing.builders import secret_of
from roost.web.auth import bearer_of, principal_of


@pytest.mark.parametrize("header", ["Bearer k-1", "bearer k-1", "  BEARER   k-1  "])
def test_bearer_keys(header: str) -> None:
    assert bearer_of(header) == "k-1"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer  ", "Basic azox", "k-1"])
def test_anything_else_fails_and_says_what_to_send(header: str | None) -> None:
    with pytest.raises(AuthenticationFailed, match=r"authentication.*Authorization: Bearer") as caught:
        bearer_of(header)
    assert "azox" not in caught.value.message


async def test_the_key_s_holder() -> None:
    office = await Office().open()

    assert await principal_of(f"Bearer {secret_of(2)}", office.services.keys) == MEMBER
