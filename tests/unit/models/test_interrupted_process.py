"""A process that fetches weights and is killed midway: what it left is taken up by the next one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.unit.models.sample_files import gguf_bytes, model_of, noise, sha256
from tests.unit.models.weights_server import Document, WeightsServer

from roost.domain.model import FetchState, Source
from roost.models.cache import ModelCache

CONTENT = gguf_bytes(tensor=noise(4_000_000))
PATH = "/m/tiny.gguf"

CHILD = """
import asyncio, sys
from pathlib import Path
from roost.domain.model import Model, Source
from roost.models.cache import ModelCache

async def main(root, url, digest):
    cache = ModelCache(Path(root))
    await cache.start()
    model = Model("acme/tiny", "llama_cpp", Source("http", url, sha256=digest))
    waiter = asyncio.create_task(cache.wait(model))
    while not cache.status(model).done_bytes:
        await cache.changed()
    print(cache.status(model).done_bytes, flush=True)
    print((await waiter).state, flush=True)
    await cache.close()

asyncio.run(main(*sys.argv[1:]))
"""


def child(root: Path, url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD, str(root), url, sha256(CONTENT)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


async def test_a_killed_download_is_resumed_by_the_next_process(server: WeightsServer, tmp_path: Path) -> None:
    document = server.documents[PATH] = Document(CONTENT, hold_at=3_000_000)
    killed = child(tmp_path, server.url(PATH))
    assert killed.stdout is not None
    left = int(await asyncio.wait_for(asyncio.to_thread(killed.stdout.readline), 20))
    assert 0 < left <= 3_000_000
    killed.kill()
    killed.communicate(timeout=20)
    document.release.set()
    cache = ModelCache(tmp_path)
    await cache.start()
    fetch = await asyncio.wait_for(cache.wait(model_of(Source("http", server.url(PATH), sha256=sha256(CONTENT)))), 20)
    await cache.close()
    assert fetch.state is FetchState.READY
    assert Path(fetch.path or "").read_bytes() == CONTENT
    first, second = server.ranges_of(PATH)
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=").removesuffix("-")) >= left


async def test_two_processes_on_one_folder_download_once(server: WeightsServer, tmp_path: Path) -> None:
    document = server.documents[PATH] = Document(CONTENT, hold_at=3_000_000)
    children = [child(tmp_path, server.url(PATH)) for _ in range(2)]
    assert await asyncio.to_thread(document.held.wait, 20)
    document.release.set()
    outputs = [await asyncio.to_thread(each.communicate, timeout=20) for each in children]
    assert [output.split()[-1] for output, _ in outputs] == [b"ready", b"ready"]
    assert server.ranges_of(PATH) == [None]
