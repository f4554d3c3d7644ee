"""The control-plane process: ``python -m roost.wiring.control <run/settings.json>``.

The composition root: settings become a store, a catalog, a cache, a runtime, the control plane, the services and the
two HTTP apps on their unix sockets. Started by ``wiring.parent`` (or alone). Signals: TERM drains and stops all
replicas, then ends; QUIT does so at once; USR1 ends and leaves the replicas running. It decides nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import secrets
import signal
import socket
import sys
from collections.abc import Sequence, Set
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from roost.config import Settings
from roost.domain.errors import RoostError
from roost.wiring import lifeline, sandbox
from roost.wiring.listen import bind_unix
from roost.wiring.pauses import Pauses
from roost.wiring.pids import command_line, read_pid

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from roost.control.plane import ControlPlane
    from roost.models.base import Cache
    from roost.models.catalog import Catalog
    from roost.runtimes.base import RuntimeSettings
    from roost.store.base import Store
    from roost.wiring.bootstrap import Access
    from roost.wiring.gauges import Gauges

REFUSED = 78
"""Exit code when the settings do not work (EX_CONFIG): the parent got the sentence through the ready pipe."""

HURRY_S = 10.0
"""How long the end of the replicas may take in a stop at once."""


@dataclass(slots=True)
class Ending:
    """How the process was asked to end."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    keep_replicas: bool = False

    def listen(self) -> None:
        """Take the signals."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask)
        loop.add_signal_handler(signal.SIGQUIT, self._hurry)
        loop.add_signal_handler(signal.SIGUSR1, self._leave)

    def _ask(self) -> None:
        self.asked.set()

    def _hurry(self) -> None:
        self.asked.set()
        self.at_once.set()

    def _leave(self) -> None:
        # A wish to keep the replicas that comes first decides; one that comes during a drain (the parent died) ends it.
        self.keep_replicas = self.keep_replicas or not self.asked.is_set()
        self.left.set()
        self.asked.set()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the process; its exit code."""
    arguments = _parse(argv)
    settings = sandbox.settings_of(Settings.parse(arguments.settings.read_text()))
    parent = lifeline.ReadyPipe(arguments.ready)
    lifeline.watch(arguments.lifeline, lifeline.PARENT_GONE_CONTROL)
    try:
        # Before the slow imports: gateways that start at the same time connect and queue instead of failing.
        sockets = (bind_unix(settings.control_socket), bind_unix(settings.internal_socket))
        # Imported here for the same reason.
        from roost.telemetry import logging

        logging.configure(settings.log_level, process="control")
        return asyncio.run(_run(settings, sockets, parent, new_key=arguments.new_key))
    except RoostError as error:
        parent.tell(error=error.message)
        sys.stderr.write(f"{error.message}\n")
        return REFUSED


async def _run(
    settings: Settings, sockets: tuple[socket.socket, socket.socket], parent: lifeline.ReadyPipe, *, new_key: bool
) -> int:
    from roost.telemetry.loop_faults import LoopFaults
    from roost.wiring.http import Site, serving

    asyncio.get_running_loop().set_exception_handler(LoopFaults())
    ending = Ending()
    ending.listen()
    async with AsyncExitStack() as stack:
        parts = await _build(settings, stack, new_key=new_key)
        public, internal = parts.apps
        sites = (Site(public, sockets[0]), Site(internal, sockets[1], endless=True))
        failed = await stack.enter_async_context(serving(sites))
        stack.callback(parts.pauses.end)
        counting = asyncio.create_task(parts.gauges.run())
        parent.tell(
            ready=True,
            api_key=parts.access.api_key,
            note=parts.access.note,
            hardware=await _smallest_cpu(parts.plane, settings),
        )
        faults: set[asyncio.Future[Any]] = {failed, parts.plane.fault, counting}
        asked: asyncio.Future[Any] = asyncio.ensure_future(ending.asked.wait())
        await asyncio.wait({asked, *faults}, return_when=asyncio.FIRST_COMPLETED)
        fault = _fault_of(faults)
        counting.cancel()
        if fault is not None:
            # A control plane with a dead part must not look alive: the parent starts a new one, replicas go on.
            raise fault
        return await _stop(parts.plane, ending)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the process is made of."""

    plane: ControlPlane
    apps: tuple[ASGIApp, ASGIApp]
    access: Access
    gauges: Gauges
    pauses: Pauses


async def _build(settings: Settings, stack: AsyncExitStack, *, new_key: bool) -> Parts:
    """Make and start all parts in order; ``stack`` closes them in the reverse order."""
    from roost.control.plane import ControlPlane
    from roost.models.cache import ModelCache
    from roost.models.catalog import Catalog
    from roost.runtimes.registry import runtime as runtime_called
    from roost.store.registry import store as store_at
    from roost.wiring.bootstrap import grant_access
    from roost.wiring.gauges import Gauges
    from roost.wiring.weights_quota import weights_quota

    store = store_at(settings.database)
    await store.open()
    stack.push_async_callback(store.close)
    installation = await store.installation(sandbox.installation_id(settings, uuid4()))
    sandbox.check_mode(settings, installation)
    access = await grant_access(store, settings, now=_now(), uuids=uuid4, token=_token, new_key=new_key)
    catalog = Catalog(
        store,
        built_in=sandbox.built_in_models(settings),
        known_engines=partial(sandbox.engine_names, settings),
    )
    await catalog.load()
    cache = ModelCache(settings.models_dir, quota=weights_quota(store, settings.models_quota_bytes, _now, uuid4))
    await cache.start()
    await cache.sweep(catalog.list())
    stack.push_async_callback(cache.close)
    runtime = runtime_called(settings.runtime, _runtime_settings(settings, installation))
    await runtime.start()
    stack.push_async_callback(runtime.close)
    gauges = Gauges(store)
    plane = ControlPlane(
        store=store,
        runtime=runtime,
        cache=cache,
        catalog=catalog,
        settings=settings,
        now=_now,
        uuids=uuid4,
        jitter=random.random,
        on_pass=gauges.on_pass,
        gateway_pids=partial(_gateway_pids, settings),
    )
    await plane.start()
    pauses = Pauses()
    apps = await _apps(plane, store, catalog, cache, settings, pauses)
    return Parts(plane, apps, access, gauges, pauses)


async def _apps(
    plane: ControlPlane, store: Store, catalog: Catalog, cache: Cache, settings: Settings, pauses: Pauses
) -> tuple[ASGIApp, ASGIApp]:
    """The public and the internal app."""
    from roost.api.app import create_app, create_internal_app
    from roost.services import build_services
    from roost.telemetry import metrics
    from roost.wiring.applied_writes import AppliedWrites

    services = build_services(
        store=store,
        catalog=catalog,
        cache=cache,
        capacity=plane.capacity,
        settings=settings,
        now=_now,
        uuids=uuid4,
        wake=plane.wake,
        wake_routes=plane.wake_routes,
        logs_of=plane.logs,
        wait=pauses.wait,
    )
    await services.recent_creates.load()
    return (
        AppliedWrites(create_app(services, settings=settings, metrics=metrics.render), plane.routes_applied),
        create_internal_app(
            publisher=plane.publisher,
            gateways=plane.gateways,
            deliveries=services.recent_creates,
            usages=services.usage,
        ),
    )


async def _stop(plane: ControlPlane, ending: Ending) -> int:
    """Stop the control plane as asked; the exit code."""
    stopping = asyncio.create_task(plane.stop(keep_replicas=ending.keep_replicas))
    events = () if ending.keep_replicas else (ending.at_once, ending.left)
    urgent = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait({stopping, *urgent}, return_when=asyncio.FIRST_COMPLETED)
    for waiting in urgent:
        waiting.cancel()
    if stopping.done():
        stopping.result()
        return 0
    if ending.left.is_set():
        # The parent died during the drain: what still runs is left to the next server.
        stopping.cancel()
        await asyncio.wait({stopping})
        await plane.stop(keep_replicas=True)
        return 0
    await plane.hurry()
    await asyncio.wait({stopping}, timeout=HURRY_S)
    if not stopping.done():
        raise RuntimeError(f"Replicas did not end within {HURRY_S:g} s of being killed.")
    stopping.result()
    return 0


def _fault_of(faults: Set[asyncio.Future[Any]]) -> BaseException | None:
    for future in faults:
        if future.done():
            error = future.exception()
            return error if error is not None else future.result()
    return None


async def _smallest_cpu(plane: ControlPlane, settings: Settings) -> str | None:
    """The smallest CPU configuration of this machine, for the banner: one that leaves room for a second endpoint. None
    on machines without one."""
    from roost.policy.placement import CPU, configurations

    offered = configurations(await plane.capacity(), settings.hardware)
    return next((name for name in offered if offered[name].accelerator == CPU), None)


def _gateway_pids(settings: Settings) -> list[int]:
    """The gateways of this home that live, by their pid files and command lines."""
    pids = [read_pid(path) for path in settings.run_dir.glob("gateway-*.pid")]
    return [pid for pid in pids if pid is not None and "roost.wiring.gateway" in command_line(pid)]


def _runtime_settings(settings: Settings, installation: str) -> RuntimeSettings:
    from roost.runtimes.base import RuntimeSettings

    return RuntimeSettings(
        settings.home,
        installation,
        settings.zone,
        settings.cpu_overcommit,
        settings.engine_variables,
        engine_files=_raise_files(),
    )


def _raise_files() -> int | None:
    """Let this process have as many files open as it may: each relayed request is one. How many it could have before,
    which is what engines get; None for any number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return None if soft == resource.RLIM_INFINITY else soft


def _now() -> datetime:
    return datetime.now(UTC)


def _token() -> str:
    return f"roost-{secrets.token_urlsafe()}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m roost.wiring.control", description="The control plane of Roost.")
    parser.add_argument("settings", type=Path, help="run/settings.json of the home directory")
    parser.add_argument("--new-key", action="store_true", help="make a new admin key")
    parser.add_argument("--ready", type=int, metavar="FD", help="write one JSON line here once serving")
    parser.add_argument("--lifeline", type=int, metavar="FD", help="end, leaving replicas, when this pipe closes")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
