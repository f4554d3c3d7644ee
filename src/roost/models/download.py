"""One resumable HTTP download, shared by the sources.

Called by the sources only. The bytes arrive in a file that survives interruptions; a note beside it says which version
of which document it holds the beginning of. It never judges the content: digests are the callers' business.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from roost._version import __version__
from roost.domain.errors import ModelUnavailable
from roost.models import disk
from roost.models.base import Report, TooSlow
from roost.models.blocking import in_thread

BUFFER = 1 << 20
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
SLOW_BYTES, SLOW_S = 60_000, 60.0
"""A server that sends fewer bytes in so many seconds is given up."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Note:
    """What the bytes beside it are the beginning of. ``document`` is the digest of the URL (which may hold secrets);
    ``validator`` a strong ETag or a Last-Modified date; ``total`` the document's length in bytes."""

    document: str
    validator: str | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """The document at ``url``, to be brought into the file ``target``.

    ``verified`` promises that a digest will be checked, which allows resuming where the server gives no validator.
    ``extra_space`` is what will be needed on the disk besides the document, in bytes. ``clock`` counts seconds.
    """

    url: str
    target: Path
    report: Report
    auth: httpx.Auth | None = None
    verified: bool = False
    extra_space: int = 0
    free: disk.FreeBytes = disk.free_bytes
    clock: Callable[[], float] = time.monotonic

    @property
    def part(self) -> Path:
        """The file of what has arrived so far."""
        return self.target.with_name(self.target.name + ".part")

    @property
    def note(self) -> Path:
        """The file that says what ``part`` is a part of."""
        return self.target.with_name(self.target.name + ".note")

    @property
    def document(self) -> str:
        """The document's identity in notes."""
        return hashlib.sha256(self.url.encode()).hexdigest()


class _Pace:
    """Watches that bytes keep coming: a server that sends one now and then never runs into a time limit."""

    def __init__(self, wanted: Download) -> None:
        self._wanted = wanted
        self._since, self._bytes = wanted.clock(), 0

    def saw(self, size: int) -> None:
        """Count ``size`` bytes. Raises ``TooSlow``."""
        self._bytes += size
        now = self._wanted.clock()
        if now - self._since < SLOW_S:
            return
        if self._bytes < SLOW_BYTES:
            raise TooSlow(
                f"The server of {public(self._wanted.url)} sent only {disk.shown(self._bytes)} in "
                f"{now - self._since:.0f} seconds. Start again later; what has arrived is kept.",
                code="source_unreachable",
            )
        self._since, self._bytes = now, 0


def client(trust: ssl.SSLContext) -> httpx.AsyncClient:
    """A new HTTP client that follows redirects."""
    headers = {"user-agent": f"roost/{__version__}"}
    return httpx.AsyncClient(verify=trust, timeout=TIMEOUT, follow_redirects=True, headers=headers)


async def system_trust() -> ssl.SSLContext:
    """The certificates that this system trusts (``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` count)."""
    # Reading them takes tens of milliseconds: not on the event loop.
    return await asyncio.to_thread(ssl.create_default_context)


def without_login(url: str) -> tuple[str, httpx.BasicAuth | None]:
    """``url`` without its user name and password, and these apart."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    bare = urlunsplit((parts.scheme, host, parts.path, parts.query, parts.fragment))
    if not login:
        return bare, None
    user, _, password = login.partition(":")
    return bare, httpx.BasicAuth(unquote(user), unquote(password))


def public(url: str) -> str:
    """``url`` without user name, password and query, for messages."""
    parts = urlsplit(without_login(url)[0])
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def unreachable(url: str, error: httpx.HTTPError | httpx.InvalidURL) -> ModelUnavailable:
    """The failure of a connection that could not be made or broke."""
    detail = str(error) or type(error).__name__
    return ModelUnavailable(
        f"Could not fetch {public(url)}: {detail}. Check this machine's network and proxy settings, then start again; "
        "what has arrived is kept.",
        code="source_unreachable",
    )


def refused(url: str, status: int) -> ModelUnavailable:
    """The failure of a response that is not a success."""
    place = public(url)
    if status in {401, 403, 407}:
        return ModelUnavailable(
            f"The server refused access to {place} (HTTP {status}). Check that this machine may download it.",
            code="permission",
        )
    if status in {408, 425, 429} or status >= 500:
        return ModelUnavailable(
            f"The server of {place} cannot answer now (HTTP {status}). Start again later; what has arrived is kept.",
            code="source_unreachable",
        )
    return ModelUnavailable(
        f"There is nothing to download at {place} (HTTP {status}). Check the location of the weights.",
        code="source_missing",
    )


async def download(http: httpx.AsyncClient, wanted: Download) -> None:
    """Bring the document into ``wanted.target``, resuming what an earlier attempt left beside it.

    Raises ``ModelUnavailable``; what has arrived is kept, except where the server has another version now.
    """
    note, have = await asyncio.to_thread(_left_behind, wanted)
    try:
        if note is None or note.total is None or have != note.total:
            await _transfer(http, wanted, note, have)
        await asyncio.to_thread(_finish, wanted)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise unreachable(wanted.url, error) from error
    except OSError as error:
        note, have = await asyncio.to_thread(_left_behind, wanted)
        needed = note.total - have if note is not None and note.total is not None else None
        raise disk.failure(error, wanted.target.parent, needed, wanted.free) from error


async def _transfer(http: httpx.AsyncClient, wanted: Download, note: Note | None, have: int) -> None:
    headers = _headers(wanted, note, have)
    resuming = "range" in headers
    async with http.stream(
        "GET", wanted.url, headers=headers, auth=wanted.auth or httpx.USE_CLIENT_DEFAULT
    ) as response:
        if not response.is_success and response.status_code != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise refused(wanted.url, response.status_code)
        validator = _validator(response.headers)
        start, total = _extent(response, have if resuming else 0)
        if start is None or (start and note is not None and _differs(note, validator, total)):
            await asyncio.to_thread(wanted.part.unlink, missing_ok=True)
            raise httpx.RemoteProtocolError("the document changed since its download began; it begins anew")
        await asyncio.to_thread(_write_note, wanted, Note(wanted.document, validator, total))
        # First, since room may be made when the total is told.
        wanted.report(start, total)
        if total is not None:
            needed = total - start + wanted.extra_space
            await asyncio.to_thread(disk.require_space, wanted.target.parent, needed, wanted.free)
        await _copy(response, wanted, start, total)


async def _copy(response: httpx.Response, wanted: Download, start: int, total: int | None) -> None:
    file = await asyncio.to_thread(_open_at, wanted.part, start)
    done, buffer, pace = start, bytearray(), _Pace(wanted)
    try:
        async for chunk in response.aiter_raw():
            buffer += chunk
            pace.saw(len(chunk))
            if len(buffer) >= BUFFER:
                done += await _write(file, buffer)
                wanted.report(done, total)
    finally:
        # What arrived before an interruption is worth keeping too.
        try:
            done += await _write(file, buffer)
        finally:
            await asyncio.to_thread(file.close)
    wanted.report(done, total)
    if total is not None and done != total:
        raise httpx.RemoteProtocolError(f"the connection ended after {done} of {total} bytes")


async def _write(file: BinaryIO, buffer: bytearray) -> int:
    block = bytes(buffer)
    buffer.clear()
    await in_thread(lambda _: file.write(block))
    return len(block)


def _headers(wanted: Download, note: Note | None, have: int) -> dict[str, str]:
    # Offsets count bytes of the document itself, so it must not be compressed on the way.
    headers = {"accept-encoding": "identity"}
    if note is not None and have and (note.validator is not None or wanted.verified):
        headers["range"] = f"bytes={have}-"
        if note.validator is not None:
            headers["if-range"] = note.validator
    return headers


def _validator(headers: httpx.Headers) -> str | None:
    etag: str | None = headers.get("etag")
    if etag and not etag.startswith("W/"):
        return etag
    modified: str | None = headers.get("last-modified")
    return modified


def _differs(note: Note, validator: str | None, total: int | None) -> bool:
    """Whether a partial response is of another version than ``note``."""
    if validator is not None and note.validator is not None and validator != note.validator:
        return True
    return total is not None and note.total is not None and total != note.total


def _extent(response: httpx.Response, asked: int) -> tuple[int | None, int | None]:
    """Where the body's bytes begin in the document (None: nowhere that was asked for), and the document's length."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise httpx.RemoteProtocolError("the server compresses what must arrive as it is")
    if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        return None, None
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        length = response.headers.get("content-length", "")
        return 0, int(length) if length.isdecimal() else None
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if match is None or int(match[1]) > asked:
        return None, None
    return int(match[1]), None if match[3] == "*" else int(match[3])


def _open_at(part: Path, start: int) -> BinaryIO:
    file = part.open("r+b" if part.exists() else "w+b")
    if file.seek(0, os.SEEK_END) != start:
        file.truncate(start)
        file.seek(start)
    return file


def _left_behind(wanted: Download) -> tuple[Note | None, int]:
    """The note of an interrupted download and how many bytes it left; None where there is nothing to go on from."""
    try:
        note = Note(**json.loads(wanted.note.read_text()))
        have = wanted.part.stat().st_size
    except (FileNotFoundError, ValueError, TypeError):
        return None, 0
    return (note, have) if note.document == wanted.document else (None, 0)


def _write_note(wanted: Download, note: Note) -> None:
    wanted.note.write_text(json.dumps(asdict(note)))


def _finish(wanted: Download) -> None:
    with wanted.part.open("rb") as file:
        os.fsync(file.fileno())
    wanted.part.replace(wanted.target)
    wanted.note.unlink(missing_ok=True)
