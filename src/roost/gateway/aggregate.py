"""A chat or completion stream put together into the one JSON answer that a non-stream request gets. Pure.

Used where an engine cannot cancel non-stream requests: the gateway asks for a stream instead. Fields it does not know
are kept: the last value wins.
"""

from __future__ import annotations

from typing import Any

from roost.gateway.shape import total_usage

_OBJECTS = {"chat.completion.chunk": "chat.completion"}


class Aggregator:
    """Collects the chunks of one stream. ``choices`` and ``per_prompt`` as in ``Shape``: with several, the usage of
    each is told apart and they add up."""

    def __init__(self, *, chat: bool, choices: int = 1, per_prompt: int = 1) -> None:
        self._chat = chat
        self._several = choices > 1
        self._per_prompt = per_prompt
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._usages: list[tuple[int | None, dict[str, Any]]] = []
        self.error: dict[str, Any] | None = None
        """The engine's own error, when the stream carried one."""

    def add(self, chunk: Any) -> None:
        """Take in one chunk. Raises ``ValueError`` when it is not an object."""
        if chunk is None:
            return  # llama.cpp begins streams of several prompts with one
        if not isinstance(chunk, dict):
            raise ValueError("a chunk of the stream is not a JSON object")
        if chunk.get("error"):
            error = chunk["error"]
            self.error = error if isinstance(error, dict) else {"message": str(error)}
            return
        choices = chunk.get("choices") or []
        for name, value in chunk.items():
            if name not in ("choices", "usage") and (value is not None or name not in self._top):
                self._top[name] = value
        only = choices[0].get("index", 0) if len(choices) == 1 and isinstance(choices[0], dict) else None
        if isinstance(chunk.get("usage"), dict):
            self._usages.append((only, chunk["usage"]))
        for choice in choices:
            if isinstance(choice, dict):
                self._add_choice(choice)

    def _add_choice(self, choice: dict[str, Any]) -> None:
        index = choice.get("index", 0)
        known = self._choices.setdefault(index, {"index": index, "finish_reason": None})
        for name, value in choice.items():
            if name == "delta":
                message = known.setdefault("message", {"role": "assistant", "content": None})
                _merge_delta(message, value or {})
            elif name == "text":
                known["text"] = known.get("text", "") + (value or "")
            elif name == "logprobs":
                known["logprobs"] = merge_logprobs(known.get("logprobs"), value)
            elif value is not None or name not in known:
                known[name] = value

    def finished(self) -> bool:
        """Whether every choice has told why it ended (a stream that broke off has not)."""
        return bool(self._choices) and all(c.get("finish_reason") is not None for c in self._choices.values())

    def result(self) -> dict[str, Any]:
        """The complete answer."""
        answer = dict(self._top)
        answer["object"] = _OBJECTS.get(answer.get("object", ""), answer.get("object", "text_completion"))
        answer["choices"] = [self._choice(self._choices[index]) for index in sorted(self._choices)]
        usage = self._usage()
        if usage is not None:
            answer["usage"] = usage
        return answer

    def _choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        if not self._chat:
            return choice
        message = choice.setdefault("message", {"role": "assistant", "content": None})
        calls = message.get("tool_calls")
        if isinstance(calls, dict):
            message["tool_calls"] = [calls[index] for index in sorted(calls)]
        elif message["content"] is None:
            message["content"] = ""
        return choice

    def _usage(self) -> dict[str, Any] | None:
        if self._several:
            return total_usage(self._usages, self._per_prompt)
        # The last one that is told tells all, whatever an engine says on its way.
        whole = [usage for index, usage in self._usages if index is None] or [usage for _, usage in self._usages]
        return whole[-1] if whole else None


def _merge_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            _merge_calls(message.setdefault("tool_calls", {}), value or [])
        elif name == "role":
            message["role"] = value or message["role"]
        elif isinstance(value, str) and isinstance(message.get(name), str):
            message[name] += value
        elif name == "function_call" and isinstance(value, dict):
            _merge_function(message.setdefault("function_call", {}), value)
        elif value is not None or name not in message:
            message[name] = value


def _merge_calls(calls: dict[int, dict[str, Any]], deltas: list[Any]) -> None:
    for position, delta in enumerate(deltas):
        if not isinstance(delta, dict):
            continue
        index = delta.get("index", position)
        call = calls.setdefault(index, {"type": "function"})
        for name, value in delta.items():
            if name == "function" and isinstance(value, dict):
                _merge_function(call.setdefault("function", {"name": "", "arguments": ""}), value)
            elif name != "index" and value is not None:
                call[name] = value


def _merge_function(function: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "arguments":
            function["arguments"] = function.get("arguments", "") + (value or "")
        elif value:
            function[name] = value


def merge_logprobs(known: Any, value: Any) -> Any:
    """Two consecutive ``logprobs`` objects as one: their lists joined, the last of other values."""
    if not isinstance(value, dict):
        return known
    if not isinstance(known, dict):
        return dict(value)
    merged = dict(known)
    for name, item in value.items():
        before = merged.get(name)
        merged[name] = before + item if isinstance(before, list) and isinstance(item, list) else item
    return merged
