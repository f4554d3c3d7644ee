"""Upstream responses on the wire: parsing the head, following the body's framing. Sans I/O.

Called by ``upstream`` for every response. It must never guess: bytes that could be read in two ways raise
``BrokenResponse``, because an upstream may be as untrusted as a client.
"""

from __future__ import annotations

import re
from typing import Protocol

MAX_HEAD = 64 * 1024
"""Largest response head in bytes."""
MAX_HELD_CHUNK = 64 * 1024
"""An incomplete chunk up to this many bytes is held back, so that relayed bytes end on a chunk boundary."""
_MAX_SIZE_LINE = 256

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")


class BrokenResponse(Exception):
    """The upstream's bytes are not an HTTP/1 response, or break off or contradict themselves."""


_SET_HERE = frozenset((b"x-request-id", b"x-roost-replica", b"x-roost-route"))
HOP_BY_HOP = _SET_HERE | {b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"trailer"}
"""Response headers that belong to one connection only, or are the gateway's to set."""

_BEGINNING = b"HTTP/1."
_FRAMING = (b"content-length", b"transfer-encoding")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_WATCHED = HOP_BY_HOP | {b"content-length", b"transfer-encoding", b"content-type", b"retry-after"}
_KNOWN_LINES: dict[bytes, tuple[bytes, bytes] | None] = {}  # header lines seen before; None: nothing to look at
_KNOWN_STATUS: dict[bytes, tuple[int, int]] = {}
_MAX_KNOWN = 2000
_KNOWN_HEADS: dict[bytes, ResponseHead] = {}  # streams' heads are the same within a second, short answers' recur
_MAX_KNOWN_HEADS = 500
_PLAIN = (b"", b"")


class ResponseHead:
    """A parsed response head, which never changes. ``raw`` ends before the empty line; ``length`` is -1 when not
    announced; ``as_it_is`` is what ``relayed`` gives for a framed body, None where some lines have to go."""

    __slots__ = ("_bare", "_watched", "as_it_is", "chunked", "keep_alive", "length", "lines", "raw", "status")

    def __init__(self, raw: bytes) -> None:
        """Parse. Raises ``BrokenResponse``."""
        self.raw = raw
        self.lines = lines = raw.split(b"\r\n")
        first = lines[0]
        self.status, minor = _KNOWN_STATUS.get(first) or _parse_status(first)
        self.as_it_is: bytes | None = raw[8:]
        self._watched: dict[bytes, bytes] = {}
        watched = self._watched
        known = _KNOWN_LINES
        for line in lines:
            if line is first:
                continue
            found = known.get(line, _PLAIN)
            if found is _PLAIN:
                found = _parse_line(line)
            if found is not None:
                name, value = found
                if name in watched or name in HOP_BY_HOP:
                    self._watch(name, value)
                else:
                    watched[name] = value
        self.length = -1
        self.chunked = False
        length, coding = watched.get(b"content-length"), watched.get(b"transfer-encoding")
        if length is not None:
            if coding is not None or not length.isdigit() or len(length) > 15:
                raise BrokenResponse("the body's length is ambiguous")
            self.length = int(length)
        elif coding is not None:
            if coding != b"chunked" or not minor:
                raise BrokenResponse("the transfer coding is not chunked")
            self.chunked = True
        connection = watched.get(b"connection", b"")
        self.keep_alive = b"close" not in connection if minor else connection == b"keep-alive"
        self._bare = self.status in (204, 304)
        if self._bare:
            # Without a body, whatever it says: who passes these lines on misleads readers that believe them.
            self.length, self.chunked, self.as_it_is = 0, False, None
            watched.pop(b"content-type", None)

    def _watch(self, name: bytes, value: bytes) -> None:
        repeated = name in _FRAMING or self._watched.setdefault(name, value) != value
        if repeated and name != b"x-request-id":
            raise BrokenResponse(f"{name.decode()} is there twice")
        if name in HOP_BY_HOP:
            self.as_it_is = None  # some lines have to go

    def value(self, name: bytes) -> bytes | None:
        """The value of one of the headers the gateway looks at, in lower case; None when absent."""
        return self._watched.get(name)

    def relayed(self, *, framed: bool) -> bytes:
        """Status and header lines as they go to the client (after ``HTTP/1.1``, without the last line end), without
        what belongs to this connection and, unless ``framed``, without the body's framing."""
        if framed and self.as_it_is is not None:
            return self.as_it_is
        named = {token.strip() for token in self._watched.get(b"connection", b"").split(b",")}
        unwanted = (HOP_BY_HOP | named).difference(_FRAMING).union(() if framed and not self._bare else _FRAMING)
        kept = (line for line in self.lines[1:] if line[: line.find(b":")].lower() not in unwanted)
        return b"\r\n".join([self.lines[0][8:], *kept])


def parse_head(raw: bytes) -> ResponseHead:
    """The head in ``raw``, which ends before the empty line. Raises ``BrokenResponse``."""
    head = _KNOWN_HEADS.get(raw)
    if head is None:
        head = ResponseHead(raw)
        if len(raw) <= 1000:
            if len(_KNOWN_HEADS) >= _MAX_KNOWN_HEADS:
                _KNOWN_HEADS.clear()
            _KNOWN_HEADS[raw] = head
    return head


def check_beginning(data: bytes) -> None:
    """Raise ``BrokenResponse`` if ``data``, in which no head ends, cannot become one."""
    if len(data) > MAX_HEAD:
        raise BrokenResponse("the response head is too long")
    if not data.startswith(_BEGINNING[: len(data)]):
        raise BrokenResponse("the status line is not HTTP/1")
    if data.count(b"\n") != data.count(b"\r\n"):
        raise BrokenResponse("a line of the response head ends without CR")


def _parse_status(line: bytes) -> tuple[int, int]:
    # The status and the minor version.
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BrokenResponse("the status line is not HTTP/1")
    found = int(match[2]), int(match[1])
    if len(_KNOWN_STATUS) < _MAX_KNOWN and len(line) <= 100:
        _KNOWN_STATUS[line] = found
    return found


def _parse_line(line: bytes) -> tuple[bytes, bytes] | None:
    match = _LINE.fullmatch(line)
    if match is None:
        raise BrokenResponse("a header line is malformed")
    name = match[1].lower()
    found = (name, match[2].rstrip(b" \t").lower()) if name in _WATCHED else None
    if len(line) <= 200:
        if len(_KNOWN_LINES) >= _MAX_KNOWN:
            _KNOWN_LINES.clear()
        _KNOWN_LINES[line] = found
    return found


class Body(Protocol):
    """Follows one body: ``feed`` returns what may be passed on; ``done`` says that the body has ended; ``excess``
    that bytes followed it (the connection is then not reusable)."""

    done: bool
    excess: bool
    aligned: bool
    """Whether what was passed on so far ends where a further frame may be put."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the wire. Raises ``BrokenResponse``."""
        ...


class EmptyBody:
    """A response that has no body (to HEAD, 204, 304, or a length of zero)."""

    __slots__ = ("aligned", "done", "excess")

    def __init__(self) -> None:
        self.done, self.excess, self.aligned = True, False, False

    def feed(self, data: bytes) -> bytes:
        """Nothing may follow."""
        self.excess = self.excess or bool(data)
        return b""


class LengthBody:
    """A body of a known length."""

    __slots__ = ("aligned", "done", "excess", "left")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done, self.excess, self.aligned = length == 0, False, False

    def feed(self, data: bytes) -> bytes:
        """The part of ``data`` that belongs to the body."""
        size = len(data)
        if size > self.left:
            self.excess = True
            data = data[: self.left]
            size = self.left
        self.left -= size
        if not self.left:
            self.done = True
        return data


class EofBody:
    """A body that ends with the connection."""

    __slots__ = ("aligned", "done", "excess")

    def __init__(self) -> None:
        self.done, self.excess, self.aligned = False, True, False

    def feed(self, data: bytes) -> bytes:
        """All of it."""
        return data


class RawChunks:
    """A chunked body passed on with its framing untouched, cut at chunk boundaries. Trailers are left out: nobody has
    asked for them, and a client may take them for headers."""

    __slots__ = ("aligned", "done", "excess", "held", "left")

    def __init__(self) -> None:
        self.done, self.excess, self.aligned = False, False, True
        self.held = b""
        self.left = 0  # bytes owed (with the closing CR LF) of a long chunk that is passed on in pieces

    def feed(self, data: bytes) -> bytes:
        """All complete chunks so far; an incomplete one waits unless it is long."""
        if not self.held and not self.left:
            # A whole chunk of a size that was seen before is what nearly all events come in. The last chunk is no such.
            line = data.find(b"\r\n", 0, _MAX_SIZE_LINE)
            length = _SIZES.get(data[:line])
            if length and line + length + 4 == len(data) and data.endswith(b"\r\n"):
                return data
        if self.held:
            data = self.held + data
            self.held = b""
        at, size = 0, len(data)
        if self.left:
            self._check_end(data)
            if size < self.left:
                self.left -= size
                return data
            at, self.left, self.aligned = self.left, 0, True
        while at < size:
            line, length = _size_at(data, at)
            if line < 0:
                self.held = data[at:]
                return data[:at]
            end = _trailers_end(data, line) if length == 0 else line + length + 2
            if end < 0 or end > size:
                return self._incomplete(data, at, end)
            if length == 0:
                self.done = True
                self.excess = end < size
                return data[:end] if end == line + 2 else data[:line] + b"\r\n"
            if data[end - 2 : end] != b"\r\n":
                raise BrokenResponse("a chunk does not end where it says")
            at = end
        return data

    def _incomplete(self, data: bytes, at: int, end: int) -> bytes:
        if end < 0 or len(data) - at <= MAX_HELD_CHUNK:
            if len(data) - at > MAX_HEAD + MAX_HELD_CHUNK:
                raise BrokenResponse("the trailers are too long")
            self.held = data[at:]
            return data[:at]
        self.left = end - len(data)
        self.aligned = False
        if self.left == 1 and data[-1:] != b"\r":
            raise BrokenResponse("a chunk does not end where it says")
        return data

    def _check_end(self, data: bytes) -> None:
        # The part of the closing CR LF that is in ``data``.
        left, size = self.left, len(data)
        if size >= left:
            sound = data[max(0, left - 2) : left] == b"\r\n"[-left:]
        else:
            sound = size < left - 1 or data[-1:] == b"\r"
        if not sound:
            raise BrokenResponse("a chunk does not end where it says")


class Unchunked:
    """A chunked body passed on without its framing."""

    __slots__ = ("aligned", "done", "excess", "held", "left")

    def __init__(self) -> None:
        self.done, self.excess, self.aligned = False, False, False
        self.held = b""
        self.left = 0  # bytes owed of the current chunk, with its closing CR LF

    def feed(self, data: bytes) -> bytes:
        """The payload in ``data``."""
        if self.held:
            data = self.held + data
            self.held = b""
        at, size = 0, len(data)
        pieces: list[bytes] = []
        while at < size:
            if self.left:
                at = self._payload(data, at, pieces)
                continue
            line, length = _size_at(data, at)
            end = _trailers_end(data, line) if line >= 0 and length == 0 else line
            if end < 0:
                self.held = data[at:]
                if len(self.held) > MAX_HEAD:
                    raise BrokenResponse("the trailers are too long")
                break
            at = end
            if length == 0:
                self.done, self.excess = True, at < size
                break
            self.left = length + 2
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _payload(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        left, have = self.left, len(data) - at
        if left > 2:
            take = min(left - 2, have)
            pieces.append(data[at : at + take])
            self.left = left - take
            return at + take
        if have < left:
            if left == 2 and data[at : at + 1] != b"\r":
                raise BrokenResponse("a chunk does not end where it says")
            self.left = 1
            return len(data)
        if data[at : at + left] != b"\r\n"[2 - left :]:
            raise BrokenResponse("a chunk does not end where it says")
        self.left = 0
        return at + left


_SIZES: dict[bytes, int] = {}  # size lines seen before, so that the common ones are parsed once


def _size_at(data: bytes, at: int) -> tuple[int, int]:
    # Where the size line at `at` ends and the size it tells; (-1, 0) when it is not complete yet.
    end = data.find(b"\r\n", at, at + _MAX_SIZE_LINE)
    if end < 0:
        if len(data) - at >= _MAX_SIZE_LINE:
            raise BrokenResponse("a chunk's size line is too long")
        return -1, 0
    line = data[at:end]
    length = _SIZES.get(line)
    if length is None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise BrokenResponse("a chunk's size is malformed")
        length = int(match[1], 16)
        if len(line) <= 3:
            _SIZES[line] = length
    return end + 2, length


def _trailers_end(data: bytes, line: int) -> int:
    # Where the message ends, given where the last chunk's size line ends; -1 when that is not there yet.
    if data[line : line + 2] == b"\r\n":
        return line + 2
    end = data.find(b"\r\n\r\n", line)
    if end < 0:
        return -1
    for trailer in data[line:end].split(b"\r\n"):
        if _LINE.fullmatch(trailer) is None:
            raise BrokenResponse("a trailer is malformed")
    return end + 4


def body_of(head: ResponseHead, *, no_body: bool, raw: bool) -> Body:
    """The framing of the body that follows ``head``; with ``raw`` a chunked one keeps its framing."""
    if no_body or head.status in (204, 304) or head.length == 0:
        return EmptyBody()
    if head.length > 0:
        return LengthBody(head.length)
    if head.chunked:
        return RawChunks() if raw else Unchunked()
    return EofBody()


def chunk(payload: bytes) -> bytes:
    """``payload`` (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


LAST_CHUNK = b"0\r\n\r\n"
