"""The interfaces of sources (an extension point) and of the cache that control and services use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from roost.domain.errors import ModelUnavailable
from roost.domain.model import Fetch, Model, Source

Report = Callable[[int, int | None], None]
"""Called with (bytes that have arrived, bytes in all or None), the first time as early as the total is known.

It may raise an error of the tree, which a source lets pass, leaving what has arrived: the fetch is taken up again, or
given up."""


class TooSlow(ModelUnavailable):
    """A server sends next to nothing. Its code is ``source_unreachable``; what little came is no progress."""


class ModelSource(Protocol):
    """A kind of place that weights come from. Constructed without arguments by ``models.sources``."""

    kind: str

    def check(self, source: Source) -> None:
        """Raise ``BadRequest`` (naming the field) when ``location`` is not one this kind accepts."""
        ...

    async def fetch(self, source: Source, partial: Path, report: Report) -> Path:
        """Bring the weights file into the folder ``partial`` and return its path.

        ``partial`` belongs to this model alone and survives interruptions: what an earlier attempt left there is
        resumed. Raises ``ModelUnavailable`` with a code and what to do; one of ``source_unreachable`` is tried again
        for as long as attempts bring something, ``TooSlow`` a few times.
        """
        ...


class Cache(Protocol):
    """The weights of models on this machine, content-addressed by SHA-256."""

    async def start(self) -> None:
        """Create the folders and read what is there. Raises ``InvalidSettings`` when they cannot be used."""
        ...

    async def close(self) -> None:
        """Cancel downloads; what has arrived is kept for resuming."""
        ...

    def status(self, model: Model) -> Fetch:
        """How far the model's weights are, from memory: never blocks. Models without a source are READY, path None."""
        ...

    def request(self, model: Model) -> None:
        """Begin fetching in the background unless READY or under way: one download for many waiters. A FAILED model
        is tried again. The download goes on when nobody needs it any more (having the weights early does no harm);
        ``remove`` ends it."""
        ...

    async def wait(self, model: Model) -> Fetch:
        """Request, then wait until READY or FAILED."""
        ...

    async def used(self, model: Model) -> None:
        """Note that the model's weights are of use now, as when a replica is launched from them: weights used longest
        ago make way first, where the disk space for weights is limited."""
        ...

    async def remove(self, model: Model) -> int:
        """Forget a model that left the catalog, and return the bytes freed: its download ends, what has arrived and
        the weights go, except weights that another model shares and files of the user's own.

        Raises ``ModelUnavailable`` when the file system refuses."""
        ...

    async def changed(self) -> str:
        """Wait for the next change of any model's status (progress at most a few times a second) and return the
        model's id. Hints may be merged or repeated."""
        ...
