"""What a client already has of a streamed answer, kept so that another replica can go on from it. Sans I/O.

Used by ``attempt`` for the streams that ``continuation`` finds fit, for each piece that it passes on: it must cost next
to nothing. So the pieces themselves are kept, and every few of them are boiled down to their texts, as JSON has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from roost.gateway import engine_json
from roost.gateway.http1 import BrokenResponse, Unchunked
from roost.gateway.sse import DONE, EventTooLong, Splitter, data_of, whole_events

MOST_PIECES = 8
"""So many pieces are kept as they are before they are boiled down: about 2 KB of a stream's memory."""
MOST_HELD = 64 * 1024
"""An event that comes in pieces is held back up to this many bytes; a longer one makes the stream unfit."""
MOST_ENDING = 64 * 1024
MOST_TEXT = 4 * 1024 * 1024
"""Bytes of text after which nothing is kept any more: no context holds it."""

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
    """The record of one answer. ``fit`` becomes False when it cannot be told any more what the client has."""

    __slots__ = ("_ending", "_first", "_held", "_mark", "_pieces", "_plain", "_text", "_tokens", "fit")

    def __init__(self, *, chat: bool) -> None:
        self.fit = True
        self._mark = b'"content":"' if chat else b'"text":"'
        self._pieces: list[bytes] = []
        self._text = bytearray()  # as in JSON, without the quotes
        self._tokens = 0
        self._first = self._held = self._ending = b""
        self._plain = True

    def take(self, data: bytes) -> bytes:
        """Remember ``data``, whole chunks, and give back what of it may go to the client now: whole events, so that
        another stream can follow."""
        if self._held:
            data = self._held + data
            self._held = b""
        if not data.endswith(BORDERS) or (data.endswith(_ALONE) and not data.endswith(_AFTER_LINE)):
            return self._hold(data)
        pieces = self._pieces
        pieces.append(data)
        if len(pieces) >= MOST_PIECES:
            self._boil_down()
        return data

    def _hold(self, data: bytes) -> bytes:
        if len(data) <= MOST_HELD and self.fit:
            self._held = data
            return b""
        self.fit = False
        return data

    def rest(self) -> bytes:
        """What was held back, at the answer's end."""
        held, self._held = self._held, b""
        return held

    def said(self) -> Said | None:
        """What the client has; None when that cannot be told. What was held back is forgotten: it never had it."""
        self._held = b""
        self._boil_down()
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

    def _boil_down(self) -> None:
        pieces = self._pieces
        data, count = b"".join(pieces), len(pieces)
        pieces.clear()
        if not data or not self.fit:
            return
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
        if simple and self._plain and (b"\\" not in data or b'\\"' not in data):
            texts = [part[: part.find(b'"')] for part in data.split(self._mark)[1:]]
            finished = _FINISHED in data
        else:
            texts, finished = self._read(data)
        self._tokens += len(texts) - texts.count(b"")
        self._text += b"".join(texts)
        if finished:
            self._ending = data
        if len(self._text) > MOST_TEXT:
            self.fit = False

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
            # Thoughts come before all text, and no engine takes them back.
            self.fit = self.fit and _THOUGHTS not in data

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
