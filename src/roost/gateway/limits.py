"""How much one request may hold and ask for: what is beyond takes a whole replica from everybody else, or holds the
gateway up for seconds. Pure.

Called by ``params``, before anybody looks at the elements of a list: it must only count, never look through what it
counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roost.gateway.answers import Refusal
from roost.gateway.request import COMPLETIONS, Kind

MOST_CHOICES = 128
"""Answers that one request may ask for: its prompts times ``n``."""
MOST_INPUTS = 2048
MOST_DOCUMENTS = 1024
MOST_FIELDS = 64
MOST_MESSAGES = 10_000
MOST_TOOLS = 128
MOST_STOPS = 64
MOST_BIASES = 1024
MOST_TOKENS = 2**20
"""Token numbers in one request, over all its prompts; as many as a context has are always taken."""
WIDEST_TOKEN = 2**31 - 1
"""Engines keep a token in 32 bits."""
_FIELDS = {Kind.COMPLETIONS: "prompt", Kind.EMBEDDINGS: "input"}


def begins_with_token(prompt: list[Any]) -> bool:
    """Whether a ``prompt`` or ``input`` can only be one prompt as token numbers: those hold nothing else."""
    return bool(prompt) and type(prompt[0]) is int


def prompts_in(prompt: Any) -> int:
    """How many prompts a ``prompt`` or ``input`` holds, if it is good."""
    return len(prompt) if isinstance(prompt, list) and not begins_with_token(prompt) else 1


def excess(body: Mapping[str, Any], kind: Kind, context_length: int | None) -> Refusal | None:
    """Why the prompts of ``body`` are too many or too long; None when they are not, and for what has none."""
    field = _FIELDS.get(kind)
    prompt = body.get(field) if field is not None else None
    if field is None or not isinstance(prompt, list):
        return None
    count = prompts_in(prompt)
    if kind is COMPLETIONS:
        if count * _choices(body.get("n")) > MOST_CHOICES:
            return _too_many(field, f"at most {MOST_CHOICES} prompts, counted n times")
    elif count > MOST_INPUTS:
        return _too_many(field, f"at most {MOST_INPUTS} inputs")
    lengths = [len(prompt)] if begins_with_token(prompt) else [len(each) for each in prompt if isinstance(each, list)]
    if context_length is not None and max(lengths, default=0) > context_length:
        message = f"{field}: {max(lengths)} tokens exceed the context length of {context_length}; send fewer."
        return Refusal(400, message, "context_length_exceeded", param=field)
    most = max(MOST_TOKENS, context_length or 0)
    return _too_many(field, f"at most {most} token numbers") if sum(lengths) > most else None


def _choices(n: Any) -> int:
    return int(n) if type(n) in (int, float) and 1 <= n <= MOST_CHOICES else 1


def _too_many(field: str, takes: str) -> Refusal:
    message = f"{field} must be {takes}, in one request; send the rest in further ones."
    return Refusal(400, message, "bad_value", param=field)
