"""Services over the store in memory, with everything around them in the test's hands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from roost.config import Settings
from roost.domain.event import Event
from roost.domain.hardware import Node, Resources
from roost.domain.key import Role
from roost.domain.model import Model
from roost.engines.base import Capabilities
from roost.models.catalog import Catalog
from roost.services import build_services
from roost.services.access import Principal
from roost.store.memory import MemoryStore
from roost.testing.builders import make_key, make_model, uuid_of
from roost.testing.cache import MemoryCache
from roost.testing.clock import FakeClock, SeededUuids

GIB = 1024**3
ADMIN = Principal("key-00000001", "roost", Role.ADMIN)
MEMBER = Principal("key-00000002", "ada", Role.MEMBER)
INFERENCE = Principal("key-00000003", "roost", Role.INFERENCE)
EXTERNAL = make_model(2, id="far/away", engine="external", source=None, url="http://127.0.0.1:9/v1", alias="far")


def make_node(
    name: str = "local",
    zone: str = "local",
    threads: int = 4,
    *,
    accelerator: str = "cpu",
    total: Resources | None = None,
    free: Resources | None = None,
) -> Node:
    """A machine; by default 4 GiB per CPU thread, and nothing of it in use."""
    total = total or Resources(threads, threads * 4 * GIB)
    return Node(name, zone, accelerator, total, total if free is None else free)


def capabilities(model: Model) -> Capabilities:
    """As the engines declare it, without their packages."""
    return Capabilities(managed=model.engine != "external")


def tokens() -> Iterator[str]:
    """Random parts of keys that are not random: 43 characters each."""
    number = 0
    while True:
        number += 1
        yield uuid_of(number).hex + "-_abcdefghi"


class Office:
    """``services`` and what they work with: ``wakes`` and ``route_wakes`` record the calls."""

    def __init__(self, settings: Settings | None = None, models: Sequence[Model] = (), *, cache_bytes: int = 1000):
        self.store = MemoryStore()
        self.clock = FakeClock()
        self.uuids = SeededUuids()
        self.nodes = [make_node()]
        self.wakes: list[str] = []
        self.route_wakes = 0
        self.settings = settings or Settings(home=Path("/nowhere"))
        self.cache = MemoryCache(cache_bytes)
        secrets = tokens()
        self.catalog = Catalog(
            self.store,
            built_in=(make_model(alias="tiny"), EXTERNAL, *models),
            now=self.clock.now,
            uuids=SeededUuids(9),
        )
        self.services = build_services(
            store=self.store,
            catalog=self.catalog,
            cache=self.cache,
            capacity=self.capacity,
            settings=self.settings,
            now=self.clock.now,
            uuids=self.uuids,
            wake=self.wakes.append,
            wake_routes=self._wake_routes,
            token=lambda: next(secrets),
            capabilities=capabilities,
        )

    async def open(self) -> Office:
        """Open the store and issue the keys of the three principals (``secret_of(1)`` to ``secret_of(3)``)."""
        await self.store.open()
        for number, who in enumerate((ADMIN, MEMBER, INFERENCE), start=1):
            await self.store.insert_key(make_key(number, owner=who.owner, role=who.role), [])
        return self

    async def capacity(self) -> Sequence[Node]:
        """The nodes of this test."""
        return self.nodes

    async def events(self) -> list[Event]:
        """All events, in order."""
        return list(await self.store.events())

    def _wake_routes(self) -> None:
        self.route_wakes += 1
