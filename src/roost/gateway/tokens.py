"""How many tokens an answer took, read from its bytes at next to no cost. Pure.

Called by ``attempt`` and ``shaping`` at the end of an answer. Only the one object that tells is decoded; it must never
decode an answer or an event whole, and never raise: an engine may send anything, and what cannot be read is unknown.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

WINDOW = 4096
"""Bytes of an answer, from its end and else from its start, that are looked through."""
_MOST_NESTED = 4
"""Closing braces looked at for the end of an object: it has one or two objects in it."""
_MOST = 2**40

_USUAL = re.compile(
    rb'"usage":\{"prompt_tokens":(\d{1,12}),(?:"total_tokens":\d+,)?"completion_tokens":(\d{1,12})(?:,"total_tokens":\d+)?'
    rb'(?:,"prompt_tokens_details":(?:null|\{"cached_tokens":(\d{1,12})\}))?\}'
)
"""How most engines write it: twice as quick to read so."""

Tokens = tuple[int, int, int]
"""Tokens of an answer: of the prompt, those of them that the engine had in its cache, and generated ones."""


def tokens_in(text: bytes) -> Tokens | None:
    """What ``text``, the end of an answer's or a stream's bytes (or all of them), tells; None when it does not.

    OpenAI's ``usage`` is read where it is, else llama.cpp's ``timings``, which end each of its streams.
    """
    end = len(text)
    usual = _USUAL.match(text, text.rfind(b'"usage":{', -WINDOW))
    if usual is not None:
        prompt, completion, cached = usual.groups()
        return int(prompt), 0 if cached is None else min(int(cached), int(prompt)), int(completion)
    since = end - WINDOW if end > WINDOW else 0
    while (at := text.rfind(b'"usage"', since, end)) >= 0:
        found = tokens_of(_object(text, at + 7))
        if found is not None:
            return found
        end = at
    at = text.rfind(b'"timings"', since)
    return tokens_of(usage_from(_object(text, at + 9))) if at >= 0 else None


def tokens_at_start(text: bytes) -> Tokens | None:
    """As ``tokens_in``, from the start of an answer: long ones that are no text begin with it."""
    at = text.find(b'"usage"', 0, WINDOW)
    return tokens_of(_object(text, at + 7)) if at >= 0 else None


def _object(text: bytes, at: int) -> Any:
    # The value of the object that follows the name which ends at ``at``; None when there is none, or not all of it.
    start = at + 1
    if text[at : at + 2] != b":{":
        start = text.find(b"{", at, at + 16)
        if start < 0 or text[at:start].strip() != b":":
            return None
    end = start
    for opened in range(1, _MOST_NESTED + 1):
        end = text.find(b"}", end) + 1
        if not end:
            return None
        part = text[start:end]
        if part.count(b"{") == opened:
            try:
                return orjson.loads(part)
            except orjson.JSONDecodeError:
                return None
    return None


def tokens_of(usage: Any) -> Tokens | None:
    """What OpenAI's ``usage`` object tells; None when it tells nothing that can be."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    details = usage.get("prompt_tokens_details")
    cached = (details.get("cached_tokens") or 0) if isinstance(details, dict) else 0
    # An untrusted engine's numbers must not spoil the sums, and a boolean is a number to Python.
    if not (type(prompt) is int and type(cached) is int and type(completion) is int):
        return None
    good = 0 <= prompt < _MOST and cached >= 0 and 0 <= completion < _MOST
    return (prompt, min(cached, prompt), completion) if good else None


def usage_from(timings: Any) -> dict[str, Any]:
    """What llama.cpp's ``timings`` tell, as OpenAI's ``usage``; empty when that is nothing."""
    if not isinstance(timings, dict):
        return {}
    prompt, cached = timings.get("prompt_n"), timings.get("cache_n", 0)
    if type(prompt) is not int or type(cached) is not int:
        return {}
    return {
        "prompt_tokens": prompt + cached,
        "completion_tokens": timings.get("predicted_n"),
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def events_before_end(sent: int, latest: bytes) -> int:
    """About how many events a stream has had that broke off after ``sent`` bytes, the last of which are ``latest``:
    they are nearly of one length, and counting each as it passes would cost more than a tenth of passing it on."""
    events = latest.count(b"\n\n")
    return max(events, round(sent * events / len(latest))) if latest else 0
