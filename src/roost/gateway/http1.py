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

_BAD_LINE = re.compile(rb"\r\n(?![!#$%&'*+\-.^_`|~0-9A-Za-z]+:)")
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")


class BrokenResponse(Exception):
    """The upstream's bytes are not an HTTP/1 response, or break off or contradict themselves."""


class ResponseHead:
    """A parsed response head: ``raw`` ends before the empty line. ``length`` is -1 when not announced."""

    __slots__ = ("chunked", "keep_alive", "length", "lower", "raw", "status")

    def __init__(self, raw: bytes) -> None:
        if raw[:7] != b"HTTP/1." or raw[8:9] != b" " or not raw[9:12].isdigit() or raw[12:13] not in (b" ", b"\r", b""):
            raise BrokenResponse("the status line is not HTTP/1")
        breaks = raw.count(b"\r\n")
        if raw.count(b"\n") != breaks or raw.count(b"\r") != breaks or b"\0" in raw or _BAD_LINE.search(raw):
            raise BrokenResponse("a header line is malformed")
        self.raw = raw
        self.lower = lower = raw.lower()
        self.status = int(raw[9:12])
        self.length = -1
        self.chunked = False
        length = self.value(b"content-length")
        coding = self.value(b"transfer-encoding")
        if length is not None:
            if coding is not None or not length.isdigit() or len(length) > 15:
                raise BrokenResponse("the body's length is ambiguous")
            self.length = int(length)
        elif coding is not None:
            if coding != b"chunked":
                raise BrokenResponse("the transfer coding is not chunked")
            self.chunked = True
        connection = self.value(b"connection") if b"\r\nconnection:" in lower else None
        self.keep_alive = connection != b"close" if raw[7:8] == b"1" else connection == b"keep-alive"

    def value(self, name: bytes) -> bytes | None:
        """The value of the header ``name`` (lower case), in lower case; None when absent.

        Raises ``BrokenResponse`` when it stands there twice with different values.
        """
        lower = self.lower
        start = lower.find(b"\r\n" + name + b":")
        if start < 0:
            return None
        value = self._at(start, len(name))
        last = lower.rfind(b"\r\n" + name + b":")
        if last != start and self._at(last, len(name)) != value:
            raise BrokenResponse(f"{name.decode()} is there twice")
        return value

    def _at(self, start: int, width: int) -> bytes:
        end = self.lower.find(b"\r\n", start + 2)
        return self.lower[start + width + 3 : end if end >= 0 else None].strip(b" \t")

    def lines_without(self, names: tuple[bytes, ...]) -> bytes:
        """The header lines (each begins with CR LF) without those named (lower case)."""
        start = self.raw.find(b"\r\n")
        if start < 0:
            return b""
        raw, lower = self.raw[start:], self.lower[start:]
        for name in names:
            needle = b"\r\n" + name + b":"
            at = lower.find(needle)
            while at >= 0:
                end = lower.find(b"\r\n", at + 2)
                if end < 0:
                    end = len(lower)
                raw = raw[:at] + raw[end:]
                lower = lower[:at] + lower[end:]
                at = lower.find(needle)
        return raw


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
    """A chunked body passed on with its framing untouched, cut at chunk boundaries."""

    __slots__ = ("aligned", "done", "excess", "held", "left")

    def __init__(self) -> None:
        self.done, self.excess, self.aligned = False, False, True
        self.held = b""
        self.left = 0  # bytes owed (with the closing CR LF) of a long chunk that is passed on in pieces

    def feed(self, data: bytes) -> bytes:
        """All complete chunks so far; an incomplete one waits unless it is long."""
        if self.held:
            data = self.held + data
            self.held = b""
        at, size = 0, len(data)
        if self.left:
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
                return data[:end]
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
        return data


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
    return end + 4 if end >= 0 else -1


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
