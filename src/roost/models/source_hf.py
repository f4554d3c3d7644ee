"""Weights from the Hugging Face hub: ``location`` is ``owner/repo`` or ``owner/repo@revision``, ``member`` the file.

Built by ``models.sources``. It brings one file, as llama.cpp needs it. Engines that need a whole snapshot (config,
tokenizer, several safetensors) are not served yet; the interface leaves room: ``fetch`` would return the folder that it
filled, and ``choose`` would give several files.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Generator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from roost import config
from roost.domain.errors import BadRequest, ModelUnavailable
from roost.domain.model import Source
from roost.models import disk
from roost.models.base import Report
from roost.models.blocking import in_thread
from roost.models.digest import sha256_of
from roost.models.download import Download, client, download, system_trust, without_login
from roost.models.location import without_secrets

if TYPE_CHECKING:
    from roost.models.hub import HubFile, Repository

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(f"({_PART}/{_PART})(?:@([A-Za-z0-9][A-Za-z0-9._/+-]{{0,199}}))?")
_SPLIT = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
MAX_MEMBER = 500
SHOWN = 12
"""Candidates that a message names at most."""


class HfSource:
    """Source kind ``hf``. ``hub`` gives the hub's URL and a token, None where unset."""

    kind = "hf"

    def __init__(
        self,
        free: disk.FreeBytes = disk.free_bytes,
        hub: Callable[[], tuple[str | None, str | None]] = config.hub,
    ) -> None:
        self._free = free
        self._hub = hub

    def check(self, source: Source) -> None:
        """Raise ``BadRequest`` unless ``location`` names a repository and ``member``, if given, a file or a pattern."""
        repository(source)
        check_member(source.member)

    async def fetch(self, source: Source, partial: Path, report: Report) -> Path:
        """Ask the hub which file it is, and download that. Raises ``BadRequest``, ``ModelUnavailable``."""
        self.check(source)
        name, revision = repository(source)
        endpoint, token = self._hub()
        found = await in_thread(lambda _: _look_up(name, revision, endpoint, token))
        file = choose(found.files, source.member, found.name)
        if source.sha256 and file.sha256 and source.sha256.lower() != file.sha256:
            raise ModelUnavailable(
                f"{file.name} of {name} is not the file that the catalog describes: the hub says its SHA-256 is "
                f"{file.sha256}, {source.sha256} is expected. Correct the entry, or name a revision.",
                code="digest_mismatch",
            )
        target = partial / f"{file.version[:16]}-{_UNSAFE.sub('-', file.name.rpartition('/')[2])[-100:]}"
        if not await asyncio.to_thread(target.exists):
            await self._download(found, file, token, target, report)
            if file.sha256 is not None and source.sha256 is None:
                await _verify(target, file.name, file.sha256)
        return target

    async def _download(
        self, found: Repository, file: HubFile, token: str | None, target: Path, report: Report
    ) -> None:
        url, login = without_login(found.url(file))
        wanted = Download(
            url,
            target,
            report,
            auth=_Bearer(token) if token is not None else login,
            verified=file.sha256 is not None,
            free=self._free,
        )
        try:
            async with client(await system_trust()) as http:
                await download(http, wanted)
        except ModelUnavailable as error:
            # The metadata of a gated repository is public, its files are not.
            if error.code != "permission" or not (found.gated or token is None):
                raise
            raise _forbidden(found, token) from error


class _Bearer(httpx.Auth):
    """The hub's token. The client leaves it behind when it is redirected to another server."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["authorization"] = f"Bearer {self._token}"
        yield request


def repository(source: Source) -> tuple[str, str | None]:
    """``owner/repo`` and the revision (None: not given) that ``location`` names. Raises ``BadRequest``."""
    match = _REPOSITORY.fullmatch(source.location)
    if match is None or "--" in match[1] or ".." in source.location or match[1].endswith(".git"):
        raise BadRequest(
            f"source.location must be a repository of the hub, like owner/repo or owner/repo@revision, not "
            f"{without_secrets(source.location)!r}.",
            param="source.location",
        )
    return match[1], match[2]


def check_member(member: str | None) -> None:
    """Raise ``BadRequest`` where ``member`` is neither absent nor a plain relative path or pattern."""
    if member is None:
        return
    odd = not member.isprintable() or "\\" in member or len(member) > MAX_MEMBER
    if odd or any(part in {"", ".", ".."} for part in member.split("/")):
        raise BadRequest(
            f"source.member must be a file of the repository or a pattern, like model-Q4_K_M.gguf or *Q4_K_M.gguf, not "
            f"{member[:200]!r}.",
            param="source.member",
        )


def choose(files: Sequence[HubFile], member: str | None, name: str) -> HubFile:
    """The file of the repository ``name`` that ``member`` means: the one of that name, the one that fits the pattern,
    or the only GGUF file. Pure. Raises ``ModelUnavailable`` listing what there is."""
    exact = next((file for file in files if file.name == member), None)
    pattern = member or "*.gguf"
    fitting = [exact] if exact else [file for file in files if fnmatchcase(file.name, pattern)]
    whole = [file for file in fitting if not _SPLIT.search(file.name)]
    if len(whole) == 1:
        return whole[0]
    if whole:
        raise ModelUnavailable(
            f"{name} has {len(whole)} files that fit {pattern!r}: {_listed(whole)}. Remove the entry and "
            f"add it again with one of them as source.member.",
            code="source_ambiguous",
        )
    candidates = [file for file in files if file.name.endswith(".gguf") and not _SPLIT.search(file.name)]
    instead = f"its GGUF files are: {_listed(candidates)}" if candidates else "it has no GGUF file in one piece"
    if fitting:
        raise ModelUnavailable(
            f"{fitting[0].name} of {name} is one part of several, and weights must be one file; {instead}. Add "
            "another as source.member, or join the parts with llama-gguf-split --merge and add the file itself.",
            code="wrong_format",
        )
    raise ModelUnavailable(
        f"{name} has no file that fits {pattern!r}; {instead}. Remove the entry and add it "
        "again with another source.member or source.location.",
        code="source_missing",
    )


def _listed(files: Sequence[HubFile]) -> str:
    shown = [
        file.name if file.size is None else f"{file.name} ({disk.shown(file.size)})"
        for file in sorted(files, key=lambda file: file.name)[:SHOWN]
    ]
    more = len(files) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _look_up(name: str, revision: str | None, endpoint: str | None, token: str | None) -> Repository:
    from roost.models.hub import look_up  # a quarter of a second, which only users of the hub pay

    return look_up(name, revision, endpoint, token)


def _forbidden(found: Repository, token: str | None) -> ModelUnavailable:
    from roost.models.hub import forbidden

    return forbidden(found.name, found.endpoint, gated=found.gated, token=token)


async def _verify(target: Path, name: str, sha256: str) -> None:
    actual = await in_thread(lambda stop: sha256_of(target, stop=stop))
    if actual != sha256:
        await asyncio.to_thread(target.unlink)
        raise ModelUnavailable(
            f"{name} arrived damaged: its SHA-256 is {actual}, the hub says {sha256}. "
            "It was removed; start again to fetch it anew.",
            code="digest_mismatch",
        )
