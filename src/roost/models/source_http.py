"""Weights from an HTTP server: ``location`` is the URL of the file itself. Built by ``models.sources``."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from roost.domain.errors import BadRequest
from roost.domain.model import Source
from roost.models import disk
from roost.models.base import Report
from roost.models.download import Download, client, download, system_trust, without_login
from roost.models.location import without_secrets

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class HttpSource:
    """Source kind ``http``: one file behind an http or https URL, resumed where the server allows it."""

    kind = "http"

    def __init__(self, free: disk.FreeBytes = disk.free_bytes) -> None:
        self._free = free

    def check(self, source: Source) -> None:
        """Raise ``BadRequest`` unless ``location`` is a URL with a host, and there is no ``member``."""
        try:
            parts = urlsplit(source.location)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
            httpx.URL(source.location)
        except (ValueError, httpx.InvalidURL):
            usable = False
        if not usable:
            raise BadRequest(
                f"source.location must be a URL like https://host/weights.gguf, not "
                f"{without_secrets(source.location)!r}.",
                param="source.location",
            )
        if source.member is not None:
            raise BadRequest(
                "source.member is not for http sources: the URL names the file itself.", param="source.member"
            )

    async def fetch(self, source: Source, partial: Path, report: Report) -> Path:
        """Download the file. Raises ``BadRequest``, ``ModelUnavailable``."""
        self.check(source)
        url, auth = without_login(source.location)
        target = partial / _file_name(url)
        if not await asyncio.to_thread(target.exists):
            async with client(await system_trust()) as http:
                verified = source.sha256 is not None
                await download(http, Download(url, target, report, auth, verified=verified, free=self._free))
        return target


def _file_name(url: str) -> str:
    """A safe name that keeps the URL's suffix."""
    return "weights-" + _UNSAFE.sub("-", unquote(urlsplit(url).path).rpartition("/")[2])[-100:]
