"""What the echo engine answers: pure functions from a request's body to words and to OpenAI's shapes.

Called by ``echo_server``; standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

DEFAULT_WORDS = ("echo",)
"""The answer to a prompt without words."""
DEFAULT_COUNT = 16
"""Tokens of an answer that nobody limits."""
EMITTED = "roost_emitted"
"""Field of a request that wants the rest of an answer: so many characters at the end of its prompt are what was said
of it before."""
LONGEST = 100_000
"""No answer is longer, whatever is asked for: a model has a context, and this is what stands for it."""


class Unacceptable(Exception):
    """The request's body is wrong; ``param`` is the field at fault."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as understood: ``count`` tokens to say, which are ``words`` over and over; ``said`` of the answer's
    were said before."""

    chat: bool
    words: tuple[str, ...]
    count: int
    finish_reason: str
    prompt_tokens: int
    stream: bool
    include_usage: bool
    model: str
    said: int = 0

    def tokens(self) -> Iterator[str]:
        """The answer piece by piece; joined, they are the text."""
        start = self.said % len(self.words)
        for index, word in enumerate(islice(cycle(self.words), start, start + self.count), self.said):
            yield word if index == 0 else f" {word}"

    @property
    def usage(self) -> dict[str, int]:
        """Words counted as tokens."""
        total = self.prompt_tokens + self.count
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.count, "total_tokens": total}


def understand(body: bytes, *, chat: bool, model: str) -> Ask:
    """Read a request's body. ``model`` is the name to answer with where it names none. Raises ``Unacceptable``."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unacceptable(f"the body is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise Unacceptable("the body must be a JSON object")
    if data.get("n", 1) not in (1, None):
        raise Unacceptable("the echo engine gives one choice only", "n")
    data, before = _without_beginning(data, chat=chat)
    said, last = _chat_texts(data) if chat else _prompt_texts(data)
    words = tuple(last.split()) or DEFAULT_WORDS
    limit = _limit(data)
    options = data.get("stream_options")
    return Ask(
        chat=chat,
        words=words,
        count=max(0, DEFAULT_COUNT - before) if limit is None else min(limit, LONGEST),
        finish_reason="stop" if limit is None else "length",
        prompt_tokens=sum(len(text.split()) for text in said) + before,
        stream=data.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        model=data["model"] if isinstance(data.get("model"), str) else model,
        said=before,
    )


def _without_beginning(data: dict[str, Any], *, chat: bool) -> tuple[dict[str, Any], int]:
    """The request without what was said of its answer before, and how many tokens that was."""
    size = data.get(EMITTED)
    if not isinstance(size, int) or size <= 0:
        return data, 0
    if not chat:
        prompt = data.get("prompt")
        if not isinstance(prompt, str):
            raise Unacceptable("an answer can be continued from one text", "prompt")
        return {**data, "prompt": prompt[:-size]}, len(prompt[-size:].split())
    *messages, last = data.get("messages") or [{}]
    text = _text(last.get("content")) if isinstance(last, dict) else ""
    before = [{**last, "content": text[:-size]}] if text[:-size] else []
    return {**data, "messages": [*messages, *before]}, len(text[-size:].split())


def _chat_texts(data: Mapping[str, Any]) -> tuple[list[str], str]:
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise Unacceptable("messages must be a list of at least one message", "messages")
    texts = [(message.get("role"), _text(message.get("content"))) for message in messages]
    last = next((text for role, text in reversed(texts) if role == "user"), texts[-1][1])
    return [text for _, text in texts], last


def _text(content: Any) -> str:
    """A message's content: text, or parts of which the text ones count."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _prompt_texts(data: Mapping[str, Any]) -> tuple[list[str], str]:
    prompt = data.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise Unacceptable("prompt must be one text", "prompt")
    return [prompt], prompt


def _limit(data: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = data.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise Unacceptable(f"{name} must be a whole number that is not negative", name)
        return value
    return None


def answer(ask: Ask, number: int, created: int) -> bytes:
    """The body of a whole answer; ``created`` in seconds since the epoch."""
    text = "".join(ask.tokens())
    part = {"message": {"role": "assistant", "content": text}} if ask.chat else {"text": text}
    choice = {"index": 0, **part, "logprobs": None, "finish_reason": ask.finish_reason}
    kind = "chat.completion" if ask.chat else "text_completion"
    return _json({**_head(ask, number, created, kind), "choices": [choice], "usage": ask.usage})


def events(ask: Ask, number: int, created: int) -> Iterator[tuple[bytes, bool]]:
    """The server-sent events of a streamed answer, each with whether it carries a token."""
    kind = "chat.completion.chunk" if ask.chat else "text_completion"
    head = _head(ask, number, created, kind)

    def event(part: Mapping[str, Any], finish: str | None) -> bytes:
        return _event({**head, "choices": [{"index": 0, **part, "finish_reason": finish}]})

    if ask.chat:
        yield event({"delta": {"role": "assistant", "content": ""}}, None), False
        for token in ask.tokens():
            yield event({"delta": {"content": token}}, None), True
        yield event({"delta": {}}, ask.finish_reason), False
    else:
        for token in ask.tokens():
            yield event({"text": token, "logprobs": None}, None), True
        yield event({"text": "", "logprobs": None}, ask.finish_reason), False
    if ask.include_usage:
        yield _event({**head, "choices": [], "usage": ask.usage}), False
    yield b"data: [DONE]\n\n", False


def error(message: str, kind: str, param: str | None = None, code: str | None = None) -> bytes:
    """The body of a refusal."""
    return _json({"error": {"message": message, "type": kind, "param": param, "code": code}})


def models(name: str) -> bytes:
    """The body of the list of models."""
    return _json({"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "echo"}]})


def _head(ask: Ask, number: int, created: int, kind: str) -> dict[str, Any]:
    prefix = "chatcmpl" if ask.chat else "cmpl"
    return {"id": f"{prefix}-echo-{number}", "object": kind, "created": created, "model": ask.model}


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + _json(data) + b"\n\n"


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
