"""Server-sent events in a byte stream: splitting, and the changes the classic SDKs need. Sans I/O.

Used by ``shaping``. Events are changed by splicing bytes; it must never decode the JSON of an event that it only passes
on.
"""

from __future__ import annotations

import re

MAX_EVENT = 16 * 1024 * 1024
"""A longer event is refused."""

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_DATA = re.compile(rb"(?:^|\r\n|\n|\r)data:[ ]?([^\r\n]*)")
_DELTA = re.compile(rb'"delta"\s*:\s*\{\s*')
_TEXT = re.compile(rb'"text"\s*:\s*("(?:[^"\\]|\\.)*")')
_ROLE_NULL = re.compile(rb'"role"\s*:\s*null')
_ROLE = re.compile(rb'"role"\s*:')
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_USAGE = re.compile(rb'"usage"\s*:\s*(\{)')

DONE = b"[DONE]"


class EventTooLong(Exception):
    """An event exceeds ``MAX_EVENT``."""


class Splitter:
    """Cuts a stream into events, each with its closing empty line."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete now. Raises ``EventTooLong``."""
        held = len(self._held)
        if held:
            data = self._held + data
        events: list[bytes] = []
        at = 0
        # The end may straddle what was held: look again at its last three bytes only.
        search = max(0, held - 3)
        while True:
            match = _END.search(data, search)
            if match is None:
                break
            events.append(data[at : match.end()])
            at = search = match.end()
        self._held = data[at:] if at else data
        if len(self._held) > MAX_EVENT:
            raise EventTooLong
        return events

    @property
    def empty(self) -> bool:
        """Whether nothing waits for the end of its event."""
        return not self._held

    def rest(self) -> bytes:
        """What came after the last complete event; the splitter is empty afterwards."""
        held, self._held = self._held, b""
        return held


def data_of(event: bytes) -> bytes:
    """The event's data, b"" for a comment."""
    if event.startswith(b"data: ") and event.count(b"\n") == 2 and event.endswith(b"\n\n"):
        return event[6:-2]
    return b"\n".join(_DATA.findall(event))


def whole_events(data: bytes) -> bytes:
    """``data`` without the incomplete event at its end."""
    return data[: max((match.end() for match in _END.finditer(data)), default=0)]


def with_roles(event: bytes) -> bytes:
    """The event with ``delta.role`` in every choice, and a ``delta`` where there is only a text."""
    starts = [match.end() for match in _DELTA.finditer(event)]
    if not starts:
        return with_delta(event)
    ends = [*starts[1:], len(event)]
    pieces = [event[: starts[0]]]
    for start, end in zip(starts, ends, strict=True):
        part = event[start:end]
        if _ROLE_NULL.search(part):
            part = _ROLE_NULL.sub(b'"role":"assistant"', part)
        elif not _ROLE.search(part):
            part = b'"role":"assistant"' + (b"" if part.startswith(b"}") else b",") + part
        pieces.append(part)
    return b"".join(pieces)


def usage_of(event: bytes) -> bytes | None:
    """The JSON object of the event's ``usage``, None when it has none (or null)."""
    match = _USAGE.search(event)
    if match is None:
        return None
    start = match.start(1)
    depth, at = 0, start
    while at < len(event):
        char = event[at : at + 1]
        if char == b"{":
            depth += 1
        elif char == b"}":
            depth -= 1
            if depth == 0:
                return event[start : at + 1]
        at += 1
    return None


def with_usage(event: bytes, usage: bytes) -> bytes:
    """The event (one JSON object as data) with ``usage`` in it."""
    end = event.rfind(b"}")
    if end < 0:
        return event
    event = re.sub(rb',\s*"usage"\s*:\s*null', b"", event[:end]) + event[end:]
    end = event.rfind(b"}")
    return event[:end] + b',"usage":' + usage + event[end:]


def with_delta(event: bytes) -> bytes:
    """An event of a text completion with its text as ``delta``, too, where the classic SDKs look for it."""
    return _TEXT.sub(rb'\g<0>,"delta":{"role":"assistant","content":\g<1>}', event)


class ClassicStream:
    """A stream in the classic SDKs' shape: a role in every delta, text as ``delta`` too, and the usage on the last
    chunk.

    ``wants_usage_chunk`` keeps the extra chunk with empty choices for clients that asked for it.
    """

    __slots__ = ("_last", "_splitter", "_wants_usage_chunk")

    def __init__(self, wants_usage_chunk: bool) -> None:
        self._splitter = Splitter()
        self._last = b""
        self._wants_usage_chunk = wants_usage_chunk

    def feed(self, data: bytes) -> bytes:
        """The bytes to send for ``data``. Raises ``EventTooLong``."""
        return b"".join([self._event(event) for event in self._splitter.feed(data)])

    def end(self) -> bytes:
        """What is left at the end of the stream, or before an error frame."""
        last, self._last = self._last, b""
        return last + self._splitter.rest()

    def _event(self, event: bytes) -> bytes:
        if event.startswith(b":"):
            return event
        last = self._last
        if last:
            self._last = b""
            usage = usage_of(event) if _NO_CHOICES.search(event) else None
            if usage is not None:
                last = with_usage(last, usage) if usage_of(last) is None else last
                return last + (event if self._wants_usage_chunk else b"")
            return last + self._event(event)
        if not event.startswith(b"data:"):
            return event
        if _NO_CHOICES.search(event) and not self._wants_usage_chunk and usage_of(event) is not None:
            return b""
        event = with_roles(event)
        if _FINISHED.search(event):
            self._last = event
            return b""
        return event
