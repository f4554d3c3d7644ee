"""One spelling for each route."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.api.paths import plain_path


@pytest.mark.parametrize(
    ("asked", "plain"),
    [
        ("/v1/endpoints", "/endpoints"),
        ("/endpoints", "/endpoints"),
        ("/v1/v1/endpoints/", "/endpoints"),
        ("//v1//endpoints", "/endpoints"),
        ("/v1/v3/whoami", "/v3/whoami"),
        ("/v3/whoami", "/v3/whoami"),
        ("/v1", "/"),
        ("/", "/"),
        ("", "/"),
        ("/v1/endpoints/roost/v1/model-0a", "/endpoints/roost/v1/model-0a"),
        ("/v1/v1/v1/endpoints", "/v1/endpoints"),
        ("/v10/endpoints", "/v10/endpoints"),
    ],
)
def test_spellings(asked: str, plain: str) -> None:
    assert plain_path(asked) == plain


@given(st.lists(st.sampled_from(["a", "v1", "v2", "", "b c"]), max_size=5))
def test_the_plain_path_begins_with_one_slash_and_ends_with_none(parts: list[str]) -> None:
    plain = plain_path("/" + "/".join(parts))

    assert plain.startswith("/")
    assert "//" not in plain
    assert plain == "/" or not plain.endswith("/")
