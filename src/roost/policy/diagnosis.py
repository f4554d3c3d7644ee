"""What a machine's condition means for Roost: facts become findings, each with what to do. Pure; for ``roost doctor``.

``cli.examination`` gathers the facts. Nothing here looks at the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from roost.policy import open_files

OLDEST_PYTHON = (3, 11)
RELEASED = 2026
"""The year of this release: no clock that goes right shows an earlier one."""
GIB = 1024**3
LOW_DISK = 5 * GIB
FULL_DISK = GIB // 2
LOW_MEMORY = 2 * GIB
MOST_SKEW_S = 60.0


class Outcome(StrEnum):
    """How a check ended. A failure keeps Roost from working as it is set up here, a warning does not."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; ``fix`` is what to do, None where there is nothing to do."""

    check: str
    outcome: Outcome
    message: str
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class System:
    """The machine. Memory in bytes, limits those of the cgroups (None: none); ``cores`` are those that this process
    may use, ``core_quota`` the share of them that the cgroups allow; ``open_files`` the hard limit (None: none).
    ``clock_ahead_s`` is how far the clock is ahead of the package index's (less than 0: behind; None: not compared)."""

    python: tuple[int, int, int]
    platform: str
    proc: bool
    pidfd: bool
    pdeathsig: bool
    cores: int
    core_quota: float | None
    memory: int
    memory_limit: int | None
    open_files: int | None
    now: datetime
    gpus: tuple[str, ...] = ()
    gpu_note: str | None = None
    clock_ahead_s: float | None = None


@dataclass(frozen=True, slots=True)
class Home:
    """The home directory. ``problem`` is why it cannot be used; ``mode`` its permission bits; ``free`` bytes of its
    file system; ``socket_spare`` bytes that its path leaves for the names of unix sockets (less than 0: too long)."""

    path: str
    exists: bool
    problem: str | None
    mode: int | None
    free: int | None
    socket_spare: int


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine: its version where it tells one, and what it lacks."""

    name: str
    version: str | None
    missing: str | None


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs from the home. ``problem``: why it is not ready, None when it is."""

    pid: int
    version: str | None
    gateways: tuple[int, ...]
    control: int | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Database:
    """The database: ``schema`` as found (None: none yet), ``newest`` that this release knows; ``problem``: why it
    cannot be used."""

    shown: str
    schema: str | None
    newest: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials file. ``accepted``: what the server says to its key, None where no server was asked;
    ``untrusted``: the server's URL where clients here do not trust its certificate."""

    path: str
    exists: bool
    private: bool = True
    problem: str | None = None
    accepted: bool | None = None
    untrusted: str | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights cache: bytes of the files, models whose file is gone or was changed, and the quota (None: none)."""

    models: int
    size: int
    damaged: tuple[str, ...] = ()
    quota: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """The package index that was tried; ``problem``: why it could not be reached."""

    url: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known. ``settings`` is what is wrong with the settings; ``port`` what keeps the port from being
    opened, None when it is free or this home's server has it; ``connections`` how many clients a gateway worker is to
    carry; ``left`` how many replicas of an earlier server run."""

    system: System
    home: Home
    settings: str | None
    host: str
    port: int
    port_problem: str | None
    workers: int
    connections: int
    engines: tuple[Engine, ...]
    database: Database | None
    server: Server | None
    credentials: Credentials
    weights: Weights | None
    index: Index | None = None
    left: int = 0


def diagnose(facts: Facts) -> list[Finding]:
    """The findings, in the order in which they are shown."""
    return [
        *_system(facts.system),
        *_home(facts.home),
        _settings(facts),
        _files(facts.system.open_files, facts.connections),
        *(_engine(engine) for engine in facts.engines),
        _gpus(facts.system),
        _port(facts),
        *([_database(facts.database)] if facts.database is not None else []),
        _server(facts.server, facts.left),
        _credentials(facts.credentials, running=facts.server is not None),
        *([_weights(facts.weights)] if facts.weights is not None else []),
        *([_index(facts.index)] if facts.index is not None else []),
    ]


def worst(findings: list[Finding]) -> Outcome:
    """The worst outcome of all."""
    order = list(Outcome)
    return max((finding.outcome for finding in findings), key=order.index, default=Outcome.OK)


def _ok(check: str, message: str) -> Finding:
    return Finding(check, Outcome.OK, message)


def _warning(check: str, message: str, fix: str | None) -> Finding:
    return Finding(check, Outcome.WARNING, message, fix)


def _failure(check: str, message: str, fix: str) -> Finding:
    return Finding(check, Outcome.FAILURE, message, fix)


def _system(system: System) -> Iterator[Finding]:
    python = ".".join(map(str, system.python))
    if system.python[:2] < OLDEST_PYTHON:
        yield _failure("python", f"Python {python} is too old.", "Install Roost with Python 3.11 or newer.")
    else:
        yield _ok("python", f"Python {python}")
    lacking = [
        name
        for name, there in (("/proc", system.proc), ("pidfds", system.pidfd), ("PDEATHSIG", system.pdeathsig))
        if not there
    ]
    if system.platform != "linux":
        yield _failure("system", f"This is {system.platform}; servers need Linux.", "Use a Linux machine or container.")
    elif lacking:
        fix = "Use Linux 5.3 or newer, with /proc mounted and without a filter that forbids these calls."
        yield _failure("system", f"The system lacks {', '.join(lacking)}.", fix)
    else:
        yield _ok("system", "Linux with /proc, pidfds and PDEATHSIG")
    yield _clock(system)
    yield from _amounts(system)


def _clock(system: System) -> Finding:
    shown = f"{system.now:%Y-%m-%d %H:%M:%S} UTC"
    if system.now.year < RELEASED:
        return _failure("clock", f"The clock shows {shown}, which has passed.", "Set the clock, or let NTP set it.")
    ahead = system.clock_ahead_s
    if ahead is not None and abs(ahead) > MOST_SKEW_S:
        side = "ahead of" if ahead > 0 else "behind"
        return _warning("clock", f"The clock is {abs(ahead):.0f} s {side} the index's.", "Let NTP set the clock.")
    return _ok("clock", shown)


def _amounts(system: System) -> Iterator[Finding]:
    quota = system.core_quota
    if quota is not None and quota < 1:
        message = f"The cgroup allows {quota:g} of a core: engines will be slow."
        yield _warning("cores", message, "Give the container a whole core or more.")
    else:
        limit = "" if quota is None or quota >= system.cores else f", of which the cgroup allows {quota:g}"
        yield _ok("cores", f"{system.cores}{limit}")
    limited = system.memory_limit is not None and system.memory_limit < system.memory
    memory = system.memory_limit if limited and system.memory_limit is not None else system.memory
    whose = f"{memory / GIB:.1f} GiB" + (" (the cgroup's limit)" if limited else "")
    if memory < LOW_MEMORY:
        yield _warning("memory", f"{whose}: room for the smallest models only.", "Raise the limit or add memory.")
    else:
        yield _ok("memory", whose)


def _home(home: Home) -> Iterator[Finding]:
    other = "Choose another with --home or ROOST_HOME."
    if home.problem is not None:
        yield _failure("home", f"{home.path} cannot be used: {home.problem}.", other)
        return
    if home.socket_spare < 0:
        message = f"The path {home.path} is {-home.socket_spare} bytes too long for unix sockets."
        yield _failure("home", message, "Choose a shorter one with --home or ROOST_HOME.")
    elif not home.exists:
        yield _ok("home", f"{home.path} (made by the first `roost serve`)")
    elif home.mode is not None and home.mode & 0o022:
        message = f"{home.path} can be changed by other users (mode {home.mode:o})."
        yield _warning("home", message, f"chmod go-w {home.path}")
    else:
        yield _ok("home", home.path)
    if home.free is None:
        return
    free = f"{home.free / GIB:.1f} GiB free"
    if home.free < FULL_DISK:
        yield _failure("disk", f"{free}: the database and the logs need room.", "Free some space.")
    elif home.free < LOW_DISK:
        yield _warning(
            "disk", f"{free}: weights may not fit.", "Free some space, or remove weights: `roost models rm`."
        )
    else:
        yield _ok("disk", free)


def _settings(facts: Facts) -> Finding:
    if facts.settings is not None:
        return _failure("settings", facts.settings, "Correct it; docs/configuration.md lists the settings.")
    return _ok("settings", f"{facts.host}:{facts.port}, {facts.workers} gateway worker{'s'[: facts.workers != 1]}")


def _files(hard: int | None, wanted: int) -> Finding:
    # Workers raise the soft limit by themselves.
    clients, _ = open_files.carried(hard, wanted)
    if clients >= wanted:
        return _ok("open files", "no limit" if hard is None else f"{hard} per process")
    message = f"{hard} per process: a gateway worker carries {clients} client connections, not {wanted}."
    fix = f"Raise the hard limit to {open_files.needed(wanted)}, or lower max_client_connections."
    return _warning("open files", message, fix)


def _engine(engine: Engine) -> Finding:
    if engine.missing is not None:
        sentence, _, fix = engine.missing.partition("; ")
        return _warning(f"engine {engine.name}", sentence.rstrip(".") + ".", fix or None)
    return _ok(f"engine {engine.name}", engine.version or "ready")


def _gpus(system: System) -> Finding:
    if system.gpus:
        return _ok("gpus", ", ".join(system.gpus))
    return _ok("gpus", system.gpu_note or "none")


def _port(facts: Facts) -> Finding:
    if facts.server is not None:
        return _ok("port", f"{facts.port}: this home's server")
    if facts.settings is not None:
        return _warning(
            "port", "Which port is not known while the settings cannot be read.", "Mend the settings first."
        )
    if facts.port_problem is not None:
        return _failure("port", facts.port_problem, "End that program, or choose another with --port.")
    return _ok("port", "any free one" if facts.port == 0 else f"{facts.port} is free")


def _database(database: Database) -> Finding:
    # Beside the name of the check, its kind goes without saying.
    shown = database.shown.removeprefix("The database ").removeprefix("file ")
    if database.problem is not None:
        return _failure("database", database.problem, "Check `database_url` in the settings, and that it runs.")
    if database.schema is None:
        return _ok("database", f"{shown} (made by the first `roost serve`)")
    if database.schema > database.newest:
        message = f"{database.shown} has schema {database.schema}; this release knows up to {database.newest}."
        return _failure("database", message, "Upgrade Roost.")
    if database.schema < database.newest:
        message = f"{database.shown} has schema {database.schema}, the newest is {database.newest}."
        return _warning("database", message, "The next `roost serve` brings it up to date; back it up before.")
    return _ok("database", f"{shown}, schema {database.schema}")


def _server(server: Server | None, left: int) -> Finding:
    if server is None and left:
        are = "replica of an earlier server runs" if left == 1 else "replicas of an earlier server run"
        fix = "`roost serve` takes what runs over, `roost stop` ends it."
        return _warning("server", f"None is running from this home, but {left} {are}.", fix)
    if server is None:
        return _ok("server", "none is running from this home")
    gateways = ", ".join(map(str, server.gateways)) or "none"
    pids = f"pid {server.pid}, control plane {server.control or 'none'}, gateways {gateways}"
    if server.problem is not None:
        return _failure("server", f"It runs but is not ready: {server.problem} ({pids}).", "Look into its logs.")
    return _ok("server", f"Roost {server.version or '?'} is ready ({pids})")


def _credentials(credentials: Credentials, *, running: bool) -> Finding:
    check, new = "credentials", "`roost stop`, then `roost serve --new-key`."
    if credentials.problem is not None:
        return _failure(check, credentials.problem, new)
    if not credentials.exists:
        if running:
            return _warning(check, f"There is no {credentials.path}.", f"Set ROOST_API_KEY, or {new}")
        return _ok(check, f"{credentials.path} is written by the first `roost serve`")
    if not credentials.private:
        message = f"Other users can read the key in {credentials.path}."
        return _warning(check, message, f"chmod 600 {credentials.path}")
    if credentials.accepted is False:
        return _failure(check, f"The server does not accept the key in {credentials.path}.", new)
    if credentials.untrusted is not None:
        message = f"Clients on this machine do not trust the certificate of {credentials.untrusted}."
        fix = "Set SSL_CERT_FILE to the file of its authority, and ROOST_BASE_URL to a URL with the certificate's name."
        return _warning(check, message, fix)
    return _ok(check, credentials.path + (", key accepted" if credentials.accepted else ""))


def _weights(weights: Weights) -> Finding:
    if weights.problem is not None:
        return _failure("weights", weights.problem, "Repair it, or move the folder away: weights are fetched again.")
    quota = "" if weights.quota is None else f" of {weights.quota / 1e9:.1f} GB"
    shown = f"{weights.models} model{'s'[: weights.models != 1]}, {weights.size / 1e9:.1f} GB{quota}"
    if weights.damaged:
        message = f"{shown}; the files of {', '.join(weights.damaged)} are gone or were changed."
        return _warning("weights", message, f"roost models pull {weights.damaged[0]}")
    if weights.quota is not None and weights.size > weights.quota:
        return _warning("weights", f"{shown}: over the quota.", "Remove weights, or raise `models_quota_gb`.")
    return _ok("weights", shown)


def _index(index: Index) -> Finding:
    if index.problem is not None:
        return _warning("index", f"{index.url}: {index.problem}", "Check the network, a proxy, or PIP_INDEX_URL.")
    return _ok("index", f"{index.url} answers")
