"""Streams whose chunks have to be read: log probabilities, several choices, prompts given back, forced tool calls.

Used by ``shaping`` for the few requests that need it. Sans I/O. It must never be put before a stream that could pass as
it is: each event is decoded and written again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from roost.gateway import engine_json
from roost.gateway.shape import (
    Logprobs,
    Shape,
    alternatives,
    call_in,
    classic_logprobs,
    hush,
    shape_logprobs,
    total_usage,
)
from roost.gateway.sse import DONE, Splitter, data_of
from roost.gateway.tokens import Tokens, tokens_of, usage_from


class DecodedStream:
    """A stream of chunks put into ``shape``."""

    __slots__ = ("_lengths", "_shape", "_splitter", "_texts", "_timed", "_top", "_usages")

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._splitter = Splitter()
        self._usages: list[tuple[int | None, dict[str, Any]]] = []
        self._timed: list[tuple[int | None, dict[str, Any]]] = []
        self._top: dict[str, Any] = {}
        self._texts: dict[int, str] = {}
        self._lengths: dict[int, int] = {}

    def feed(self, data: bytes) -> bytes:
        """The bytes to send for ``data``. Raises ``EventTooLong``, ``ValueError``."""
        return b"".join([self._event(event) for event in self._splitter.feed(data)])

    def end(self) -> bytes:
        """What is left at the end of the stream."""
        return self._splitter.rest()

    def _event(self, event: bytes) -> bytes:
        data = data_of(event)
        if not data:
            return event
        if data == DONE:
            return self._total() + event
        value = engine_json.loads(data)
        if value is None:
            return b""  # llama.cpp begins streams of several prompts with one
        if not isinstance(value, dict) or not isinstance(value.get("choices"), list):
            return event
        return b"".join([_written(chunk) for chunk in self._chunks(value)])

    def _chunks(self, value: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self._shape.silent:
            hush(value)
        choices = [choice for choice in value["choices"] if isinstance(choice, dict)]
        if self._shape.choices > 1 and isinstance(value.get("usage"), dict):
            self._usages.append((_index(choices[0]) if choices else None, value.pop("usage")))
            self._top = {name: item for name, item in value.items() if name != "choices"}
            if not choices:
                return
        elif self._shape.choices > 1 and isinstance(value.get("timings"), dict) and choices:
            # llama.cpp tells these at each choice's end, also to who did not ask for the usage.
            self._timed.append((_index(choices[0]), usage_from(value["timings"])))
        if self._shape.forced and self._shape.chat:
            yield from self._calls(value, choices)
            return
        for choice in choices:
            yield from self._with_logprobs(value, choice)
            if self._shape.echoed and isinstance(choice.get("text"), str):
                self._echo(choice)
        yield value

    def _echo(self, choice: dict[str, Any]) -> None:
        index = _index(choice)
        if index not in self._texts:
            self._texts[index] = ""
            choice["text"] = self._shape.prompt_of(index) + choice["text"]

    def _with_logprobs(self, value: dict[str, Any], choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
        # The classic SDKs have room for one token's number in a chunk: those before the last get chunks of their own.
        logprobs = choice.get("logprobs")
        if not isinstance(logprobs, dict):
            return
        content = logprobs.get("content")
        if self._shape.logprobs is not Logprobs.CLASSIC or not isinstance(content, list):
            choice["logprobs"] = shape_logprobs(logprobs, self._shape)
            return
        items = [item for item in content if isinstance(item, dict)]
        if not self._shape.classic:
            index = _index(choice)
            start = self._lengths.get(index, 0)
            choice["logprobs"] = classic_logprobs(items, start)
            self._lengths[index] = start + sum(len(str(item.get("token", ""))) for item in items)
            return
        empty: dict[str, Any] = {"delta": {"content": ""}} if self._shape.chat else {"text": ""}
        for item in items[:-1]:
            early = {"index": _index(choice), "finish_reason": None, **empty}
            yield {**value, "choices": [_numbered(early, item)]}
        choice["logprobs"] = None
        if items:
            _numbered(choice, items[-1])

    def _calls(self, value: dict[str, Any], choices: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for choice in choices:
            index, delta = _index(choice), choice.get("delta") or {}
            self._texts[index] = self._texts.get(index, "") + (delta.get("content") or "")
            finish = choice.get("finish_reason")
            if finish is None:
                if delta.get("role"):
                    yield {**value, "choices": [{**choice, "delta": {**delta, "content": None}, "logprobs": None}]}
                continue
            said: dict[str, Any]
            call = call_in(self._texts[index], str(value.get("id", "")), index)
            if call is None:
                said, last = {"content": self._texts[index]}, finish
            else:
                said, last = {"tool_calls": [{"index": 0, **call}]}, "tool_calls"
            yield {**value, "choices": [{"index": index, "delta": said, "finish_reason": None}]}
            yield {**value, "choices": [{**choice, "finish_reason": last}]}
        if not choices:
            yield value

    def tokens(self) -> Tokens | None:
        """What all choices took; None with one only, or when nobody told."""
        try:
            return tokens_of(total_usage(self._usages or self._timed, self._shape.per_prompt))
        except (ValueError, TypeError, AttributeError):
            return None  # an engine's nonsense is no count

    def _total(self) -> bytes:
        usage = total_usage(self._usages, self._shape.per_prompt)
        return b"" if usage is None else _written({**self._top, "choices": [], "usage": usage})


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index", 0)
    return index if isinstance(index, int) else 0


def _numbered(choice: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """``choice`` with one token's number where the classic SDKs look for it."""
    choice["logprobs"] = item.get("logprob")
    choice["top_logprobs"] = alternatives(item.get("top_logprobs"))
    if isinstance(choice.get("delta"), dict):
        choice["delta"]["token_id"] = item.get("id")
    return choice


def _written(value: dict[str, Any]) -> bytes:
    return b"data: " + engine_json.dumps(value) + b"\n\n"
