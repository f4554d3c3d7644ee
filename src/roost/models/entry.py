"""Whether a catalog entry makes sense. Pure apart from asking a source what it accepts; called by the catalog.

It never looks at the network, the disk or the engines' packages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from urllib.parse import urlsplit

from roost.domain.errors import BadRequest
from roost.domain.model import Footprint, Model, Source
from roost.models import sources
from roost.models.base import ModelSource
from roost.models.location import without_secrets

MAX_ID = 128
MAX_CONTEXT = 100_000_000
MAX_SLOTS = 100_000
MAX_TEXT = 200
MAX_LOCATION = 2048
MAX_OPTIONS, MAX_OPTION = 64, 10_000
MAX_BYTES = 1 << 50
EXTERNAL = "external"
TYPES = ("chat", "language", "code", "image", "embedding", "moderation", "rerank")
_ID = re.compile(r"[A-Za-z0-9._/-]+")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check(
    model: Model,
    known_engines: Collection[str] | None = None,
    source_of: Callable[[str], ModelSource] = sources.source,
) -> None:
    """Raise ``BadRequest`` naming the field at fault; ``known_engines`` None leaves the engine to others."""
    check_name(model.id, "id")
    if model.alias is not None:
        check_name(model.alias, "alias")
    if known_engines is not None and model.engine not in known_engines:
        known = ", ".join(sorted(known_engines))
        raise BadRequest(f"There is no engine called {model.engine[:100]!r}. Known engines: {known}.", param="engine")
    if model.type not in TYPES:
        raise BadRequest(f"type must be one of {', '.join(TYPES)}, not {model.type[:100]!r}.", param="type")
    _check_number("context_length", model.context_length, MAX_CONTEXT, "tokens")
    if model.slots is not None:
        _check_number("slots", model.slots, MAX_SLOTS, "requests (absent: the engine decides)")
    for field in ("display_name", "organization", "license", "served_model"):
        _check_text(field, getattr(model, field) or "")
    _check_options(model.options)
    _check_footprint(model.footprint)
    _check_server(model)
    if model.source is not None:
        _check_source(model.source, source_of)


def _check_number(field: str, number: int, most: int, what: str) -> None:
    if not 1 <= number <= most:
        raise BadRequest(f"{field} must be 1 to {most} {what}, not {str(number)[:30]}.", param=field)


def _check_text(field: str, text: str) -> None:
    if len(text) > MAX_TEXT or not all(letter.isprintable() for letter in text):
        raise BadRequest(f"{field} must be at most {MAX_TEXT} printable characters on one line.", param=field)


def _check_length(field: str, text: str | None) -> None:
    """Asked before anything else looks at it: what reads it may take longer than its length grows."""
    if text is not None and len(text) > MAX_LOCATION:
        raise BadRequest(f"{field} must be at most {MAX_LOCATION} characters, not {len(text)}.", param=field)


def _check_options(options: Mapping[str, str]) -> None:
    if len(options) > MAX_OPTIONS:
        raise BadRequest(f"options must be at most {MAX_OPTIONS}, not {len(options)}.", param="options")
    if any(not name or len(name) > MAX_TEXT or len(value) > MAX_OPTION for name, value in options.items()):
        raise BadRequest(
            f"options must have names of 1 to {MAX_TEXT} characters and values of at most {MAX_OPTION}.",
            param="options",
        )


def _check_footprint(footprint: Footprint | None) -> None:
    for field in ("weights_bytes", "kv_bytes_per_token"):
        number = getattr(footprint, field, None)
        if number is not None:
            _check_number(f"footprint.{field}", number, MAX_BYTES, "bytes")


def check_name(name: str, param: str) -> None:
    """Raise ``BadRequest`` unless ``name`` may be an id or alias: it becomes a part of URLs and of file names."""
    if not _ID.fullmatch(name) or len(name) > MAX_ID:
        raise BadRequest(
            f"{param} must be 1 to {MAX_ID} letters, digits and . _ - /, not {name[:200]!r}.",
            param=param,
        )
    if any(part in {"", ".", ".."} for part in name.split("/")) or ".." in name:
        raise BadRequest(
            f"{param} must not begin or end with a slash, nor hold '//' or '..', as {name!r} does.", param=param
        )


def _check_server(model: Model) -> None:
    if model.engine != EXTERNAL:
        for field in ("url", "api_key_env"):
            if getattr(model, field) is not None:
                raise BadRequest(f"{field} is for the engine {EXTERNAL!r} only, not for {model.engine!r}.", param=field)
        return
    if model.source is not None:
        raise BadRequest(f"The engine {EXTERNAL!r} has its weights elsewhere: leave the source out.", param="source")
    if model.url is None:
        raise BadRequest(f"The engine {EXTERNAL!r} needs the url of the server that runs it.", param="url")
    _check_length("url", model.url)
    if not _is_web_url(model.url):
        raise BadRequest(
            f"url must be http(s) with a host, without a user name, query or fragment, not "
            f"{without_secrets(model.url)!r}.",
            param="url",
        )
    if model.api_key_env is not None and not _VARIABLE.fullmatch(model.api_key_env):
        raise BadRequest(
            "api_key_env must be the name of an environment variable that holds the key, not the key itself.",
            param="api_key_env",
        )


def _is_web_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")  # as connecting to it does
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or "@" in parts.netloc) and url.isprintable() and " " not in url
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and plain


def _check_source(source: Source, source_of: Callable[[str], ModelSource]) -> None:
    _check_length("source.location", source.location)
    _check_length("source.member", source.member)
    source_of(source.kind).check(source)
    if source.sha256 is not None and not _DIGEST.fullmatch(source.sha256):
        raise BadRequest("source.sha256 must be the 64 hex digits of the file's SHA-256.", param="source.sha256")
    if source.size_bytes is not None:
        _check_number("source.size_bytes", source.size_bytes, MAX_BYTES, "bytes")
