"""Looks at this machine and at a home, for ``roost doctor``: gathers the facts that ``policy.diagnosis`` judges.

It changes nothing: no folder is made, no database brought up to date, and the port is let go at once. It looks at the
network only when asked to.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy.exc import DBAPIError

from roost.client.credentials import read
from roost.client.errors import ApiError, ClientError, NotConfigured, Untrusted
from roost.client.sync import Roost
from roost.config import Settings, known_home, load, replace
from roost.domain.errors import InvalidSettings, RoostError
from roost.engines.registry import engine, names
from roost.models import package_index
from roost.models.download import without_login
from roost.models.index import Index as WeightsIndex
from roost.policy import diagnosis as facts
from roost.runtimes import machine
from roost.store import connections, schema
from roost.wiring import instance, left_replicas
from roost.wiring.home import LONGEST_SOCKET_NAME
from roost.wiring.listen import LONGEST_UNIX_PATH, PortTaken, bind, origin
from roost.wiring.pids import read_pid

ANSWER_S = 3.0
LOOKS = 4
"""How often a server that is not ready is looked at before that is believed."""
LOOK_AGAIN_S = 0.5
_PR_GET_PDEATHSIG = 2


def examine(home: Path | None, *, online: bool) -> facts.Facts:
    """All facts about this machine and the home (None: the one that commands mean)."""
    place = known_home(home)
    settings, wrong = _settings(place)
    serving = _serving(settings)
    if serving is not None:
        settings = replace(settings, host=serving.host, port=serving.port, tls_cert=serving.tls_cert)
    server = None if serving is None else _server(settings)
    index, ahead = asyncio.run(_index()) if online else (None, None)
    return facts.Facts(
        system=_system(ahead),
        home=_home(place),
        settings=wrong,
        host=settings.host,
        port=settings.port,
        port_problem=None if server is not None else _port_problem(settings),
        workers=settings.gateway_workers,
        connections=settings.max_client_connections,
        engines=tuple(_engine(name) for name in names()),
        database=asyncio.run(_database(settings)),
        server=server,
        credentials=_credentials(settings, running=server is not None),
        weights=_weights(settings),
        index=index,
        left=0 if server is not None else _left(place),
    )


def _left(place: Path) -> int:
    try:
        return len(left_replicas.running(place))
    except OSError:
        # Told by the check of the home.
        return 0


def _settings(place: Path) -> tuple[Settings, str | None]:
    try:
        return load(home=place), None
    except InvalidSettings as error:
        return Settings(home=place), error.message


def _system(ahead: float | None) -> facts.System:
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    gpus, note = _gpus()
    return facts.System(
        python=(sys.version_info.major, sys.version_info.minor, sys.version_info.micro),
        platform=sys.platform,
        proc=Path("/proc/self/stat").exists(),
        pidfd=hasattr(os, "pidfd_open") and _opens_pidfd(),
        pdeathsig=_has_pdeathsig(),
        cores=len(os.sched_getaffinity(0)),
        core_quota=machine.cpu_quota(Path("/")),
        memory=psutil.virtual_memory().total,
        memory_limit=machine.memory_limit(Path("/")),
        open_files=None if files == resource.RLIM_INFINITY else files,
        now=datetime.now(UTC),
        gpus=gpus,
        gpu_note=note,
        clock_ahead_s=ahead,
    )


def _opens_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _has_pdeathsig() -> bool:
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return False
    return bool(prctl(_PR_GET_PDEATHSIG, ctypes.byref(ctypes.c_int())) == 0)


def _gpus() -> tuple[tuple[str, ...], str | None]:
    there = any(Path("/dev").glob("nvidia[0-9]*"))
    try:
        nvml: Any = import_module("pynvml")
    except ImportError:
        seen = "NVIDIA devices are there, but" if there else "none seen;"
        return (), f"{seen} nvidia-ml-py is not installed, which would tell their kind"
    try:
        nvml.nvmlInit()
        found = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return tuple(_text(nvml.nvmlDeviceGetName(handle)) for handle in found), None
    except nvml.NVMLError as error:
        return (), f"none that the NVIDIA driver tells of ({error})"


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _home(place: Path) -> facts.Home:
    nearest = next(path for path in (place, *place.parents) if path.exists())
    problem = None
    if not nearest.is_dir():
        problem = f"{nearest} is not a folder"
    elif not os.access(nearest, os.W_OK | os.X_OK):
        problem = f"{nearest} cannot be written to"
    path = os.fsencode(place / "run" / LONGEST_SOCKET_NAME)
    return facts.Home(
        path=str(place),
        exists=place.exists(),
        problem=problem,
        mode=place.stat().st_mode & 0o777 if place.exists() else None,
        free=psutil.disk_usage(str(nearest)).free,
        socket_spare=LONGEST_UNIX_PATH - len(path),
    )


def _port_problem(settings: Settings) -> str | None:
    try:
        bind(settings.host, settings.port).close()
    except PortTaken:
        return f"Port {settings.port} on {settings.host} is held by {_holder(settings.port)}."
    except InvalidSettings as error:
        return error.message
    return None


def _holder(port: int) -> str:
    try:
        found = psutil.net_connections("tcp")
        pids = {one.pid for one in found if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port}
        return ", ".join(f"{psutil.Process(pid).name()} (pid {pid})" for pid in pids if pid) or "another user's program"
    except psutil.Error:
        return "another program"


def _engine(name: str) -> facts.Engine:
    try:
        found = engine(name)
    except ImportError as error:
        return facts.Engine(name, None, f"Its module cannot be imported ({error}); install it again.")
    return facts.Engine(name, found.version(), found.missing())


async def _database(settings: Settings) -> facts.Database | None:
    try:
        location = connections.locate(settings.database)
    except InvalidSettings as error:
        return facts.Database("The database", None, schema.HEAD, error.message)
    if settings.database.startswith("sqlite:///") and not Path(settings.database.removeprefix("sqlite:///")).exists():
        return facts.Database(location.shown, None, schema.HEAD)
    opened = connections.connect(location, timedelta(seconds=ANSWER_S))
    try:
        async with opened.connect() as connection:
            found = await connection.run_sync(schema.version, location.shown)
            return facts.Database(location.shown, found, schema.HEAD)
    except DBAPIError as error:
        return facts.Database(location.shown, None, schema.HEAD, connections.unusable(location, error).message)
    except InvalidSettings as error:
        return facts.Database(location.shown, None, schema.HEAD, error.message)
    finally:
        await opened.dispose()


def _serving(settings: Settings) -> Settings | None:
    """The settings of the server that runs from the home; None when none runs."""
    try:
        process = instance.running(settings)
    except (NotADirectoryError, PermissionError):
        # Told by the check of the home.
        return None
    if process is None:
        return None
    with process:
        try:
            return Settings.parse((settings.run_dir / "settings.json").read_text())
        except FileNotFoundError:
            # It is about to write them.
            return settings


def _server(settings: Settings) -> facts.Server:
    run = settings.run_dir
    version, problem = _readiness(settings)
    for _ in range(LOOKS - 1):
        if problem is None:
            break
        # Just after a start, a gateway serves by the table of before and is not connected yet.
        time.sleep(LOOK_AGAIN_S)
        version, problem = _readiness(settings)
    pids = [read_pid(path) for path in sorted(run.glob("gateway-*.pid"))]
    gateways = tuple(pid for pid in pids if pid is not None)
    control = read_pid(run / "control.pid")
    return facts.Server(read_pid(run / "serve.pid") or 0, version, gateways, control, problem)


def _readiness(settings: Settings) -> tuple[str | None, str | None]:
    """The version of the gateway that answers, and why it is not ready (None: it is)."""
    try:
        where = origin(settings.host, settings.port, tls=bool(settings.tls_cert))
        # Whom the certificate names is not asked: it is this machine, and only the state of its own server.
        answer = httpx.get(f"{where}/readyz", timeout=ANSWER_S, trust_env=False, verify=not settings.tls_cert)
        told = answer.json()
        connected = None if told["control_connected"] else "its gateway is not connected to the control plane"
        return told["version"], told["reason"] or connected
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return None, f"its gateway does not answer ({type(error).__name__})"


def _credentials(settings: Settings, *, running: bool) -> facts.Credentials:
    path = settings.credentials_path
    try:
        held = read(path)
    except NotConfigured as error:
        return facts.Credentials(str(path), exists=True, problem=error.message)
    if held is None:
        return facts.Credentials(str(path), exists=False)
    private = not path.stat().st_mode & 0o077
    accepted: bool | None = None
    untrusted = None
    if running:
        try:
            with Roost(held.base_url, held.api_key, timeout=ANSWER_S, max_retries=0) as client:
                client.whoami()
            accepted = True
        except ApiError as error:
            accepted = False if error.status == 401 else None
        except (Untrusted, NotConfigured):
            untrusted = held.base_url
        except ClientError:
            # That nobody answers is told by the check of the server.
            accepted = None
    return facts.Credentials(str(path), exists=True, private=private, accepted=accepted, untrusted=untrusted)


def _weights(settings: Settings) -> facts.Weights | None:
    if not settings.models_dir.is_dir():
        return None
    try:
        entries = WeightsIndex(settings.models_dir).read()
    except (OSError, RoostError) as error:
        return facts.Weights(0, 0, problem=f"The weights cache {settings.models_dir} cannot be read: {error}.")
    own = {entry.path: entry.size for entry in entries.values() if not entry.in_place}
    damaged = tuple(sorted(model for model, entry in entries.items() if not entry.intact()))
    return facts.Weights(len(entries), sum(own.values()), damaged, settings.models_quota_bytes)


async def _index() -> tuple[facts.Index, float | None]:
    """The package index, and how far this machine's clock is ahead of it."""
    try:
        url = await package_index.index_url()
        shown, _ = without_login(url)
        async with httpx.AsyncClient(timeout=ANSWER_S, follow_redirects=True) as client:
            answer = await client.head(url)
    except RoostError as error:
        return facts.Index("the package index", error.message), None
    except httpx.HTTPError as error:
        return facts.Index(shown, f"{type(error).__name__}: {error}"), None
    date = answer.headers.get("date")
    ahead = None if date is None else (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    if answer.status_code >= 500:
        return facts.Index(shown, f"answered with status {answer.status_code}"), ahead
    return facts.Index(shown), ahead
