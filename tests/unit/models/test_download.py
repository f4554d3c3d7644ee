from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.models.sample_files import noise
from tests.unit.models.weights_server import Document, WeightsServer, weights_server

from roost.domain.errors import ModelUnavailable
from roost.models.base import TooSlow
from roost.models.download import Download, client, download, public, without_login

CONTENT = noise(3_000_000)
PATH = "/weights.bin"


def wanted(server: WeightsServer, folder: Path, **values: object) -> Download:
    return Download(server.url(PATH), folder / "weights.bin", lambda done, total: None, **values)  # type: ignore[arg-type]


async def get(what: Download) -> bytes:
    async with client(ssl.create_default_context()) as http:
        await asyncio.wait_for(download(http, what), 20)
    return what.target.read_bytes()


async def code_of(what: Download) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        await get(what)
    return caught.value.code


async def test_a_document_arrives_with_its_progress(server: WeightsServer, tmp_path: Path) -> None:
    server.documents[PATH] = Document(CONTENT)
    reports: list[tuple[int, int | None]] = []
    what = Download(server.url(PATH), tmp_path / "w", lambda done, total: reports.append((done, total)))
    assert await get(what) == CONTENT
    assert reports == sorted(reports)
    assert reports[0] == (0, len(CONTENT))
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w"]


async def test_a_body_that_ends_early_is_kept_and_resumed_under_its_etag(server: WeightsServer, tmp_path: Path) -> None:
    server.documents[PATH] = Document(CONTENT, cuts=[1_500_000])
    what = wanted(server, tmp_path)
    assert await code_of(what) == "source_unreachable"
    assert what.part.read_bytes() == CONTENT[:1_500_000]
    assert await get(what) == CONTENT
    assert server.seen[-1].headers["range"] == "bytes=1500000-"
    assert server.seen[-1].headers["if-range"] == '"v1"'


async def test_a_server_that_ignores_ranges_starts_it_over(server: WeightsServer, tmp_path: Path) -> None:
    server.documents[PATH] = Document(CONTENT, cuts=[1_500_000], ranges=False)
    what = wanted(server, tmp_path)
    assert await code_of(what) == "source_unreachable"
    assert await get(what) == CONTENT
    assert server.ranges_of(PATH) == [None, "bytes=1500000-"]


async def test_another_version_is_never_mixed_with_the_old_one(server: WeightsServer, tmp_path: Path) -> None:
    document = server.documents[PATH] = Document(CONTENT, cuts=[1_500_000])
    what = wanted(server, tmp_path)
    assert await code_of(what) == "source_unreachable"
    document.content, document.etag = noise(3_000_000, seed=2), '"v2"'
    assert await get(what) == document.content


@pytest.mark.parametrize(
    "change",
    [
        {"extra_headers": {"etag": '"v2"'}, "etag": None, "last_modified": '"v1"'},
        {"content": noise(2_900_000, seed=3)},
        {"range_shift": 7},
    ],
    ids=["another etag in a partial response", "another length", "another offset"],
)
async def test_a_partial_response_of_something_else_begins_anew(
    server: WeightsServer, tmp_path: Path, change: dict[str, object]
) -> None:
    document = server.documents[PATH] = Document(CONTENT, cuts=[1_500_000])
    what = wanted(server, tmp_path)
    assert await code_of(what) == "source_unreachable"
    for name, value in change.items():
        setattr(document, name, value)
    assert await code_of(what) == "source_unreachable"
    assert not what.part.exists()
    assert await get(what) == document.content


async def test_a_document_that_became_shorter_begins_anew(server: WeightsServer, tmp_path: Path) -> None:
    document = server.documents[PATH] = Document(CONTENT, cuts=[1_500_000])
    what = wanted(server, tmp_path)
    assert await code_of(what) == "source_unreachable"
    document.content = b"short"
    assert await code_of(what) == "source_unreachable"
    assert await get(what) == b"short"


async def test_without_a_validator_only_what_a_digest_checks_is_resumed(server: WeightsServer, tmp_path: Path) -> None:
    server.documents[PATH] = Document(CONTENT, cuts=[1_500_000, 1_600_000], etag='W/"weak"')
    assert await code_of(wanted(server, tmp_path)) == "source_unreachable"
    assert await code_of(wanted(server, tmp_path)) == "source_unreachable"
    assert await get(wanted(server, tmp_path, verified=True)) == CONTENT
    assert server.ranges_of(PATH) == [None, None, "bytes=1600000-"]


async def test_a_modification_date_is_a_validator_too(server: WeightsServer, tmp_path: Path) -> None:
    date = "Tue, 24 Nov 2026 10:00:00 GMT"
    server.documents[PATH] = Document(CONTENT, cuts=[1_500_000], etag=None, last_modified=date)
    what = wanted(server, tmp_path)
    assert await code_of(what) == "source_unreachable"
    assert await get(what) == CONTENT
    assert server.seen[-1].headers["if-range"] == date


async def test_a_document_of_unknown_length_arrives(server: WeightsServer, tmp_path: Path) -> None:
    server.documents[PATH] = Document(CONTENT, lengthless=True)
    assert await get(wanted(server, tmp_path)) == CONTENT


async def test_left_overs_of_another_url_are_not_resumed(server: WeightsServer, tmp_path: Path) -> None:
    server.documents[PATH] = Document(CONTENT, cuts=[1_500_000])
    server.documents["/other"] = Document(noise(2_000_000, seed=5))
    assert await code_of(wanted(server, tmp_path)) == "source_unreachable"
    other = Download(server.url("/other"), tmp_path / "weights.bin", lambda done, total: None)
    assert await get(other) == server.documents["/other"].content


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "source_missing"),
        (410, "source_missing"),
        (401, "permission"),
        (403, "permission"),
        (429, "source_unreachable"),
        (500, "source_unreachable"),
        (503, "source_unreachable"),
    ],
)
async def test_statuses_become_codes(server: WeightsServer, tmp_path: Path, status: int, code: str) -> None:
    server.documents[PATH] = Document(CONTENT, statuses=[status])
    assert await code_of(wanted(server, tmp_path)) == code


async def test_a_port_where_nobody_listens_is_unreachable(tmp_path: Path) -> None:
    with weights_server() as gone:
        what = wanted(gone, tmp_path)
    assert await code_of(what) == "source_unreachable"


async def test_compressed_bodies_are_refused(server: WeightsServer, tmp_path: Path) -> None:
    server.documents[PATH] = Document(CONTENT, extra_headers={"content-encoding": "gzip"})
    assert await code_of(wanted(server, tmp_path)) == "source_unreachable"
    assert server.seen[0].headers["accept-encoding"] == "identity"


async def test_a_server_that_only_trickles_is_given_up(server: WeightsServer, tmp_path: Path) -> None:
    server.documents[PATH] = Document(CONTENT[:50_000])
    what = wanted(server, tmp_path, clock=itertools.count(step=61).__next__)
    with pytest.raises(TooSlow, match=r"sent only .* in 61 seconds\.") as caught:
        await get(what)
    assert caught.value.code == "source_unreachable"
    assert 0 < what.part.stat().st_size <= 50_000
    assert await get(replace(what, clock=time.monotonic)) == CONTENT[:50_000]


async def test_a_steady_server_may_take_its_time(server: WeightsServer, tmp_path: Path) -> None:
    server.documents[PATH] = Document(CONTENT)
    # A second passes with each piece, of which some come to far more than 60 kB.
    assert await get(wanted(server, tmp_path, clock=itertools.count().__next__)) == CONTENT


async def test_a_disk_without_room_is_noticed_before_the_first_byte(server: WeightsServer, tmp_path: Path) -> None:
    server.documents[PATH] = Document(CONTENT)
    what = wanted(server, tmp_path, extra_space=500_000, free=lambda _: 3_100_000)
    with pytest.raises(ModelUnavailable) as caught:
        await get(what)
    assert caught.value.code == "disk_full"
    assert "3.5 MB more are needed and 3.1 MB are free" in caught.value.message
    assert not what.part.exists()


async def test_a_disk_that_fills_up_says_what_is_still_needed(server: WeightsServer, tmp_path: Path) -> None:
    server.documents[PATH] = Document(CONTENT, cuts=[1_000_000])
    what = wanted(server, tmp_path)
    assert await code_of(what) == "source_unreachable"
    what.part.rename(what.part.with_suffix(".kept"))
    what.part.symlink_to("/dev/full")  # every write to it fails as on a full disk
    with pytest.raises(ModelUnavailable) as caught:
        await get(what)
    assert caught.value.code == "disk_full"
    assert "3.0 MB more are needed" in caught.value.message


async def test_a_login_in_the_url_is_used_and_never_shown(server: WeightsServer, tmp_path: Path) -> None:
    url, auth = without_login("http://me:s%40crt@host:81/a?token=1")
    assert url == "http://host:81/a?token=1"
    assert public("http://me:s%40crt@host:81/a?token=1") == "http://host:81/a"
    server.documents[PATH] = Document(CONTENT)
    await get(wanted(server, tmp_path, auth=auth))
    assert server.seen[0].headers["authorization"] == httpx.BasicAuth("me", "s@crt")._auth_header


async def test_a_cancelled_download_keeps_what_arrived(server: WeightsServer, tmp_path: Path) -> None:
    document = server.documents[PATH] = Document(CONTENT, hold_at=2_500_000)
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()
    what = Download(server.url(PATH), tmp_path / "w", lambda done, _: arrived.set() if done >= 2_000_000 else None)
    task = asyncio.create_task(get(what))
    await asyncio.wait_for(arrived.wait(), 20)
    assert await loop.run_in_executor(None, document.held.wait, 20)
    task.cancel()
    await asyncio.wait([task], timeout=20)
    assert task.cancelled()
    document.release.set()
    have = what.part.stat().st_size
    assert have >= 2_000_000
    assert await get(what) == CONTENT
    assert server.ranges_of(PATH) == [None, f"bytes={have}-"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=st.lists(st.integers(0, 40_000), max_size=4), ranges=st.booleans(), etag=st.sampled_from(['"a"', None]))
def test_wherever_it_breaks_the_document_is_whole_in_the_end(cuts: list[int], ranges: bool, etag: str | None) -> None:
    content = noise(30_000, seed=4)

    async def attempt(what: Download) -> bytes | None:
        try:
            return await get(what)
        except ModelUnavailable:
            return None

    with weights_server() as server, TemporaryDirectory() as folder:
        server.documents[PATH] = Document(content, cuts=list(cuts), ranges=ranges, etag=etag)
        what = wanted(server, Path(folder), verified=True)
        for _ in range(len(cuts) + 1):
            if (got := asyncio.run(attempt(what))) is not None:
                break
        assert got == content
