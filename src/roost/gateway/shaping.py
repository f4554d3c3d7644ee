"""What becomes of an upstream's body on its way to the client when it cannot be passed on with its framing untouched.

Used by ``exchange``. ``Reframed`` streams; ``Collected`` waits for the end and yields one answer. Neither does I/O.
"""

from __future__ import annotations

import re
from typing import Any

from roost.gateway import engine_json
from roost.gateway.aggregate import Aggregator
from roost.gateway.answers import Refusal
from roost.gateway.chunks import DecodedStream
from roost.gateway.classic import Adapted
from roost.gateway.continuation import Joined, Repeated
from roost.gateway.http1 import LAST_CHUNK, BrokenResponse, ResponseHead, chunk
from roost.gateway.shape import shape_answer
from roost.gateway.sse import DONE, ClassicStream, EventTooLong, Splitter, data_of, whole_events
from roost.gateway.tokens import Tokens, tokens_of
from roost.gateway.usage_chunk import WithoutProgress, WithoutUsage

MAX_ANSWER = 64 * 1024 * 1024
"""Largest answer that is collected."""

_NONSENSE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What shaping runs into when an engine's JSON is not what its API says: the engine's fault, whatever it is."""
_SERVER_FAULT = Refusal(502, "The engine's answer could not be read.", "bad_upstream_answer")

_CALLERS_FAULT = re.compile(r"Failed to parse (messages|tools)|\S+ input is not supported|.* is too large to process")
"""What llama.cpp answers with status 500 although the request is at fault."""
_FIELD = re.compile(r"Field '(\w+)': (?:\[json\.exception\.[\w.]+\] )?")
_MISSING = re.compile(
    r"'(\w+)' is required$|\[json\.exception\.[\w.]+\] key '(\w+)' not found|\"(\w+)\" must be provided"
)
_NAMED = re.compile(r"Expected '(\w+)' to be |\"(\w+)\" (?:elements )?must ")
"""How llama.cpp names the parameter at fault."""
_PROMPT_TOO_LONG = re.compile(r"request \((\d+) tokens\) exceeds the available context size \((\d+) tokens\)")
_TOO_LONG = ("exceed_context_size_error", "is too large to process")


class Reframed:
    """A streamed body in new framing: chunks, or none where the client ends with the connection (``chunked`` False)."""

    __slots__ = ("_chunked", "_splice")

    def __init__(self, *, chunked: bool, splice: Splice | None = None) -> None:
        self._chunked = chunked
        self._splice = splice

    def feed(self, payload: bytes) -> bytes:
        """The bytes to send. Raises ``BrokenResponse``."""
        if self._splice is not None:
            try:
                payload = self._splice.feed(payload)
            except EventTooLong:
                raise BrokenResponse("an event of the stream is too long") from None
            except _NONSENSE:
                raise BrokenResponse("an event of the stream could not be read") from None
        return self._framed(payload)

    def end(self, extra: bytes = b"") -> bytes:
        """What is left, then the end of the framing. With ``extra``, a last event after a stream that broke off, it
        takes the place of an incomplete one, or at least ends that."""
        if self._splice is None:
            rest = b"\n\n" + extra if extra else b""
        else:
            rest = self._splice.end()
            rest = whole_events(rest) + extra if extra else rest
        return self._framed(rest) + (LAST_CHUNK if self._chunked else b"")

    def tokens(self) -> Tokens | None:
        """The sum over the answer's choices, where there are several; None: the end of the stream tells."""
        splice = self._splice
        decoded = splice.decoded if isinstance(splice, Spliced) else splice
        return decoded.tokens() if isinstance(decoded, DecodedStream) else None

    def _framed(self, payload: bytes) -> bytes:
        return chunk(payload) if payload and self._chunked else payload


class Spliced:
    """A stream that is read first and then put into the classic SDKs' shape, or rid of its usage."""

    __slots__ = ("_then", "decoded")

    def __init__(
        self, decoded: DecodedStream | Joined | Repeated | WithoutProgress, then: ClassicStream | WithoutUsage
    ) -> None:
        self.decoded = decoded
        self._then = then

    def feed(self, data: bytes) -> bytes:
        """The bytes to send for ``data``. Raises ``EventTooLong``, ``ValueError``."""
        return self._then.feed(self.decoded.feed(data))

    def end(self) -> bytes:
        """What is left at the end of the stream."""
        return self._then.end() + self.decoded.end()


Splice = ClassicStream | DecodedStream | Joined | Repeated | Spliced | WithoutUsage


def splice_of(adapted: Adapted, joined: Joined | Repeated | None = None) -> Splice | None:
    """What a stream of chat or completions has to go through; None: it passes as it is. ``joined`` where it goes on
    with one that was lost, which had no ``shape``."""
    then: ClassicStream | WithoutUsage | None = None
    if adapted.classic:
        then = ClassicStream(adapted.wants_usage_chunk)
    elif adapted.asks_usage:
        then = WithoutUsage()
    decoded: DecodedStream | Joined | Repeated | WithoutProgress | None = joined
    if adapted.shape is not None:
        decoded = DecodedStream(adapted.shape)
    elif joined is None and adapted.asks_progress:
        decoded = WithoutProgress()
    if decoded is None or then is None:
        return decoded or then
    return Spliced(decoded, then)


class Collected:
    """A body that is answered as a whole: an error, a classic answer, or an aggregated stream."""

    __slots__ = (
        "_adapted",
        "_aggregator",
        "_classic",
        "_done",
        "_pieces",
        "_size",
        "_splitter",
        "events",
        "head",
        "tokens",
    )

    def __init__(self, head: ResponseHead, adapted: Adapted, *, chat: bool, classic: bool) -> None:
        self.head = head
        self._adapted = adapted
        self._classic = classic
        self._pieces: list[bytes] = []
        self._size = 0
        self._done = False
        self.events = 0
        """Of the stream so far, if it is one."""
        self.tokens: Tokens | None = None
        """What the answer told, once it was asked for."""
        streamed = adapted.aggregate and head.status < 300 and is_event_stream(head)
        shape = adapted.shape
        counts = (shape.choices, shape.per_prompt) if shape is not None else (1, 1)
        several, per_prompt = counts
        self._aggregator = Aggregator(chat=chat, choices=several, per_prompt=per_prompt) if streamed else None
        self._splitter = Splitter()

    @property
    def computed(self) -> bool:
        """Whether there is some output, once a part has come: the prompt has been computed."""
        return self._aggregator is None or self.events > 0

    def feed(self, payload: bytes) -> None:
        """Take in a part. Raises ``BrokenResponse``."""
        self._size += len(payload)
        if self._size > MAX_ANSWER:
            raise BrokenResponse("the answer is too large")
        if self._aggregator is None:
            self._pieces.append(payload)
            return
        try:
            for event in self._splitter.feed(payload):
                self._event(self._aggregator, data_of(event))
        except (EventTooLong, *_NONSENSE):
            raise BrokenResponse("an event of the stream could not be read") from None

    def _event(self, aggregator: Aggregator, data: bytes) -> None:
        if not data:
            return
        if data == DONE:
            self._done = True
            return
        if WithoutProgress.may_tell(data):
            return  # of a prompt: no part of an answer is with it
        self.events += 1
        aggregator.add(engine_json.loads(data))

    def answer(self) -> tuple[int, bytes] | Refusal:
        """Status and body of the answer. Raises ``BrokenResponse`` when the stream ended before its end."""
        try:
            return self._answer()
        except _NONSENSE:
            return _SERVER_FAULT

    def _answer(self) -> tuple[int, bytes] | Refusal:
        status = self.head.status
        if self._aggregator is not None:
            if self._aggregator.error is not None:
                return _stream_error(self._aggregator.error)
            if not self._done and not self._aggregator.finished():
                raise BrokenResponse("the stream ended before its end")
            return self._shaped(status, self._aggregator.result())
        body = b"".join(self._pieces)
        if status >= 300:
            return reenveloped(status, body, self.head)
        value = engine_json.loads(body)
        return self._shaped(status, value) if isinstance(value, dict) else (status, body)

    def _shaped(self, status: int, value: dict[str, Any]) -> tuple[int, bytes] | Refusal:
        adapted = self._adapted
        self.tokens = tokens_of(value.get("usage"))
        if adapted.shape is not None:
            shape_answer(value, adapted.shape)
        if adapted.vectors is not None:
            refusal = adapted.vectors.apply(value)
            if refusal is not None:
                return refusal
        elif self._classic:
            value.setdefault("prompt", [])
        return status, engine_json.dumps(value)


def is_event_stream(head: ResponseHead) -> bool:
    """Whether the body is a stream of server-sent events."""
    return (head.value(b"content-type") or b"").startswith(b"text/event-stream")


def _stream_error(error: dict[str, Any]) -> Refusal:
    code = error.get("code")
    status = code if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599 else 500
    return _refusal(status, error, None)


def reenveloped(status: int, body: bytes, head: ResponseHead) -> Refusal:
    """An upstream's error answer in the envelope."""
    try:
        value = engine_json.loads(body)
    except ValueError:
        value = None
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        message = value.get("message") or value.get("detail") if isinstance(value, dict) else None
        error = {"message": message if isinstance(message, str) else f"The engine answered with status {status}."}
    after = head.value(b"retry-after")
    return _refusal(status, error, float(after) if after is not None and after.isdigit() and len(after) < 9 else None)


def _refusal(status: int, error: dict[str, Any], retry_after: float | None) -> Refusal:
    text = _text(error.get("message")) or f"The engine answered with status {status}."
    code, kind = _text(error.get("code")), _text(error.get("type"))
    word = code if code is not None else kind
    if status in (401, 403) or status < 400:
        # The caller's key is good: the upstream did not like ours, or sends us elsewhere.
        return Refusal(
            502, f"The engine refused the request with status {status}.", "upstream_refused", should_retry=False
        )
    field = _FIELD.match(text)
    if field is not None:
        text = f"{field[1]}: {text[field.end() :]}"
    missing = _MISSING.match(text)
    if missing is not None:
        field, text, word = missing, f"{missing[missing.lastindex or 0]} is required.", "missing_field"
    if status == 500 and _CALLERS_FAULT.match(text):
        status, word = 400, "bad_value"
    if kind in _TOO_LONG or text.find(_TOO_LONG[1]) >= 0:
        word = "context_length_exceeded"
        text = _PROMPT_TOO_LONG.sub(_too_long, text.partition(", try increasing it")[0])
    if status in (404, 405, 422, 501):
        # The deployment exists: the engine lacks what was asked of it.
        status = 400
    if status in (429, 503) and retry_after is None:
        retry_after = 1.0
    field = field or _NAMED.match(text)
    param = _text(error.get("param")) or (field[field.lastindex or 0] if field is not None else None)
    return Refusal(status, text, word, param=param, retry_after=retry_after)


def _too_long(found: re.Match[str]) -> str:
    return (
        f"The prompt has {found[1]} tokens and the deployment takes {found[2]}: shorten it, or deploy with a larger "
        "context_length."
    )


def _text(value: Any) -> str | None:
    # A lone surrogate, which a stream's event may bring, cannot be sent.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None
