"""Server-sent events, of a chat completion or of logs, as bytes in and values out. No I/O; called by the shells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from roost.client.errors import ApiError, ConnectionFailed, UnexpectedAnswer


@dataclass(frozen=True, slots=True)
class ChatChunk:
    """One event of a stream: the ``text`` it adds (may be empty), why the answer ended, and the usage at the end."""

    text: str
    finish_reason: str | None = None
    completion_tokens: int | None = None
    prompt_tokens: int | None = None


class EventDecoder:
    """Splits a byte stream into the data of server-sent events; comments and other fields are dropped."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The data of every event that ``data`` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if not line:
                if self._data:
                    yield b"\n".join(self._data)
                    self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))


class ChatStream:
    """The chunks of one streamed answer; ``ended`` once its end mark has come."""

    def __init__(self) -> None:
        self._decoder = EventDecoder()
        self.ended = False

    def feed(self, data: bytes) -> Iterator[ChatChunk]:
        """The chunks that ``data`` completes. Raises ``ApiError`` for an error frame, ``UnexpectedAnswer``."""
        for event in self._decoder.feed(data):
            chunk = parse_event(event)
            if chunk is None:
                self.ended = True
                return
            yield chunk

    def close(self) -> None:
        """Say that no more bytes come. Raises ``ConnectionFailed`` when the end mark has not."""
        if not self.ended:
            raise ConnectionFailed("The stream ended before the answer was complete.")


def parse_event(data: bytes) -> ChatChunk | None:
    """The chunk of one event, None for the end mark. Raises ``ApiError`` for an error frame, ``UnexpectedAnswer``."""
    return None if data.strip() == b"[DONE]" else _chunk(event_object(data))


def event_object(data: bytes) -> dict[str, Any]:
    """The JSON object of one event. Raises ``ApiError`` for an error frame, ``UnexpectedAnswer``."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise UnexpectedAnswer("The stream holds an event that is not JSON.") from error
    if not isinstance(value, dict):
        raise UnexpectedAnswer("The stream holds an event that is not a JSON object.")
    failure = value.get("error")
    if isinstance(failure, dict):
        raise ApiError(
            str(failure.get("message") or "The server ended the stream with an error."),
            status=200,
            type=failure.get("type"),
            code=failure.get("code"),
            param=failure.get("param"),
        )
    return value


def _chunk(value: dict[str, Any]) -> ChatChunk:
    choices = value.get("choices") or [{}]
    choice = choices[0] if isinstance(choices[0], dict) else {}
    delta = choice.get("delta") or {}
    usage = value.get("usage") or {}
    return ChatChunk(
        text=delta.get("content") or "",
        finish_reason=choice.get("finish_reason"),
        completion_tokens=usage.get("completion_tokens"),
        prompt_tokens=usage.get("prompt_tokens"),
    )
