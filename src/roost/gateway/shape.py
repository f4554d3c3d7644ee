"""What an answer of chat or completions needs beyond what the engine says, and how a whole answer gets it. Pure.

``classic.adapt`` makes a ``Shape`` for the few requests that need one; ``shaping`` applies it to whole answers,
``chunks`` to streams.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from roost.gateway import engine_json


class Logprobs(Enum):
    """The shape that log probabilities are wanted in: as the engine gives them, OpenAI's without alternatives, or the
    classic one."""

    AS_GIVEN = "as given"
    BARE = "bare"
    CLASSIC = "classic"


@dataclass(frozen=True, slots=True)
class Shape:
    """``classic``: the client is one of the classic SDKs. ``choices`` above 1: the engine counts the usage of each
    choice apart, and ``per_prompt`` of them belong to one prompt. ``echoed`` are the texts to give back: the prompts of
    completions, or what the messages of a chat say. ``forced``: the text is the JSON of a tool call.
    ``silent``: no token was asked for, whatever the engine says."""

    chat: bool
    classic: bool = False
    logprobs: Logprobs = Logprobs.AS_GIVEN
    choices: int = 1
    per_prompt: int = 1
    echoed: tuple[str, ...] = ()
    forced: bool = False
    silent: bool = False

    def prompt_of(self, index: int) -> str:
        """The prompt that goes before the text of a choice, "" for none."""
        at = index // self.per_prompt
        return self.echoed[at] if not self.chat and at < len(self.echoed) else ""


def shape_answer(answer: dict[str, Any], shape: Shape) -> None:
    """Put a whole answer into ``shape``, in place."""
    if shape.silent:
        hush(answer)
    if shape.echoed and (shape.chat or shape.classic):
        answer["prompt"] = [{"text": text, "logprobs": None} for text in shape.echoed]
    choices = answer.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if not isinstance(choice, dict):
            continue
        if isinstance(choice.get("logprobs"), dict):
            choice["logprobs"] = shape_logprobs(choice["logprobs"], shape)
        message = choice.get("message")
        if shape.forced and isinstance(message, dict):
            call_instead_of_text(choice, message, str(answer.get("id", "")))
        elif shape.echoed and isinstance(choice.get("text"), str):
            choice["text"] = shape.prompt_of(choice.get("index", 0)) + choice["text"]


def hush(value: dict[str, Any]) -> None:
    """Take out of an answer or a chunk, in place, what was said in it, and its tokens out of the usage."""
    choices = value.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if isinstance(choice, dict):
            ended = choice.get("finish_reason") is not None
            choice.update(text="", logprobs=None, finish_reason="length" if ended else None)
    usage = value.get("usage")
    if isinstance(usage, dict):
        value["usage"] = {**usage, "completion_tokens": 0, "total_tokens": _count(usage, "prompt_tokens")}


def call_instead_of_text(choice: dict[str, Any], message: dict[str, Any], answer_id: str) -> None:
    """Turn the JSON of a call, which the engine was held to, into ``tool_calls``. An answer that was cut off within
    stays text."""
    call = call_in(message.get("content"), answer_id, choice.get("index", 0))
    if call is not None:
        message["content"] = None
        message["tool_calls"] = [call]
        choice["finish_reason"] = "tool_calls"


def call_in(text: Any, answer_id: str, index: int) -> dict[str, Any] | None:
    """The tool call that ``text`` is; None when it is none."""
    try:
        call = engine_json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = json.dumps(call.get("arguments", {}), ensure_ascii=False, separators=(",", ":"))
    call_id = f"call_{answer_id.removeprefix('chatcmpl-')}_{index}"
    return {"id": call_id, "type": "function", "function": {"name": call["name"], "arguments": arguments}}


def shape_logprobs(logprobs: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """OpenAI's logprobs of one choice as wanted."""
    content = logprobs.get("content")
    if shape.logprobs is Logprobs.AS_GIVEN or not isinstance(content, list):
        return logprobs
    if shape.logprobs is Logprobs.BARE:
        bare = [{**item, "top_logprobs": []} if isinstance(item, dict) else item for item in content]
        return {**logprobs, "content": bare}
    return classic_logprobs(content)


def classic_logprobs(content: Sequence[Any], offset: int = 0) -> dict[str, Any]:
    """OpenAI's items as the lists of the classic API and of OpenAI's completions. ``offset``: characters before."""
    items = [item for item in content if isinstance(item, dict)]
    tokens = [str(item.get("token", "")) for item in items]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": tokens,
        "token_ids": [item.get("id") for item in items],
        "token_logprobs": [item.get("logprob") for item in items],
        "top_logprobs": [alternatives(item.get("top_logprobs")) for item in items],
        "text_offset": offsets,
    }


def alternatives(top: Any) -> dict[str, Any]:
    """OpenAI's list of alternatives as log probabilities by token."""
    listed = top if isinstance(top, list) else []
    return {str(item.get("token")): item.get("logprob") for item in listed if isinstance(item, dict)}


def total_usage(usages: Sequence[tuple[int | None, Mapping[str, Any]]], per_prompt: int) -> dict[str, Any] | None:
    """The usage of all choices as one: each prompt counts once, what was generated adds up.

    ``usages`` are those of the choices with their indices (None where it is not told: the prompt was the same).
    """
    if not usages:
        return None
    prompts = {None if index is None else index // per_prompt: usage for index, usage in usages}
    total = dict(usages[-1][1])
    total["prompt_tokens"] = sum(_count(usage, "prompt_tokens") for usage in prompts.values())
    total["completion_tokens"] = sum(_count(usage, "completion_tokens") for _, usage in usages)
    total["total_tokens"] = total["prompt_tokens"] + total["completion_tokens"]
    details = [usage["prompt_tokens_details"] for usage in prompts.values() if usage.get("prompt_tokens_details")]
    if details:
        total["prompt_tokens_details"] = {"cached_tokens": sum(_count(each, "cached_tokens") for each in details)}
    return total


def _count(usage: Mapping[str, Any], name: str) -> int:
    return int(usage.get(name) or 0)
