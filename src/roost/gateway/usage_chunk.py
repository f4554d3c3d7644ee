"""Events that the gateway asks an engine for where the client did not, and takes out of the stream again. Pure and sans
I/O.

The usage, of engines that tell it only to who asks. And llama.cpp's progress with long prompts: it looks for clients
that are gone when it has something to write to them, else only when no request at all has had an event for a second.

Used by ``classic``, ``exchange`` and ``survive`` (the asking), ``attempt`` and ``shaping`` (the taking out). It must
never take out anything else, and cost a stream's pieces next to nothing: nearly all of them pass unread.
"""

from __future__ import annotations

import re
from typing import Any

from roost.gateway import engine_json
from roost.gateway.http1 import LAST_CHUNK, MAX_HELD_CHUNK, BrokenResponse, Unchunked, chunk
from roost.gateway.sse import EventTooLong, Splitter, data_of
from roost.gateway.tokens import Tokens, tokens_of

LONG_PROMPT = 2048
"""Bytes of a request from which on its prompt may take long: llama.cpp is asked for its progress."""
PROGRESS = "return_progress"

_ASKED = b'{"stream_options":{"include_usage":true},'
_PROGRESS_ASKED = b'{"return_progress":true,'
_PROGRESS = b'"prompt_progress"'
_COMMENT = b":\n\n"
_BORDER = b"\n\n\r\n"
_EMPTY = b"[]"
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')


def with_usage_asked(options: Any) -> dict[str, Any]:
    """The ``stream_options`` that ask for the usage once, at the end, beside what they ask for already."""
    asked = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    # vLLM would now put it on each chunk, which without the usage it did not.
    if "continuous_usage_stats" in asked:
        asked["continuous_usage_stats"] = False
    return asked


def asking(payload: bytes, body: dict[str, Any]) -> bytes:
    """The request ``payload`` (``body`` as JSON) that asks for the usage, without encoding it anew."""
    if "stream_options" in body:
        return payload  # it asks already: the client's options had to be changed
    return _ASKED + payload[payload.find(b"{") + 1 :]


def asking_for_progress(payload: bytes) -> bytes:
    """The request ``payload`` that asks llama.cpp for its progress."""
    return _PROGRESS_ASKED + payload[payload.find(b"{") + 1 :]


class WithoutUsage:
    """A stream of events without the usage chunk. ``tokens`` is what that told, once it has come."""

    __slots__ = ("_splitter", "tokens")

    instead = b""
    """What is sent for what is taken out."""

    def __init__(self) -> None:
        self._splitter = Splitter()
        self.tokens: Tokens | None = None

    def feed(self, data: bytes) -> bytes:
        """The bytes to send for ``data``: whole events. Raises ``EventTooLong``."""
        return b"".join([self.instead if self._tells(event) else event for event in self._splitter.feed(data)])

    def end(self) -> bytes:
        """What is left at the end of the stream."""
        return self._splitter.rest()

    @property
    def aligned(self) -> bool:
        """Whether all that came so far were whole events."""
        return self._splitter.empty

    @staticmethod
    def may_tell(data: bytes) -> bool:
        """Whether one of the whole events in ``data`` may have to be taken out: quick, and right in saying no."""
        return data.rfind(_EMPTY) >= 0 and _NO_CHOICES.search(data) is not None

    def _tells(self, event: bytes) -> bool:
        if _NO_CHOICES.search(event) is None:
            return False
        try:
            value = engine_json.loads(data_of(event))
        except ValueError:
            return False
        if not isinstance(value, dict) or value.get("choices") != [] or not isinstance(value.get("usage"), dict):
            return False
        self.tokens = tokens_of(value["usage"])
        return True


class WithoutProgress(WithoutUsage):
    """A stream of events with comments in the place of the progress with its prompt."""

    __slots__ = ()

    instead = _COMMENT

    @staticmethod
    def may_tell(data: bytes) -> bool:
        """See ``WithoutUsage``."""
        return data.find(_PROGRESS) >= 0

    def _tells(self, event: bytes) -> bool:
        if not self.may_tell(event):
            return False
        try:
            value = engine_json.loads(data_of(event))
        except ValueError:
            return False
        return isinstance(value, dict) and "prompt_progress" in value


class RawWithout:
    """The same for a stream in HTTP's chunks, which pass as they are as long as each ends with an event."""

    __slots__ = ("_chunks", "_events")

    def __init__(self, events: WithoutUsage) -> None:
        self._events = events
        self._chunks: Unchunked | None = None  # set from an event that is not complete until the next border

    @property
    def tokens(self) -> Tokens | None:
        """What the usage chunk told, once it has come."""
        return self._events.tokens

    def feed(self, data: bytes) -> bytes:
        """The bytes to send for ``data``, which are whole chunks, or parts of a long one. Raises ``BrokenResponse``."""
        if (
            self._chunks is None
            and data.endswith(_BORDER)
            and len(data) <= MAX_HELD_CHUNK
            and ((returns := data.count(b"\r")) == 2 or returns == 2 * data.count(_BORDER))
            and not self._events.may_tell(data)
        ):
            return data
        return self._read(data)

    def end(self) -> bytes:
        """What is left where the stream breaks off or ends: nothing that could be sent as a whole event."""
        rest = self._events.end()
        return chunk(rest) if rest else b""

    def _read(self, data: bytes) -> bytes:
        fresh = self._chunks is None
        chunks = self._chunks or Unchunked()
        payload = chunks.feed(data)
        try:
            kept = self._events.feed(payload)
        except EventTooLong:
            raise BrokenResponse("an event of the stream is too long") from None
        if chunks.done:
            rest = self._events.end()
            self._chunks = None
            if fresh and len(kept) + len(rest) == len(payload):
                return data
            kept += rest
            return (chunk(kept) if kept else b"") + LAST_CHUNK
        aligned = self._events.aligned and not chunks.left and not chunks.held
        self._chunks = None if aligned else chunks
        if fresh and aligned and len(kept) == len(payload):
            return data
        return chunk(kept) if kept else b""
