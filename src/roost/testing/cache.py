"""A weights cache that tests hold in their hands: downloads end when they are told to. It keeps the promises of
``models.base.Cache`` and touches no disk and no network."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from roost.domain.model import Fetch, FetchState, Model


class MemoryCache:
    """Fetches by hand: ``request`` begins one, ``finish`` and ``fail`` end it, ``advance`` shows progress."""

    def __init__(self, total_bytes: int = 1000) -> None:
        self._total = total_bytes
        self._fetches: dict[str, Fetch] = {}
        self._news: asyncio.Queue[str | Exception] = asyncio.Queue()
        self._broken: set[str] = set()
        self.requests = 0
        """Downloads begun."""
        self.uses: list[str] = []
        """The models that were of use, in order."""

    async def start(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to end."""

    def status(self, model: Model) -> Fetch:
        """The model's fetch as told; READY without a path for models without a source."""
        if model.id in self._broken:
            raise RuntimeError(f"the cache cannot tell about {model.id}")
        if model.source is None:
            return Fetch(model.id, FetchState.READY)
        return self._fetches.get(model.id, Fetch(model.id, FetchState.ABSENT))

    def request(self, model: Model) -> None:
        """Begin a download unless READY or under way."""
        if self.status(model).state in (FetchState.ABSENT, FetchState.FAILED):
            self.requests += 1
            self._tell(Fetch(model.id, FetchState.FETCHING, 0, self._total))

    async def used(self, model: Model) -> None:
        """Note it in ``uses``."""
        self.uses.append(model.id)

    async def wait(self, model: Model) -> Fetch:
        """Request, then wait for ``finish`` or ``fail``."""
        self.request(model)
        while self.status(model).state is FetchState.FETCHING:
            await self.changed()
        return self.status(model)

    async def remove(self, model: Model) -> int:
        """Forget the model; the bytes that had arrived."""
        fetch = self._fetches.pop(model.id, None)
        if fetch is None:
            return 0
        self._news.put_nowait(model.id)
        return fetch.done_bytes

    async def changed(self) -> str:
        """The model whose fetch changed next; raises what ``break_changed`` was given."""
        news = await self._news.get()
        if isinstance(news, Exception):
            raise news
        return news

    def break_status(self, model_id: str) -> None:
        """Let ``status`` of one model raise, as a broken cache would."""
        self._broken.add(model_id)

    def break_changed(self, error: Exception) -> None:
        """Let ``changed`` raise, as a broken cache would."""
        self._news.put_nowait(error)

    def fetching(self) -> list[str]:
        """The models under way, in the order of their requests."""
        return [name for name, fetch in self._fetches.items() if fetch.state is FetchState.FETCHING]

    def advance(self, model_id: str, done_bytes: int) -> None:
        """Show progress of a download that is under way."""
        self._tell(replace(self._fetches[model_id], done_bytes=done_bytes))

    def finish(self, model_id: str) -> None:
        """The weights have arrived."""
        self._tell(Fetch(model_id, FetchState.READY, self._total, self._total, path=f"/weights/{model_id}"))

    def fail(self, model_id: str, code: str = "source_unreachable", *, retryable: bool = True) -> None:
        """The download failed."""
        self._tell(
            Fetch(model_id, FetchState.FAILED, error_code=code, error=f"It failed: {code}.", retryable=retryable)
        )

    def _tell(self, fetch: Fetch) -> None:
        self._fetches[fetch.model_id] = fetch
        self._news.put_nowait(fetch.model_id)
