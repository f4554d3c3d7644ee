"""Settings: a frozen tree with a documented field each, and the only reader of the environment.

Precedence: command-line flags, then ``ROOST_*`` variables, then the TOML file given by ``--config`` (else
``$ROOST_HOME/config.toml`` where there is one), then the defaults below. Children of ``roost serve`` read the same
settings back from ``run/settings.json``.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from roost.domain.errors import InvalidSettings
from roost.domain.hardware import HardwarePrice

SANDBOX = "sandbox"
"""The runtime and the engine of ``roost serve --sandbox``."""

SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
"""How a setting that is on or off can be written."""


ENGINE_VARIABLES = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "TEMP", "TMP", "XDG_*"),
    *("LD_LIBRARY_PATH", "PYTHON*", "VIRTUAL_ENV", "SSL_*"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("CUDA_*", "NVIDIA_*", "NCCL_*", "HIP_*", "HSA_*", "ROCR_*"),
    *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "GGML_*", "LLAMA_*", "VLLM_*"),
)
"""Variables that engines inherit: names, or beginnings followed by ``*``."""

_SECRET = re.compile("KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
"""In the name of a variable that is no engine's business, though its beginning is (``VLLM_API_KEY``)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a server."""

    home: Path
    """ROOST_HOME: database, credentials, weights, sockets and logs live under it."""
    host: str = "127.0.0.1"
    """Address of the public port."""
    port: int = 8080
    """The public port; 0 lets the system choose."""
    gateway_workers: int = 1
    """Number of gateway processes that share the public port; one carries a thousand streams."""
    database_url: str = ""
    """SQLAlchemy URL; empty means SQLite in the home directory."""
    sandbox: bool = False
    """A declared fleet and SmolLM2 under the names of large models, to try scripts on; a home is one or the other."""
    runtime: str = "local"
    """Where replicas run: a name of ``roost.runtimes.registry``; ``sandbox`` with ``sandbox``, and only then."""
    zone: str = "local"
    """The availability zone of this machine."""
    owner: str = "roost"
    """Owner of the first key; endpoint names begin with their owner."""
    cpu_overcommit: float = 1.0
    """CPU threads offered to replicas per core of the machine."""
    inactive_timeout_minutes: int = 60
    """Auto-stop of endpoints that do not name one; 0 turns it off."""
    drain_deadline_s: float = 300.0
    """How long a replica that is going down may finish its requests."""
    stop_grace_s: float = 10.0
    """Seconds between TERM and KILL for an engine."""
    unresponsive_deadline_s: float = 30.0
    """How long a replica may leave its health check unanswered before it is ended and replaced."""
    max_start_failures: int = 5
    """Consecutive failed starts after which an endpoint is in ERROR."""
    max_body_bytes: int = 64 * 1024 * 1024
    """Largest request body; larger ones get 413."""
    max_bodies_mb: int = 1024
    """Request bodies above 64 KiB that one gateway worker keeps, in MiB; more get 503, a key's beyond a quarter 429."""
    max_client_connections: int = 10_000
    """Client connections that one gateway worker keeps open; more get 503 and are closed."""
    client_head_timeout_s: float = 30.0
    """How long the head of a request may take from its first byte to its end; then 408."""
    client_body_timeout_s: float = 60.0
    """A request body that brings less than 500 bytes a second over this time gets 408."""
    client_read_timeout_s: float = 60.0
    """A client that takes nothing of its answer for so long is let go."""
    tls_cert: str = ""
    """File of the certificate (PEM, with its chain) for the public port; empty: no TLS. With ``tls_key``."""
    tls_key: str = ""
    """File of the certificate's private key (PEM, without a passphrase)."""
    hold_limit: int = 1000
    """Requests that may wait for one endpoint, for a replica or for a slot; more get 429."""
    hold_timeout_s: float = 60.0
    """How long a request waits when its client does not announce a timeout."""
    hold_stream_timeout_s: float = 600.0
    """How long a streamed request waits once it is sent comments, from its beginning."""
    balancer: str = "expected-ttft"
    """Which replica a request goes to: ``expected-ttft`` (the soonest first token), or ``least-in-flight``."""
    max_staleness_s: float = 24 * 3600.0
    """Age of the routing table after which a gateway without a control plane reports itself not ready."""
    models_quota_gb: float = 0.0
    """Room for weights on the disk, in GB (10⁹ bytes); what was used longest ago makes way. 0: no limit."""
    engine_env: str = ""
    """Variables that engines inherit beside the usual ones: names, or beginnings followed by ``*``, with commas."""
    log_level: str = "info"
    """debug, info, warning or error."""
    hardware: Mapping[str, HardwarePrice] = field(default_factory=dict)
    """Catalog entries by accelerator that add to or replace the built-in ones."""

    @property
    def run_dir(self) -> Path:
        """Pid files, sockets and replica records; mode 0700."""
        return self.home / "run"

    @property
    def models_dir(self) -> Path:
        """The weights cache."""
        return self.home / "models"

    @property
    def models_quota_bytes(self) -> int | None:
        """``models_quota_gb`` in bytes; None: no limit."""
        return int(self.models_quota_gb * 1e9) or None

    @property
    def engine_variables(self) -> tuple[str, ...]:
        """``engine_env`` item by item."""
        return tuple(item.strip() for item in self.engine_env.split(",") if item.strip())

    @property
    def logs_dir(self) -> Path:
        """Logs of the server's processes."""
        return self.home / "logs"

    @property
    def credentials_path(self) -> Path:
        """``{"base_url", "api_key"}``, mode 0600."""
        return self.home / "credentials.json"

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.home / 'roost.db'}"

    @property
    def control_socket(self) -> Path:
        """Unix socket of the control plane's public API, to which gateways relay."""
        return self.run_dir / "control.sock"

    @property
    def internal_socket(self) -> Path:
        """Unix socket of the internal routes (watch, report); never relayed."""
        return self.run_dir / "internal.sock"

    def dump(self) -> str:
        """The settings as JSON, for ``run/settings.json``."""
        values = asdict(self)
        values["home"] = str(self.home)
        return json.dumps(values)

    @classmethod
    def parse(cls, text: str) -> Settings:
        """Read what ``dump`` wrote."""
        values = json.loads(text)
        values["home"] = Path(values["home"])
        values["hardware"] = {name: HardwarePrice(**entry) for name, entry in values["hardware"].items()}
        return cls(**values)


def home_dir(flag: Path | None = None, *, sandbox: bool = False) -> Path:
    """Where a server keeps everything: the flag, else ROOST_HOME, else ``~/.roost`` (``~/.roost-sandbox`` for a
    ``sandbox``); absolute."""
    usual = Path.home() / (".roost-sandbox" if sandbox else ".roost")
    return (flag or Path(os.environ.get("ROOST_HOME") or usual)).expanduser().absolute()


def known_home(flag: Path | None = None) -> Path:
    """The home of the server that a command means: as ``home_dir``, for a sandbox where ROOST_SANDBOX says so, or
    where only a sandbox has ever been started."""
    own, sandbox = home_dir(flag), home_dir(flag, sandbox=True)
    wanted = SWITCH.get(os.environ.get("ROOST_SANDBOX", "").lower())
    if wanted is None:
        wanted = (sandbox / "credentials.json").exists() and not (own / "credentials.json").exists()
    return sandbox if wanted else own


def secret(name: str) -> str | None:
    """The value of an environment variable that holds a secret (an upstream's key), None when unset or empty."""
    return os.environ.get(name) or None


def handed_over() -> str | None:
    """What the program that was this process before left for this one (``roost restart``), once; None when none did."""
    return os.environ.pop("ROOST_HANDOVER", None)


def handing_over(text: str) -> dict[str, str]:
    """The environment in which the next program of this process finds ``text``."""
    return {**os.environ, "ROOST_HANDOVER": text}


def client_environment() -> tuple[str | None, str | None]:
    """``(ROOST_BASE_URL, ROOST_API_KEY)`` as clients read them; None when unset or empty."""
    return secret("ROOST_BASE_URL"), secret("ROOST_API_KEY")


def ca_file() -> str | None:
    """``SSL_CERT_FILE``: the authorities that clients trust instead of the system's; None when unset or empty."""
    return os.environ.get("SSL_CERT_FILE") or None


def engine_environment(more: Iterable[str] = ()) -> dict[str, str]:
    """What engines inherit: the variables of this process that say how programs run here (``ENGINE_VARIABLES``), and
    those that ``more`` names (``Settings.engine_variables``). Never Roost's own.

    A list of what is allowed, since nobody can list the secrets: upstreams' keys, logins to hubs, indexes, databases.
    """
    wanted = tuple(more)
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ROOST_")
        and (_is_listed(name, wanted) or (_is_listed(name, ENGINE_VARIABLES) and not _SECRET.search(name)))
    }


def _is_listed(name: str, items: Iterable[str]) -> bool:
    return any(name.startswith(item[:-1]) if item.endswith("*") else name == item for item in items)


def package_index_url() -> str | None:
    """The Python package index that pip is told to use by ``PIP_INDEX_URL``; None when unset or empty."""
    return os.environ.get("PIP_INDEX_URL") or None


def hub() -> tuple[str | None, str | None]:
    """``(HF_ENDPOINT, HF_TOKEN)``: the Hugging Face hub's URL and the token (a secret) for it; None when unset or
    empty."""
    return os.environ.get("HF_ENDPOINT") or None, secret("HF_TOKEN")


def load(*, home: Path | None = None, config: Path | None = None, **flags: Any) -> Settings:
    """The settings from flags (None means not given), environment and file.

    Raises ``InvalidSettings`` naming the setting and what it accepts.
    """
    environment = _from_environment()
    wanted = flags.get("sandbox")
    place = home_dir(home, sandbox=bool(environment.get("sandbox") if wanted is None else wanted))
    path = config or place / "config.toml"
    values: dict[str, Any] = {}
    if config is not None or path.exists():
        values.update(_from_file(path))
    values.update(environment)
    values.update({name: value for name, value in flags.items() if value is not None})
    values["home"] = place
    if values.get("sandbox"):
        values.setdefault("runtime", SANDBOX)
    for name in ("tls_cert", "tls_key"):
        if values.get(name):
            # Workers, which read it again when it changes, may run in another folder.
            values[name] = str(Path(values[name]).expanduser().absolute())
    settings = Settings(**values)
    _check(settings)
    return settings


def _from_file(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise InvalidSettings(f"Cannot read the configuration file {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"The configuration file {path} is not valid TOML: {error}.") from error
    prices = data.pop("hardware", {})
    values = {name: _typed(name, value, str(path)) for name, value in data.items()}
    known = {f.name for f in fields(HardwarePrice)}
    for accelerator, entry in prices.items():
        unknown = set(entry) - known if isinstance(entry, dict) else {"(not a table)"}
        if unknown:
            raise InvalidSettings(f'{path}: [hardware."{accelerator}"] takes {sorted(known)}, not {sorted(unknown)}.')
    values["hardware"] = {accelerator: HardwarePrice(**entry) for accelerator, entry in prices.items()}
    return values


def _from_environment() -> dict[str, Any]:
    skip = {"home", "hardware"}
    found = {}
    for f in fields(Settings):
        text = os.environ.get(f"ROOST_{f.name.upper()}")
        if f.name not in skip and text:
            found[f.name] = _typed(f.name, text, f"ROOST_{f.name.upper()}")
    return found


def _typed(name: str, value: Any, where: str) -> Any:
    kinds = {"str": str, "int": int, "float": float, "bool": bool}
    kind = next((kinds[str(f.type)] for f in fields(Settings) if f.name == name and str(f.type) in kinds), None)
    if kind is None:
        raise InvalidSettings(f"{where}: there is no setting called {name!r}.")
    try:
        if kind is bool:
            return SWITCH[str(value).lower()]
        if isinstance(value, bool) or (kind is int and isinstance(value, float)):
            raise ValueError
        return kind(value)
    except (TypeError, ValueError, KeyError):
        raise InvalidSettings(f"{where}: {name} takes a value of type {kind.__name__}, not {value!r}.") from None


def _check(settings: Settings) -> None:
    limits: Mapping[str, tuple[float, float]] = {
        "port": (0, 65535),
        "gateway_workers": (1, 64),
        "cpu_overcommit": (0.1, 64),
        "inactive_timeout_minutes": (0, 10_000_000),
        "drain_deadline_s": (0, 86_400),
        "stop_grace_s": (0, 3600),
        "unresponsive_deadline_s": (5, 86_400),
        "max_start_failures": (1, 1000),
        "max_body_bytes": (1024, 1 << 31),
        "max_bodies_mb": (1, 1_000_000),
        "max_client_connections": (1, 1_000_000),
        "client_head_timeout_s": (1, 3600),
        "client_body_timeout_s": (1, 3600),
        "client_read_timeout_s": (1, 3600),
        "hold_limit": (0, 1_000_000),
        "hold_timeout_s": (0, 3600),
        "hold_stream_timeout_s": (0, 86_400),
        "max_staleness_s": (1, 31_536_000),
        "models_quota_gb": (0, 1_000_000),
    }
    for name, (low, high) in limits.items():
        if not low <= getattr(settings, name) <= high:
            raise InvalidSettings(f"{name} must be between {low:g} and {high:g}, not {getattr(settings, name)!r}.")
    if settings.balancer not in {"expected-ttft", "least-in-flight"}:
        raise InvalidSettings(f"balancer must be expected-ttft or least-in-flight, not {settings.balancer!r}.")
    if bool(settings.tls_cert) != bool(settings.tls_key):
        given, missing = ("tls_cert", "tls_key") if settings.tls_cert else ("tls_key", "tls_cert")
        raise InvalidSettings(
            f"{given} is set and {missing} is not: TLS takes a certificate and its key (--tls-cert, --tls-key)."
        )
    if settings.sandbox != (settings.runtime == SANDBOX):
        raise InvalidSettings(
            "The runtime 'sandbox' and `roost serve --sandbox` belong together: a sandbox has no other runtime, and no "
            "other server has this one."
        )
    for item in settings.engine_variables:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\*?", item) or item.startswith("ROOST_"):
            raise InvalidSettings(
                f"engine_env takes names of variables, or beginnings followed by *, with commas between them, and none "
                f"of Roost's own, not {item!r}."
            )
    if settings.log_level not in {"debug", "info", "warning", "error"}:
        raise InvalidSettings(f"log_level must be debug, info, warning or error, not {settings.log_level!r}.")


__all__ = [
    "HardwarePrice",
    "Settings",
    "ca_file",
    "client_environment",
    "engine_environment",
    "handed_over",
    "handing_over",
    "home_dir",
    "hub",
    "known_home",
    "load",
    "package_index_url",
    "replace",
    "secret",
]
