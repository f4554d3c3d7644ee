"""A small HTTP server on the loopback that misbehaves as told: for tests of downloads and package indexes."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

TIMEOUT_S = 20.0


@dataclass
class Document:
    """What a path answers. ``cuts`` are numbers of body bytes after which the next responses are cut off; ``statuses``
    are answered first, one per request, with ``extra_headers``; ``hold_at`` makes the next body pause there until
    ``release`` is set. ``asked`` is set by the first request."""

    content: bytes
    content_type: str = "application/octet-stream"
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: bool = True
    lengthless: bool = False
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    extra_headers: dict[str, str] = field(default_factory=dict)
    range_shift: int = 0
    asked: threading.Event = field(default_factory=threading.Event)
    hold_at: int | None = None
    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Seen:
    """One request that arrived; header names are lower-case."""

    path: str
    headers: dict[str, str]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what these tests are about."""


class WeightsServer:
    """``documents`` by path; ``seen`` collects the requests."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.seen: list[Seen] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._http = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}{path}"

    def close(self) -> None:
        for document in self.documents.values():
            document.release.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(TIMEOUT_S)

    def ranges_of(self, path: str) -> list[str | None]:
        """The Range header of each request for ``path``."""
        return [seen.headers.get("range") for seen in self.seen if seen.path == path]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.path, headers))
        document = self.documents.get(request.path)
        if document is None:
            return _short(request, 404)
        document.asked.set()
        if document.statuses:
            return _short(request, document.statuses.pop(0), document.extra_headers)
        start = _start(document, headers)
        if start is None:
            _body(request, document, 200, 0)
        elif start >= len(document.content):
            _short(request, 416)
        else:
            _body(request, document, 206, start)
        return None


def _short(request: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str] = MappingProxyType({})) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("content-length", "0")
    request.end_headers()


def _start(document: Document, headers: dict[str, str]) -> int | None:
    match = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
    current = document.etag or document.last_modified
    if match is None or not document.ranges or headers.get("if-range", current) != current:
        return None
    return int(match[1])


def _body(request: BaseHTTPRequestHandler, document: Document, status: int, start: int) -> None:
    content = document.content
    request.send_response(status)
    request.send_header("content-type", document.content_type)
    if document.etag is not None:
        request.send_header("etag", document.etag)
    if document.last_modified is not None:
        request.send_header("last-modified", document.last_modified)
    if status == 206:
        shown = start + document.range_shift
        request.send_header("content-range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
    for name, value in document.extra_headers.items():
        request.send_header(name, value)
    if document.lengthless:
        request.send_header("connection", "close")
        request.close_connection = True
    else:
        request.send_header("content-length", str(len(content) - start))
    request.end_headers()
    end = len(content)
    if document.cuts:
        end = min(end, start + document.cuts.pop(0))
    _send(request, document, start, end)
    if end < len(content):
        request.close_connection = True


def _send(request: BaseHTTPRequestHandler, document: Document, start: int, end: int) -> None:
    try:
        if document.hold_at is not None and start <= document.hold_at < end:
            request.wfile.write(document.content[start : document.hold_at])
            request.wfile.flush()
            start, document.hold_at = document.hold_at, None
            document.held.set()
            document.release.wait(TIMEOUT_S)
        request.wfile.write(document.content[start:end])
    except (BrokenPipeError, ConnectionResetError):
        request.close_connection = True


@contextmanager
def weights_server() -> Iterator[WeightsServer]:
    server = WeightsServer()
    try:
        yield server
    finally:
        server.close()
