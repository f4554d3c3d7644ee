"""A source of weights that holds them in memory, for tests: it can be slow, fail, or find the disk full.

It passes ``roost.testing.source_contract`` like any real source.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from roost.domain.errors import BadRequest, ModelUnavailable
from roost.domain.model import Source
from roost.models.base import Report


class MemorySource:
    """Source kind ``memory``: ``location`` is a name in ``files``.

    It brings ``step`` bytes at a time and resumes what is in the folder. Before each step ``gate`` must be set (it is,
    at first), and ``before`` is called with the bytes there already: an exception it raises is the fetch's.
    ``fetches`` counts the attempts, ``started`` is set by the first, ``starts`` are the bytes each found there.
    """

    kind = "memory"

    def __init__(self, files: Mapping[str, bytes], step: int = 1024) -> None:
        self.files = dict(files)
        self.step = step
        self.gate = asyncio.Event()
        self.gate.set()
        self.before: Callable[[int], None] = lambda _: None
        self.fetches = 0
        self.started = asyncio.Event()
        self.starts: list[int] = []

    def check(self, source: Source) -> None:
        """Raise ``BadRequest`` for an empty location."""
        if not source.location:
            raise BadRequest("source.location must be a name.", param="source.location")

    async def fetch(self, source: Source, partial: Path, report: Report) -> Path:
        """Write the file into ``partial``, step by step. Raises ``ModelUnavailable``."""
        self.fetches += 1
        self.started.set()
        content = self.files.get(source.location)
        if content is None:
            raise ModelUnavailable(f"There is nothing called {source.location}. Check the name.", code="source_missing")
        path = partial / source.location
        done = path.stat().st_size if path.exists() else 0
        self.starts.append(done)
        report(done, len(content))
        while done < len(content):
            await self.gate.wait()
            self.before(done)
            with path.open("ab") as file:
                file.write(content[done : done + self.step])
            done = path.stat().st_size
            report(done, len(content))
            await asyncio.sleep(0)
        return path
