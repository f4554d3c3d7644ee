"""What a client already has of a streamed answer, kept so that another replica can go on from it. Sans I/O.

Used by ``attempt`` for the streams that ``continuation`` finds fit, for each piece that it passes on: it must cost next
to nothing. So the pieces themselves are kept, and every few of them are boiled down to their texts as JSON has them.
Once a stream's usual event is known, that is two cuts in each piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from roost.gateway import engine_json
from roost.gateway.http1 import BrokenResponse, Unchunked
from roost.gateway.sse import DONE, EventTooLong, Splitter, data_of, whole_events

MOST_SIZE = 1400
"""Bytes of pieces that are kept as they are before they are boiled down: few, since many streams share the caches."""
KEPT_PIECES = 4
"""So many of the last pieces stay then: what a stream's end tells of its tokens is in them."""
MOST_HELD = 64 * 1024
"""An event that comes in pieces is held back up to this many bytes; a longer one makes the stream unfit."""
MOST_ENDING = 64 * 1024
MOST_TEXT = 4 * 1024 * 1024
"""Bytes of text after which nothing is kept any more: no context holds it."""

_USUAL = b"}\n\n\r\n"
"""How chunks end that end with an event of JSON, whatever they are: no chunk that is a line end only looks so."""
BORDERS = (b"\n\n\r\n", b"\n\r\n\r\n", b"\n0\r\n\r\n")
"""How chunks end that end with an event, and the last chunk."""
_ALONE = (b"1\r\n\n\r\n", b"2\r\n\r\n\r\n")
"""Chunks that are a line end only look so, too."""
_AFTER_LINE = (b"\n\r\n1\r\n\n\r\n", b"\n\r\n2\r\n\r\n\r\n")
"""And are right in it after a line's end."""
_PLAIN = b'"choices":['
_FINISHED = b'"finish_reason":"'
_THOUGHTS = b'"reasoning_content":"'


@dataclass(frozen=True, slots=True)
class Said:
    """What the client has. ``text`` is all of it, in about ``tokens`` tokens (one for each event that brought text).
    ``start`` holds the fields that are the same in every chunk (empty when there was none yet). ``finished`` says that
    the reason of its end is told, ``counted`` that the usage is, ``done`` that the end of the events is."""

    text: str
    tokens: int
    start: dict[str, Any]
    finished: bool = False
    counted: bool = False
    done: bool = False


class Emitted:
    """The record of one answer. ``fit`` becomes False when it cannot be told any more what the client has.

    A piece that ends with ``usual`` while nothing is ``held`` may be put into ``pieces`` without ``take``, by who calls
    ``boil_down`` every ``MOST_SIZE`` bytes."""

    __slots__ = (
        "_before",
        "_boiled",
        "_ending",
        "_first",
        "_mark",
        "_odd",
        "_plain",
        "_size",
        "_text",
        "_tokens",
        "fit",
        "held",
        "pieces",
        "usual",
    )

    def __init__(self, *, chat: bool) -> None:
        self.fit = True
        self._mark = b'"content":"' if chat else b'"text":"'
        self.pieces: list[bytes] = []
        self._boiled = 0  # so many of them are in the text already
        self._size = 0  # of those that ``take`` took since
        self._odd = False  # whether one of them may not end with ``usual``
        self.usual = _USUAL
        self._before = b""  # of the usual event: what comes before its text; empty until it is known
        self._text = bytearray()  # as in JSON, without the quotes
        self._tokens = 0
        self._first = self.held = self._ending = b""
        self._plain = True

    def take(self, data: bytes) -> bytes:
        """Remember ``data``, whole chunks, and give back what of it may go to the client now: whole events, so that
        another stream can follow."""
        if self.held:
            data = self.held + data
            self.held = b""
        if not data.endswith(BORDERS) or (data.endswith(_ALONE) and not data.endswith(_AFTER_LINE)):
            return self._hold(data)
        self.pieces.append(data)
        self._odd = True
        self._size += len(data)
        if self._size >= MOST_SIZE:
            self.boil_down()
        return data

    def _hold(self, data: bytes) -> bytes:
        if len(data) <= MOST_HELD and self.fit:
            self.held = data
            return b""
        self.fit = False
        return data

    def rest(self) -> bytes:
        """What was held back, at the answer's end."""
        held, self.held = self.held, b""
        return held

    def said(self) -> Said | None:
        """What the client has; None when that cannot be told. What was held back is forgotten: it never had it."""
        self.held = b""
        self.boil_down()
        if not self.fit:
            return None
        try:
            text = engine_json.loads(b'"%b"' % bytes(self._text))
            text.encode()
            start = _start_of(self._first)
        except ValueError:
            return None
        ending = self._ending
        done = b"\ndata: [DONE]" in ending or b"\ndata:[DONE]" in ending
        counted = b'"usage":{' in ending or b'"usage": {' in ending
        return Said(text, self._tokens, start, bool(ending), counted, done)

    def boil_down(self) -> None:
        """Take the texts out of the pieces, of which the last few stay."""
        pieces = self.pieces[self._boiled :]
        del self.pieces[:-KEPT_PIECES]
        self._boiled, self._size = len(self.pieces), 0
        odd, self._odd = self._odd, False
        if not self._before and len(pieces) > 1:
            # The first piece is not like the others.
            if not self._first:
                self._read_all(pieces[0], 1)
                del pieces[0]
            self._learn(pieces[-1])
            odd = not all(piece.endswith(self.usual) for piece in pieces)
        if not pieces or not self.fit:
            return
        if not self._before or odd or self._ending or not self._cut_out(pieces):
            self._read_all(b"".join(pieces), len(pieces))
        if len(self._text) > MOST_TEXT:
            self.fit = False

    def _cut_out(self, pieces: list[bytes]) -> bool:
        # What comes before and after a text is known to the byte, so what is between can only be the text: unless it
        # has quotes, which may be its end. The size in front of a chunk has two digits up to 255, and else three.
        before, end = self._before, -len(self.usual)
        size = len(before)
        texts = [
            piece[at + size : end] for piece in pieces if piece.startswith(before, at := 4 if len(piece) < 262 else 5)
        ]
        text = b"".join(texts)
        if len(texts) != len(pieces) or b'"' in text:
            return False
        if b"\\" in text and any(each.endswith(b"\\") for each in texts):
            return False
        self._tokens += len(texts) - texts.count(b"")
        self._text += text
        return True

    def _learn(self, piece: bytes) -> None:
        """Take the event in ``piece`` for the usual one, if it is one that can be."""
        start = piece.find(b"\r\n") + 2
        at = piece.find(self._mark) + len(self._mark)
        end = piece.find(b'"', at)
        before, after = piece[start:at], piece[end:]
        if not self._plain or piece.count(self._mark) != 1 or b"\\" in piece or not after.endswith(_USUAL):
            return
        if not before.startswith(b"data: ") or b"\n" in before or after.count(b"\n") != 3:
            return
        try:
            if _said_in(engine_json.loads(b"%bx%b" % (before[6:], after[:-4]))) == (b"x", False):
                self._before, self.usual = before, after
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return

    def _read_all(self, data: bytes, count: int) -> None:
        if self._ending:
            self._ending += data
            self.fit = len(self._ending) <= MOST_ENDING
            return
        # Every chunk ends with an event (those that came alone do): else one may be in two pieces, with the framing in
        # between. What is looked for is what Python finds quickest.
        returns = data.count(b"\r")
        simple = self._plain and (returns == 2 * count or returns == 2 * data.count(b"\n\n\r\n"))
        if not self._first:
            self._begin(data, simple)
        # No engine takes thoughts back.
        self.fit = self.fit and _THOUGHTS not in data
        if simple and self._plain and (b"\\" not in data or b'\\"' not in data):
            texts = [part[: part.find(b'"')] for part in data.split(self._mark)[1:]]
            finished = _FINISHED in data
        else:
            texts, finished = self._read(data)
        self._tokens += len(texts) - texts.count(b"")
        self._text += b"".join(texts)
        if finished:
            self._ending = data

    def _begin(self, data: bytes, simple: bool) -> None:
        at = data.find(b"data: ")
        if simple and at >= 0:
            self._first = data[at : data.find(b"\n\n", at) + 2]
        else:
            try:
                self._first = next((event for event in _events(data) if data_of(event)), b"")
            except ValueError:
                self.fit = False
        if self._first:
            self._plain = _PLAIN in self._first

    def _read(self, data: bytes) -> tuple[list[bytes], bool]:
        texts, finished = [], False
        try:
            for event in _events(data):
                value = data_of(event)
                if not value or value == DONE:
                    continue
                text, ended = _said_in(engine_json.loads(value))
                texts.append(text)
                finished = finished or ended
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            self.fit = False
        return texts, finished


def _events(data: bytes) -> list[bytes]:
    """The events in whole chunks. Those that come to an end only."""
    try:
        return Splitter().feed(whole_events(Unchunked().feed(data)))
    except (BrokenResponse, EventTooLong) as error:
        raise ValueError(str(error)) from None


def _said_in(chunk: dict[str, Any]) -> tuple[bytes, bool]:
    """The text of a chunk as in JSON, without quotes, and whether it tells the end. Raises what nonsense raises."""
    choices = chunk.get("choices") or []
    if not choices:
        return b"", False
    (choice,) = choices
    delta = choice.get("delta") or {}
    if delta.get("reasoning_content") or delta.get("tool_calls"):
        raise ValueError("more than text")
    text = delta.get("content") if "delta" in choice and "text" not in choice else choice.get("text")
    return engine_json.dumps(text or "")[1:-1], choice.get("finish_reason") is not None


def _start_of(event: bytes) -> dict[str, Any]:
    if not event:
        return {}
    value = engine_json.loads(data_of(event))
    if not isinstance(value, dict):
        raise ValueError("a chunk is no object")
    return {name: value[name] for name in ("id", "object", "created", "model", "system_fingerprint") if name in value}
