from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.models.location import MAX_SHOWN, without_secrets


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://host/m.gguf", "https://host/m.gguf"),
        ("https://me:secret@host:8443/@scope/m.gguf?token=secret#secret", "https://host:8443/@scope/m.gguf"),
        ("http://[::1/x?secret", "http://[::1/x"),
        ("http://me:secret@[::1/x", "…@[::1/x"),
        ("me:secret@host/m.gguf", "…@host/m.gguf"),
        ("acme/tiny@v1.0", "acme/tiny@v1.0"),
        ("name==1.0", "name==1.0"),
        ("/srv/weights@2/m.gguf", "/srv/weights@2/m.gguf"),
        ("", ""),
    ],
)
def test_secrets_are_left_out(location: str, shown: str) -> None:
    assert without_secrets(location) == shown
    assert "secret" not in without_secrets(location)


LETTERS = st.text(string.ascii_letters + string.digits + "._-~%!$&'()*+,;=", min_size=1, max_size=20)


@given(LETTERS, LETTERS)
def test_a_password_is_never_shown(user: str, password: str) -> None:
    secret = f"<{password}>"
    for location in (f"https://{user}:{secret}@host/m.gguf", f"{user}:{secret}@host/m", f"https://host/m?{secret}"):
        assert secret not in without_secrets(location)


@given(st.text(":/@? 12[", max_size=14).filter(lambda text: not text.lstrip().startswith("//")))
def test_what_is_no_url_loses_what_a_pattern_finds(text: str) -> None:
    # Nothing in the alphabet is a scheme and a host, so only a broken bracket leads to the cut at the question mark.
    whole = re.sub(r"[^/@\s]*:[^@]*@", "…@", text)
    cut = re.sub(r"[^/@\s]*:[^@]*@", "…@", text.partition("?")[0])
    assert without_secrets(text) in {whole, cut}


def test_a_password_is_left_out_however_long_it_is() -> None:
    assert without_secrets("me:" + "secret" * 100 + "@host/m.gguf") == "…@host/m.gguf"
    assert without_secrets("https://me:" + "secret" * 100 + "@host/m.gguf") == "https://host/m.gguf"


def test_a_long_row_of_colons_is_cut() -> None:
    # Tried at each position, a pattern would need years for it.
    assert without_secrets(":" * 200_000) == ":" * MAX_SHOWN


@given(st.text(max_size=400))
def test_anything_can_be_shown(text: str) -> None:
    assert len(without_secrets(text)) <= MAX_SHOWN
