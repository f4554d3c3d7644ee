"""What requests need on their way in, and answers on their way out, for the engine and for the classic SDKs. Pure.

Called by ``exchange`` and ``shaping``. Fields that are not named here pass untouched.
"""

from __future__ import annotations

from typing import Any

from roost.domain.routing import RouteEndpoint
from roost.gateway.request import CHAT, COMPLETIONS, Kind

_LLAMA_NAMES = {"repetition_penalty": "repeat_penalty"}


class Adapted:
    """How a request goes upstream. ``changed`` tells that ``body`` is no longer what the client sent; ``aggregate``
    that a stream is asked for where the client wants one answer; ``classic_logprobs`` that the client asked for an
    integer number of logprobs in chat; ``wants_usage_chunk`` that it asked for the extra usage chunk; ``classic`` that
    it is one of the classic SDKs."""

    __slots__ = ("aggregate", "body", "changed", "classic", "classic_logprobs", "stream", "wants_usage_chunk")

    def __init__(self, body: dict[str, Any], *, classic: bool) -> None:
        self.body = body
        self.classic = classic
        self.changed = self.aggregate = self.classic_logprobs = False
        self.stream = body.get("stream") is True
        options = body.get("stream_options")
        self.wants_usage_chunk = isinstance(options, dict) and options.get("include_usage") is True


def adapt(body: dict[str, Any], kind: Kind, endpoint: RouteEndpoint, *, classic: bool) -> Adapted:
    """What to send to ``endpoint`` for the client's ``body``."""
    adapted = Adapted(body, classic=classic)
    if endpoint.served_model is not None and body.get("model") != endpoint.served_model:
        _change(adapted, model=endpoint.served_model)
    if kind is not CHAT and kind is not COMPLETIONS:
        return adapted
    if kind is CHAT:
        logprobs = body.get("logprobs")
        if logprobs is not None and type(logprobs) is int:
            adapted.classic_logprobs = logprobs > 0
            _change(adapted, logprobs=logprobs > 0)
            if logprobs > 0:
                _change(adapted, top_logprobs=body.get("top_logprobs") or logprobs)
    if endpoint.engine == "llama_cpp":
        # Its completions answer an integer with logprobs in the shape of chat.
        count = body.get("logprobs") if kind is COMPLETIONS else None
        adapted.classic_logprobs = adapted.classic_logprobs or (type(count) is int and count > 0)
        for name, own in _LLAMA_NAMES.items():
            if name in body and own not in body:
                _change(adapted, **{own: body[name]})
    if not adapted.stream and not endpoint.cancels_non_stream:
        adapted.aggregate = True
        _change(adapted, stream=True, stream_options=_with_usage(body))
    elif adapted.stream and classic and not adapted.wants_usage_chunk:
        _change(adapted, stream_options=_with_usage(body))
    return adapted


def _change(adapted: Adapted, **values: Any) -> None:
    if not adapted.changed:
        adapted.body = dict(adapted.body)
        adapted.changed = True
    adapted.body.update(values)


def _with_usage(body: dict[str, Any]) -> dict[str, Any]:
    options = body.get("stream_options")
    return {**(options if isinstance(options, dict) else {}), "include_usage": True}


def classic_answer(answer: dict[str, Any], *, logprobs: bool) -> dict[str, Any]:
    """A complete answer with what the classic SDKs need: ``prompt``, and logprobs in their shape when asked for."""
    answer.setdefault("prompt", [])
    if logprobs:
        reshape_logprobs(answer)
    return answer


def reshape_logprobs(answer: dict[str, Any]) -> None:
    """OpenAI's logprobs of every choice in the classic shape, in place."""
    choices = answer.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if isinstance(choice, dict) and isinstance(choice.get("logprobs"), dict):
            choice["logprobs"] = classic_logprobs(choice["logprobs"])


def classic_logprobs(logprobs: dict[str, Any]) -> dict[str, Any]:
    """``{"content": [...]}`` as ``tokens``, ``token_logprobs`` and ``top_logprobs``; any other shape as it is."""
    content = logprobs.get("content")
    if not isinstance(content, list):
        return logprobs
    items = [item for item in content if isinstance(item, dict)]
    return {
        "tokens": [item.get("token") for item in items],
        "token_logprobs": [item.get("logprob") for item in items],
        "top_logprobs": [_alternatives(item.get("top_logprobs")) for item in items],
    }


def _alternatives(top: Any) -> dict[str, Any]:
    listed = top if isinstance(top, list) else []
    return {str(item.get("token")): item.get("logprob") for item in listed if isinstance(item, dict)}
