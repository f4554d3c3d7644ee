"""What requests need on their way in, for the engine and for the classic SDKs; and what their answers need then. Pure.

Called by the gateway and ``shaping``. Fields that are not named here pass untouched, and so does a body that needs
nothing.
"""

from __future__ import annotations

from typing import Any

from roost.domain.routing import LLAMA_CPP, RouteEndpoint
from roost.gateway import dialect
from roost.gateway.answers import Refusal
from roost.gateway.limits import prompts_in
from roost.gateway.request import CHAT, COMPLETIONS, Kind
from roost.gateway.shape import Logprobs, Shape
from roost.gateway.usage_chunk import PROGRESS, with_usage_asked
from roost.gateway.vectors import Ranked, Shortened

_SHAPED = frozenset(("logprobs", "n", "prompt", "echo", "tool_choice"))
"""Parameters that an answer may need a shape for; most requests have none of them."""


class Adapted:
    """How a request goes upstream. ``changed`` tells that ``body`` is no longer what the client sent; ``aggregate``
    that a stream is asked for where the client wants one answer; ``wants_usage_chunk`` that it asked for the extra
    usage chunk; ``classic`` that it is one of the classic SDKs. ``shape`` (of chat and completions) and ``vectors``
    (of the other operations) are what the answer needs; None: nothing. ``asks_usage``: the engine is asked for a usage
    chunk that the client does not want; ``asks_progress``: likewise for its progress, if the prompt is long."""

    __slots__ = (
        "aggregate",
        "asks_progress",
        "asks_usage",
        "body",
        "changed",
        "classic",
        "shape",
        "stream",
        "vectors",
        "wants_usage_chunk",
    )

    def __init__(self, body: dict[str, Any], *, classic: bool) -> None:
        self.body = body
        self.classic = classic
        self.changed = self.aggregate = self.asks_usage = self.asks_progress = False
        self.shape: Shape | None = None
        self.vectors: Shortened | Ranked | None = None
        self.stream = body.get("stream") is True
        options = body.get("stream_options")
        self.wants_usage_chunk = isinstance(options, dict) and options.get("include_usage") is True


def adapt(body: dict[str, Any], kind: Kind, endpoint: RouteEndpoint, *, classic: bool) -> Adapted | Refusal:
    """What to send to ``endpoint`` for the client's ``body``, which ``params.refusal`` has found good; or why the
    engine cannot do it."""
    llama = endpoint.dialect == LLAMA_CPP
    adapted = Adapted(body, classic=classic)
    if llama and not dialect.CONTROLS.isdisjoint(body):
        body = adapted.body = {name: value for name, value in body.items() if name not in dialect.CONTROLS}
        adapted.changed = True
    if endpoint.served_model is not None and body.get("model") != endpoint.served_model:
        _change(adapted, model=endpoint.served_model)
    if kind is not CHAT and kind is not COMPLETIONS:
        return _adapt_vectors(adapted, kind, endpoint) or adapted
    if llama:
        changes = dialect.generation(body)
        if changes:
            _change(adapted, **changes)
    if not _SHAPED.isdisjoint(body):
        refusal = _adapt_shaped(adapted, kind, llama=llama)
        if refusal is not None:
            return refusal
    if not adapted.stream and not endpoint.cancels_non_stream and not _unstreamable(adapted.body, llama=llama):
        adapted.aggregate = True
        _change(adapted, stream=True, stream_options=with_usage_asked(body.get("stream_options")))
    elif adapted.stream and classic and not adapted.wants_usage_chunk:
        _change(adapted, stream_options=with_usage_asked(body.get("stream_options")))
    elif adapted.stream and endpoint.usage_on_request and not adapted.wants_usage_chunk:
        _ask_for_usage(adapted)
    if llama:
        streams = adapted.stream or adapted.aggregate
        adapted.asks_progress = streams and adapted.shape is None and PROGRESS not in body
    return adapted


def _ask_for_usage(adapted: Adapted) -> None:
    adapted.asks_usage = True
    if "stream_options" in adapted.body:
        _change(adapted, stream_options=with_usage_asked(adapted.body["stream_options"]))


def _adapt_vectors(adapted: Adapted, kind: Kind, endpoint: RouteEndpoint) -> Refusal | None:
    body = adapted.body
    llama = endpoint.dialect == LLAMA_CPP
    if kind is Kind.RERANK:
        if llama:
            changes = dialect.documents(body)
            if isinstance(changes, Refusal):
                return changes
            if changes:
                _change(adapted, **changes)
        returned = body.get("return_documents") is True
        adapted.vectors = Ranked(tuple(body.get("documents") or ()) if returned else None)
    elif llama and body.get("dimensions") is not None:
        adapted.vectors = Shortened(int(body["dimensions"]))
    return None


def _adapt_shaped(adapted: Adapted, kind: Kind, *, llama: bool) -> Refusal | None:
    body, chat = adapted.body, kind is CHAT
    logprobs = _adapt_logprobs(adapted, chat=chat, llama=llama)
    if not llama:
        if logprobs is not Logprobs.AS_GIVEN:
            adapted.shape = Shape(chat, adapted.classic, logprobs)
        return None
    forced = dialect.forced_call(body) if chat else {}
    if isinstance(forced, Refusal):
        return forced
    if forced:
        _change(adapted, **forced)
    per_prompt = int(body.get("n") or 1)
    if per_prompt > 1 and not adapted.stream and _unstreamable(adapted.body, llama=llama):
        return _NO_COUNTED_LOGPROBS
    choices = per_prompt if chat else per_prompt * prompts_in(body.get("prompt"))
    echoed: tuple[str, ...] = ()
    if body.get("echo") is True:
        if not chat and body.get("logprobs"):
            return _NO_ECHOED_LOGPROBS
        texts = _said(body.get("messages") or []) if chat else _prompt_texts(body.get("prompt"))
        if isinstance(texts, Refusal):
            return texts
        echoed = texts
    silent = not chat and dialect.says_nothing(body)
    if forced or silent or echoed or choices > 1 or logprobs is not Logprobs.AS_GIVEN:
        adapted.shape = Shape(chat, adapted.classic, logprobs, choices, per_prompt, echoed, bool(forced), silent)
    return None


def _adapt_logprobs(adapted: Adapted, *, chat: bool, llama: bool) -> Logprobs:
    body = adapted.body
    asked = body.get("logprobs")
    if asked is None or (not chat and not llama):
        return Logprobs.AS_GIVEN
    if type(asked) is bool and chat:
        if not asked or not llama or body.get("top_logprobs"):
            return Logprobs.AS_GIVEN
        # Without a number llama.cpp gives 20 alternatives, and for 0 no log probabilities at all.
        _change(adapted, top_logprobs=1)
        return Logprobs.BARE
    count = int(asked)
    if chat:
        _change(adapted, logprobs=count > 0)
        if count > 0:
            _change(adapted, top_logprobs=body.get("top_logprobs") or count)
    elif type(asked) is not int:
        _change(adapted, logprobs=count)
    return Logprobs.CLASSIC if count > 0 else Logprobs.AS_GIVEN


def _unstreamable(body: dict[str, Any], *, llama: bool) -> bool:
    # llama.cpp has no log probabilities in streams with tools.
    return llama and bool(body.get("tools")) and bool(body.get("logprobs"))


def _prompt_texts(prompt: Any) -> tuple[str, ...] | Refusal:
    texts = (prompt,) if isinstance(prompt, str) else tuple(prompt or ())
    return texts if all(isinstance(text, str) for text in texts) else _NO_ECHOED_TOKENS


def _said(messages: list[dict[str, Any]]) -> tuple[str, ...]:
    """The text of each message: its content, or the text parts of it."""
    said = []
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        said.append("\n".join(text for text in texts if isinstance(text, str)))
    return tuple(said)


_NO_COUNTED_LOGPROBS = Refusal(
    400,
    "n above 1 does not go together with logprobs and tools here: the engine counts the tokens of one choice only. "
    "Send a request for each choice.",
    "unsupported_parameter",
    param="n",
    should_retry=False,
)
_NO_ECHOED_LOGPROBS = Refusal(
    400,
    "echo and logprobs do not go together here: the engine tells no log probabilities of a prompt.",
    "unsupported_parameter",
    param="echo",
    should_retry=False,
)
_NO_ECHOED_TOKENS = Refusal(
    400, "echo needs prompts as text, not as token numbers.", "unsupported_parameter", param="echo", should_retry=False
)


def _change(adapted: Adapted, **values: Any) -> None:
    if not adapted.changed:
        adapted.body = dict(adapted.body)
        adapted.changed = True
    adapted.body.update(values)
