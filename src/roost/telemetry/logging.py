"""Structured logs of the server's processes: JSON lines for files, coloured lines for a terminal.

Called once per process by ``roost.wiring``. Everybody else logs through ``structlog.get_logger(__name__)`` or the
standard ``logging`` module; both end here. It must never let a key, a password or a prompt through: ``redact`` runs
last, on every line, whoever wrote it.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

HIDDEN = "[redacted]"

SECRET_NAMES = frozenset(
    {"authorization", "api_key", "apikey", "x_api_key", "bearer", "token", "secret", "secrets", "password", "cookie"}
)
"""Fields that carry credentials; compared in lower case with ``-`` as ``_``."""

CONTENT_NAMES = frozenset({"prompt", "messages", "content", "body", "completion", "input"})
"""Fields that carry what users say to models."""

_BEARER = re.compile(r"(?i)\b(bearer)\s+[^\s\"',;]+")
_ISSUED_KEY = re.compile(r"\b(?:roost|sk)-[A-Za-z0-9_-]{32,}")
_URL_PASSWORD = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@")


def configure(level: str, *, process: str, stream: TextIO | None = None) -> None:
    """Send all logs of this process to ``stream`` (default: standard error).

    ``level`` is debug, info, warning or error; ``process`` names the process in each line. A terminal gets readable
    lines, anything else one JSON object per line.
    """
    target = stream if stream is not None else sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_last(target, process))
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    _quieten(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def redact(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace credentials and user content by ``[redacted]``, at any depth, by field name and by shape."""
    for name in event:
        event[name] = _clean(name, event[name])
    return event


def _last(target: TextIO, process: str) -> list[structlog.typing.Processor]:
    def add_process(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    steps: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        add_process,
    ]
    if target.isatty():
        return [*steps, redact, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    # The traceback becomes text before redaction, so that it is searched as well.
    return [*steps, structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer(default=str)]


def _quieten(level: str) -> None:
    # Libraries that narrate each request or statement speak only when something is wrong, except at debug.
    floor = logging.DEBUG if level == "debug" else logging.WARNING
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "httpx", "httpcore", "asyncio", "alembic", "aiosqlite"):
        logging.getLogger(name).setLevel(max(floor, logging.INFO) if name == "aiosqlite" else floor)


def _clean(name: str, value: Any) -> Any:
    plain = name.lower().replace("-", "_")
    if value is not None and (plain in SECRET_NAMES or plain in CONTENT_NAMES):
        return HIDDEN
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, dict):
        return {key: _clean(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean("", item) for item in value]
    return value


def _clean_text(text: str) -> str:
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    text = _ISSUED_KEY.sub(HIDDEN, text)
    return _URL_PASSWORD.sub(rf"\g<scheme>:{HIDDEN}@", text)
