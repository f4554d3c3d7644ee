"""Weights from a Hugging Face hub, which is a server on the loopback here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.models.hub_server import Hub
from tests.unit.models.sample_files import gguf_bytes, noise, sha256
from tests.unit.models.weights_server import Document, WeightsServer, weights_server

from roost.domain.errors import BadRequest, ModelUnavailable
from roost.domain.model import Source
from roost.models.hub import HubFile
from roost.models.source_hf import HfSource, check_member, choose, repository
from roost.testing.source_contract import SourceCase, SourceContract

CONTENT = gguf_bytes(tensor=noise(200_000))
REPO = "acme/tiny-GGUF"
NAME = "tiny-Q4_K_M.gguf"
GOOD = Source("hf", REPO, NAME)
TOKEN = "hf_very-secret"


@pytest.fixture
def hub(server: WeightsServer) -> Hub:
    made = Hub(server)
    made.add(REPO, {NAME: CONTENT, "tiny-Q8_0.gguf": b"GGUF", "README.md": b"# tiny"})
    return made


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    folder = tmp_path / "partial"
    folder.mkdir()
    return folder


def source_at(hub: Hub, token: str | None = None, free: Callable[[Path], int] = lambda _: 1 << 40) -> HfSource:
    return HfSource(free, hub=lambda: (hub.endpoint, token))


def silent(done: int, total: int | None) -> None:
    """Nobody listens."""


async def refusal_of(hub: Hub, partial: Path, source: Source = GOOD, token: str | None = None) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        await source_at(hub, token).fetch(source, partial, silent)
    assert caught.value.message.endswith(".")
    assert TOKEN not in caught.value.message
    return caught.value


class TestHfSource(SourceContract):
    @pytest.fixture
    def case(self, hub: Hub) -> SourceCase:
        return SourceCase(
            source_at(hub),
            good=GOOD,
            content=CONTENT,
            missing=replace(GOOD, location="acme/none"),
            bad=(
                replace(GOOD, location=""),
                replace(GOOD, location="tiny"),
                replace(GOOD, location="a/b/c"),
                replace(GOOD, location="../etc"),
                replace(GOOD, location="a/.."),
                replace(GOOD, location="acme/tiny@"),
                replace(GOOD, location="acme/tiny@../main"),
                replace(GOOD, location="acme/tiny@a b"),
                replace(GOOD, location="acme/tiny?x=1"),
                replace(GOOD, location="https://hub/acme/tiny"),
                replace(GOOD, location="acme/tiny\n"),
                replace(GOOD, location="acme/t\0ny"),
                replace(GOOD, location="ácme/tiny"),
                replace(GOOD, member=""),
                replace(GOOD, member="../tiny.gguf"),
                replace(GOOD, member="/tiny.gguf"),
                replace(GOOD, member="a\\b.gguf"),
                replace(GOOD, member="a\0.gguf"),
                replace(GOOD, member="x" * 501),
            ),
        )


async def test_a_pattern_chooses_and_a_revision_counts(hub: Hub, partial: Path) -> None:
    hub.add(REPO, {NAME: b"GGUF another"}, revision="v1.0", commit="beef" * 10)
    source = source_at(hub)

    path = await source.fetch(replace(GOOD, member="*Q4_K_M*"), partial, silent)
    older = await source.fetch(replace(GOOD, location=f"{REPO}@v1.0", member=None), partial, silent)

    assert path.read_bytes() == CONTENT
    assert older.read_bytes() == b"GGUF another"
    assert path.suffix == ".gguf"


async def test_it_goes_on_where_it_was_cut_off(hub: Hub, partial: Path) -> None:
    hub.file(REPO, NAME).cuts = [70_000]
    assert (await refusal_of(hub, partial)).code == "source_unreachable"

    path = await source_at(hub).fetch(GOOD, partial, silent)

    assert path.read_bytes() == CONTENT
    assert hub.asked(REPO, NAME) == [None, "bytes=70000-"]


async def test_what_the_hub_vouches_for_is_verified(hub: Hub, partial: Path) -> None:
    hub.add(REPO, {NAME: CONTENT}, said={NAME: "ab" * 32})

    error = await refusal_of(hub, partial)

    assert error.code == "digest_mismatch"
    assert [path.name for path in partial.iterdir()] == []


async def test_another_digest_than_the_entrys_is_told_before_a_byte_is_fetched(hub: Hub, partial: Path) -> None:
    error = await refusal_of(hub, partial, replace(GOOD, sha256="cd" * 32))

    assert error.code == "digest_mismatch"
    assert hub.asked(REPO, NAME) == []
    assert (await source_at(hub).fetch(replace(GOOD, sha256=sha256(CONTENT).upper()), partial, silent)).exists()


async def test_a_full_disk_is_told_before_a_byte_is_fetched(hub: Hub, partial: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        await source_at(hub, free=lambda _: 1000).fetch(GOOD, partial, silent)
    assert caught.value.code == "disk_full"


async def test_the_token_goes_to_the_hub_and_not_to_where_it_redirects(hub: Hub, partial: Path) -> None:
    with weights_server() as store:
        store.documents["/blob"] = Document(CONTENT)
        moved = hub.file(REPO, NAME)
        moved.statuses, moved.extra_headers = [302], {"location": store.url("/blob")}

        path = await source_at(hub, TOKEN).fetch(GOOD, partial, silent)

        assert path.read_bytes() == CONTENT
        assert {seen.headers.get("authorization") for seen in hub.server.seen} == {f"Bearer {TOKEN}"}
        assert [seen.headers.get("authorization") for seen in store.seen] == [None]


async def test_without_a_token_none_is_sent(hub: Hub, partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    await source_at(hub).fetch(GOOD, partial, silent)
    assert not any("authorization" in seen.headers for seen in hub.server.seen)


async def test_a_gated_repository_names_its_terms_and_the_variable(hub: Hub, partial: Path) -> None:
    hub.add(REPO, {NAME: CONTENT}, gated="manual")
    for token in (None, TOKEN):
        hub.file(REPO, NAME).statuses = [403 if token else 401]
        error = await refusal_of(hub, partial, token=token)
        assert error.code == "permission"
        assert "accept its terms at " + hub.endpoint + "/" + REPO in error.message
        assert "HF_TOKEN" in error.message


@pytest.mark.parametrize(
    ("status", "header", "token", "code", "says"),
    [
        (403, "GatedRepo", None, "permission", "accept its terms"),
        (404, "RepoNotFound", None, "source_missing", "a private one needs HF_TOKEN"),
        (404, "RepoNotFound", TOKEN, "source_missing", "HF_TOKEN may read"),
        (401, "RepoNotFound", None, "source_missing", "There is no repository acme/tiny-GGUF"),
        (404, "RevisionNotFound", None, "source_missing", "no revision"),
        (401, "", TOKEN, "permission", "token in HF_TOKEN"),
        (403, "", TOKEN, "permission", "token in HF_TOKEN"),
        (403, "", None, "permission", "Set HF_TOKEN"),
        (429, "", None, "source_unreachable", "HTTP 429"),
        (503, "", None, "source_unreachable", "HTTP 503"),
        (400, "", None, "source_missing", "HTTP 400"),
    ],
)
async def test_refusals_of_the_hub_are_told(
    hub: Hub, partial: Path, status: int, header: str, token: str | None, code: str, says: str
) -> None:
    document = hub.info(REPO)
    document.statuses, document.extra_headers = [status], {"x-error-code": header} if header else {}

    error = await refusal_of(hub, partial, token=token)

    assert (error.code, says in error.message) == (code, True), error.message


async def test_a_token_that_the_hub_does_not_know_is_told(hub: Hub, partial: Path) -> None:
    document = hub.info(REPO)
    document.statuses = [401]
    document.extra_headers = {"x-error-message": "Invalid credentials in Authorization header"}
    error = await refusal_of(hub, partial, token=TOKEN)
    assert (error.code, "token in HF_TOKEN" in error.message) == ("permission", True)


async def test_a_damaged_token_is_not_repeated(hub: Hub, partial: Path) -> None:
    error = await refusal_of(hub, partial, token=f"{TOKEN}\n{TOKEN}")
    assert error.code == "permission"
    assert hub.server.seen == []


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"id": "acme/tiny"}', b'{"siblings": 7}'])
async def test_what_is_no_hub_is_told(hub: Hub, partial: Path, answer: bytes) -> None:
    hub.info(REPO).content = answer
    error = await refusal_of(hub, partial)
    assert (error.code, "HF_ENDPOINT" in error.message) == ("wrong_format", True)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "nonsense", "http://[::1", "ftp://hub", "http://"])
async def test_a_hub_that_is_out_of_reach_is_told(partial: Path, endpoint: str) -> None:
    with pytest.raises(ModelUnavailable, match="HF_ENDPOINT"):
        await HfSource(hub=lambda: (endpoint, TOKEN)).fetch(GOOD, partial, silent)


async def test_cancelling_ends_the_download(hub: Hub, partial: Path) -> None:
    document = hub.file(REPO, NAME)
    document.hold_at = 100_000
    task = asyncio.create_task(source_at(hub).fetch(GOOD, partial, silent))
    assert await asyncio.to_thread(document.held.wait, 20)

    task.cancel()
    document.release.set()
    await asyncio.wait([task], timeout=20)

    assert task.cancelled()


def files(*names: str) -> list[HubFile]:
    return [HubFile(name, name, 1_500_000) for name in names]


@pytest.mark.parametrize(
    ("names", "member", "chosen"),
    [
        (["a.gguf", "README.md"], None, "a.gguf"),
        (["a.gguf", "b.gguf"], "b.gguf", "b.gguf"),
        (["q/a.gguf", "b.gguf"], None, None),
        (["q/a-Q4.gguf", "b.gguf"], "*Q4*", "q/a-Q4.gguf"),
        (["a[1].gguf", "a1.gguf"], "a[1].gguf", "a[1].gguf"),
        (["a.gguf", "big-00001-of-00002.gguf", "big-00002-of-00002.gguf"], None, "a.gguf"),
        (["model.bin"], "model.bin", "model.bin"),
    ],
)
def test_the_file_is_chosen(names: list[str], member: str | None, chosen: str | None) -> None:
    if chosen is not None:
        assert choose(files(*names), member, "acme/tiny").name == chosen
        return
    with pytest.raises(ModelUnavailable, match=r"2 files .*b\.gguf \(1\.5 MB\), q/a\.gguf") as caught:
        choose(files(*names), member, "acme/tiny")
    assert caught.value.code == "source_ambiguous"


def test_weights_in_parts_are_refused_with_what_to_do() -> None:
    parts = files("big-00001-of-00002.gguf", "big-00002-of-00002.gguf", "small.gguf")
    for member in ("big*", "big-00001-of-00002.gguf"):
        with pytest.raises(ModelUnavailable, match=r"one part of several.* small\.gguf .*llama-gguf-split") as caught:
            choose(parts, member, "acme/big")
        assert caught.value.code == "wrong_format"


def test_a_repository_without_weights_says_so() -> None:
    with pytest.raises(ModelUnavailable, match="no GGUF file") as caught:
        choose(files("model.safetensors"), None, "acme/tiny")
    assert caught.value.code == "source_missing"


def test_long_lists_are_cut() -> None:
    with pytest.raises(ModelUnavailable, match="and 88 more"):
        choose(files(*(f"m{number:03}.gguf" for number in range(100))), None, "acme/tiny")


@given(st.text(max_size=40))
def test_what_passes_as_a_location_is_harmless_in_a_url(text: str) -> None:
    try:
        name, revision = repository(Source("hf", text))
    except BadRequest:
        return
    assert name.count("/") == 1
    assert not set(name + (revision or "")) & set(" ?#%\\\0@\n")
    assert ".." not in text


@given(st.text(max_size=40))
def test_what_passes_as_a_member_does_not_climb(text: str) -> None:
    try:
        check_member(text)
    except BadRequest:
        return
    assert ".." not in text.split("/")
    assert not text.startswith("/")
