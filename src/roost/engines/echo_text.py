"""What the ``echo`` engine says: the prompt's words, shaped as OpenAI's responses. Pure; used by ``echo_server``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

DEFAULT_TOKENS = 16
MOST_TOKENS = 1_000_000


def pieces_of(request: dict[str, Any]) -> list[str]:
    """The answer's pieces, one per token: the prompt's words in a circle. Raises ``ValueError`` or ``TypeError`` for a
    request that has no prompt."""
    content = request["messages"][-1]["content"] if request.get("messages") else request["prompt"]
    if isinstance(content, list):
        content = " ".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)
    words = str(content).split() or ["nothing"]
    asked = request.get("max_completion_tokens") or request.get("max_tokens") or DEFAULT_TOKENS
    count = max(1, min(int(asked), MOST_TOKENS))
    return [("" if number == 0 else " ") + words[number % len(words)] for number in range(count)]


def usage_of(request: dict[str, Any], pieces: list[str]) -> dict[str, int]:
    """Words of the prompt and of the answer, as tokens."""
    prompt = sum(len(str(message.get("content", "")).split()) for message in request.get("messages", ()))
    prompt = prompt or len(str(request.get("prompt", "")).split())
    return {"prompt_tokens": prompt, "completion_tokens": len(pieces), "total_tokens": prompt + len(pieces)}


def answer(path: str, request: dict[str, Any], pieces: list[str]) -> dict[str, Any]:
    """A whole answer."""
    chat = path.endswith("/chat/completions")
    text = "".join(pieces)
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    kind = "chat.completion" if chat else "text_completion"
    return _base(request, kind) | {"choices": [choice], "usage": usage_of(request, pieces)}


def chunks(path: str, request: dict[str, Any], pieces: list[str]) -> Iterator[dict[str, Any]]:
    """The events of a stream: one per piece, the end, and usage where it is asked for."""
    chat = path.endswith("/chat/completions")
    base = _base(request, "chat.completion.chunk" if chat else "text_completion")
    for number, piece in enumerate(pieces):
        role = {"role": "assistant"} if number == 0 else {}
        said = {"delta": role | {"content": piece}} if chat else {"text": piece}
        yield base | {"choices": [{"index": 0, "finish_reason": None} | said]}
    end: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
    yield base | {"choices": [{"index": 0, "finish_reason": "length"} | end]}
    if (request.get("stream_options") or {}).get("include_usage"):
        yield base | {"choices": [], "usage": usage_of(request, pieces)}


def _base(request: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "echo-1", "object": kind, "created": 1_767_225_600, "model": str(request.get("model", "echo"))}
