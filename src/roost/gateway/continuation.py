"""Going on with a stream on another replica: which streams can, what is asked of the other replica, and how its answer
is joined to what the client has. Pure and sans I/O.

Used by ``attempt`` and ``exchange`` once a replica is lost after the first byte. It must never repeat a text to the
client, nor leave one out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roost.gateway import engine_json
from roost.gateway.classic import Adapted
from roost.gateway.emitted import Said
from roost.gateway.http1 import BrokenResponse
from roost.gateway.limits import begins_with_token
from roost.gateway.request import CHAT, COMPLETIONS, Kind
from roost.gateway.sse import DONE, Splitter, data_of

EMITTED = "roost_emitted"
"""Field of a continuing request: so many characters at the end of the prompt, or of the last message, are the beginning
of the answer. Engines that can tell without it ignore it."""

_LOOKED_AT = frozenset(
    (
        *("n", "best_of", "tools", "functions", "response_format", "schema", "logprobs", "top_logprobs", "echo"),
        *("suffix", "grammar", "json_schema", "audio", "modalities", "add_generation_prompt", "min_tokens"),
        *("continue_final_message", "t_max_predict_ms", "n_indent", "prompt_embeds", "return_progress"),
    )
)
"""Parameters with which a stream may not be fit; most requests have none of them."""
_HARMLESS: tuple[Any, ...] = (None, False, 0, "", [], {}, {"type": "text"})
_LENGTHS = ("max_tokens", "max_completion_tokens")


def fit(kind: Kind, adapted: Adapted) -> bool:
    """Whether a stream of this request can go on elsewhere, from its prompt and what was said: one text, which nothing
    but the prompt and what was said before decides about."""
    if kind is COMPLETIONS:
        prompt = adapted.body.get("prompt")
        if not isinstance(prompt, str) and not (isinstance(prompt, list) and begins_with_token(prompt)):
            return False
    elif kind is not CHAT or not _takes_a_beginning(adapted.body.get("messages")):
        return False
    body = adapted.body
    if adapted.shape is not None or not adapted.stream:
        return False
    return _LOOKED_AT.isdisjoint(body) or all(
        body.get(name) in _HARMLESS or (name in ("n", "best_of") and body[name] == 1) for name in _LOOKED_AT
    )


def _takes_a_beginning(messages: Any) -> bool:
    # Engines judge what a message says, and some take what is no text: it cannot be written on.
    if not isinstance(messages, list) or not messages:
        return False
    last = messages[-1]
    if not _begun(last):
        return True
    content = last.get("content")
    if isinstance(content, list):
        return all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content)
    return content is None or isinstance(content, str)


def left(body: Mapping[str, Any], said: Said) -> int | None:
    """How many tokens may still come; None without a limit."""
    limits = [int(body[name]) for name in _LENGTHS if body.get(name) is not None]
    return max(0, min(limits) - said.tokens) if limits else None


def repeatable(body: Mapping[str, Any]) -> bool:
    """Whether the same request gives the same text again."""
    temperature = body.get("temperature")
    return temperature is not None and not temperature


def in_a_stop(body: Mapping[str, Any], said: Said) -> bool:
    """Whether what was said may end within a stop string, which the engine would have to see as a whole."""
    stop = body.get("stop") or ()
    stops = (stop,) if isinstance(stop, str) else stop
    return any(said.text.endswith(each[:size]) for each in stops for size in range(1, len(each)))


def continued(body: Mapping[str, Any], kind: Kind, said: Said) -> dict[str, Any]:
    """The body that asks another replica to go on after ``said``; at least one token of it, since the counts are
    wanted even where the text is complete."""
    fresh = {**body, EMITTED: len(said.text)}
    rest = 1 if said.finished else left(body, said)
    if rest is not None:
        fresh.update({name: max(1, rest) for name in _LENGTHS if body.get(name) is not None or said.finished})
    if not said.text:
        return fresh
    if kind is CHAT:
        fresh["messages"] = _with_beginning(body["messages"], said.text)
    else:
        prompt = body["prompt"]
        fresh["prompt"] = prompt + said.text if isinstance(prompt, str) else [*prompt, said.text]
    return fresh


def _with_beginning(messages: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    last = messages[-1]
    if not _begun(last):
        return [*messages, {"role": "assistant", "content": text}]
    # The client itself had begun the answer: engines take one message at most for a beginning.
    content = last.get("content")
    both: Any = [*content, {"type": "text", "text": text}] if isinstance(content, list) else (content or "") + text
    return [*messages[:-1], {**last, "content": both}]


def _begun(last: Mapping[str, Any]) -> bool:
    """Whether the last message is the beginning of the answer."""
    return last.get("role") == "assistant" and not last.get("tool_calls")


def ending(said: Said, *, chat: bool) -> bytes:
    """The events that a complete text still lacks, where no counts are wanted."""
    events = b"" if said.finished else _event(_finish(said, chat=chat))
    return events if said.done else events + b"data: [DONE]\n\n"


def _finish(said: Said, *, chat: bool) -> dict[str, Any]:
    part: dict[str, Any] = {"delta": {}} if chat else {"text": "", "logprobs": None}
    return {**said.start, "choices": [{"index": 0, **part, "finish_reason": "length"}]}


class Joined:
    """A continuing stream as the rest of the one that the client has begun to read: under the same id, without a second
    beginning, with the counts of both. Where the text is ``complete`` already, only what comes after it passes."""

    __slots__ = ("_chat", "_complete", "_finished", "_said", "_splitter")

    def __init__(self, said: Said, *, chat: bool, complete: bool) -> None:
        self._said = said
        self._chat = chat
        self._complete = complete
        self._finished = said.finished
        self._splitter = Splitter()

    def feed(self, data: bytes) -> bytes:
        """The bytes to send for ``data``. Raises ``EventTooLong``, ``ValueError``."""
        return b"".join([self._joined(event) for event in self._splitter.feed(data)])

    def end(self) -> bytes:
        """What is left at the end of the stream."""
        return self._splitter.rest()

    def _joined(self, event: bytes) -> bytes:
        data = data_of(event)
        if not data or data == DONE:
            return event
        value = engine_json.loads(data)
        if not isinstance(value, dict) or not isinstance(value.get("choices"), list):
            return event
        value.update(self._said.start)
        value.pop("timings", None)  # of this part only
        usage = value.get("usage")
        if isinstance(usage, dict):
            value["usage"] = self._counts(usage)
        if value["choices"] and not self._keep(value):
            return b""
        return _event(value)

    def _keep(self, value: dict[str, Any]) -> bool:
        (choice,) = value["choices"]
        finish = choice.get("finish_reason")
        if self._complete:
            if finish is None or self._finished:
                return isinstance(value.get("usage"), dict)
            self._finished = True
            value["choices"] = _finish(self._said, chat=self._chat)["choices"]
            return True
        delta = choice.get("delta")
        if self._chat and isinstance(delta, dict) and self._said.start and "role" in delta:
            delta.pop("role")
            # The beginning of a stream says nothing but the role.
            return finish is not None or any(delta.values())
        return True

    def _counts(self, usage: dict[str, Any]) -> dict[str, Any]:
        # The text before is a part of this prompt, and was a part of the answer.
        before = self._said.tokens
        prompt = max(0, int(usage.get("prompt_tokens") or 0) - before)
        answer = before if self._complete else int(usage.get("completion_tokens") or 0) + before
        counts = {**usage, "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict) and isinstance(details.get("cached_tokens"), int):
            counts["prompt_tokens_details"] = {**details, "cached_tokens": min(prompt, details["cached_tokens"])}
        return counts


class Diverged(BrokenResponse):
    """A repeated answer is another one."""


class Repeated:
    """The same answer once more, of which the client gets what it lacks. Engines compute a prompt otherwise than what
    they generate, in the last bits, which is enough to make greedy texts part: so a text that is short goes on most
    exactly when it is generated again."""

    __slots__ = ("_got", "_said", "_splitter")

    def __init__(self, said: Said) -> None:
        self._said = said
        self._got = ""
        self._splitter = Splitter()

    def feed(self, data: bytes) -> bytes:
        """The bytes to send for ``data``. Raises ``Diverged``, ``EventTooLong``, ``ValueError``."""
        return b"".join([self._joined(event) for event in self._splitter.feed(data)])

    def end(self) -> bytes:
        """What is left at the end of the stream."""
        return self._splitter.rest()

    def _joined(self, event: bytes) -> bytes:
        data, lacks = data_of(event), len(self._got) < len(self._said.text)
        if data == DONE and lacks:
            raise Diverged("the answer ended earlier")
        if not data or data == DONE:
            return event
        value = engine_json.loads(data)
        if not isinstance(value, dict) or not isinstance(value.get("choices"), list):
            return event
        value.update(self._said.start)
        for choice in value["choices"]:
            if lacks:
                self._skip(choice)
            part = choice.get("delta")
            if isinstance(part, dict) and self._said.start and part.pop("role", None) and not any(part.values()):
                return b""
        return b"" if lacks and not self._news(value) else _event(value)

    def _skip(self, choice: dict[str, Any]) -> None:
        part = choice if isinstance(choice.get("text"), str) else choice.get("delta") or {}
        name = "text" if part is choice else "content"
        self._got += part.get(name) or ""
        known = self._said.text
        extra = self._got[len(known) :]
        if not (known.startswith(self._got) or self._got.startswith(known)):
            raise Diverged("the answer is another one")
        if choice.get("finish_reason") is not None and len(self._got) < len(known):
            raise Diverged("the answer ended earlier")
        if part.get(name):
            part[name] = extra

    @staticmethod
    def _news(value: dict[str, Any]) -> bool:
        return not value["choices"] or any(
            choice.get("text") or (choice.get("delta") or {}).get("content") or choice.get("finish_reason")
            for choice in value["choices"]
        )


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + engine_json.dumps(value) + b"\n\n"
