"""What parameters of inference may hold: the mistakes that engines would answer with a 500, with nonsense, or not at
all. Pure.

Called by the gateway for every request, before ``classic.adapt``. What is not named here is the engine's to judge; it
must never refuse what an engine does well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from roost.domain.routing import RouteEndpoint
from roost.gateway import limits
from roost.gateway.answers import Refusal
from roost.gateway.request import CHAT, COMPLETIONS, Kind

MOST_LOGPROBS = 20


class Rule(NamedTuple):
    """``holds`` tells whether a value will do; ``takes`` says in words what would."""

    holds: Callable[[Any], bool]
    takes: str


def _number(least: float, most: float = float("inf")) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and least <= value <= most


def _whole(least: float, most: float = float("inf")) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        if type(value) is int or (type(value) is float and value.is_integer()):
            return least <= value <= most
        return False

    return holds


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _one_of(*words: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in words


def _list_of(kind: type | tuple[type, ...], most: int) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and 0 < len(value) <= most and all(isinstance(each, kind) for each in value)
    )


def _is_tokens(value: Any) -> bool:
    if not isinstance(value, list) or not limits.begins_with_token(value):
        return False
    # Three runs in C are ten times as fast as one that looks at each number here.
    return set(map(type, value)) == {int} and min(value) >= 0 and max(value) <= limits.WIDEST_TOKEN


def _is_prompt(value: Any) -> bool:
    if not isinstance(value, list) or limits.begins_with_token(value):
        return isinstance(value, str) or _is_tokens(value)
    return bool(value) and all(isinstance(prompt, str) or _is_tokens(prompt) for prompt in value)


def _is_stop(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= limits.MOST_STOPS and all(isinstance(each, str) for each in value)
    return isinstance(value, str)


def _are_messages(value: Any) -> bool:
    if type(value) is not list or not 0 < len(value) <= limits.MOST_MESSAGES:
        return False
    for message in value:  # noqa: SIM110 (twice as fast, and conversations are long)
        if type(message) is not dict or type(message.get("role")) is not str:
            return False
    return True


def _are_tools(value: Any) -> bool:
    if not isinstance(value, list) or len(value) > limits.MOST_TOOLS:
        return False
    return all(isinstance(tool, dict) and function_name(tool) for tool in value)


def function_name(tool: Mapping[str, Any]) -> str | None:
    """The name in ``{"type": "function", "function": {"name": …}}``; None when it is something else."""
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return name if tool.get("type") == "function" and isinstance(name, str) and name else None


def _is_format(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return False
    return value["type"] != "json_schema" or schema_of(value) is not None


def schema_of(response_format: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema in a ``response_format``, wherever clients put it; None when there is none."""
    inner = response_format.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    schema = response_format.get("schema") if schema is None else schema
    return schema if isinstance(schema, dict) else None


def _are_biases(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) > limits.MOST_BIASES:
        return False
    return all(_number(-100, 100)(bias) for bias in value.values())


_POSITIVE = Rule(_whole(1), "a whole number from 1")
_LENGTH = Rule(_whole(1), "a whole number from 1; leave it out for as many tokens as the context holds")
_LENGTH_OR_NONE = Rule(_whole(0), "a whole number from 0; leave it out for as many tokens as the context holds")
_PENALTY = Rule(_number(-2, 2), "a number from -2 to 2")
_PROMPT = Rule(
    _is_prompt,
    f"a string, a list of token numbers (0 to {limits.WIDEST_TOKEN}), or a list of those",
)
_SHARE = Rule(_number(0, 1), "a number from 0 to 1")
_SWITCH = Rule(_is(bool), "true or false")

SAMPLING = {
    "temperature": Rule(_number(0), "a number from 0"),
    "top_p": _SHARE,
    "min_p": _SHARE,
    "top_k": Rule(_whole(-1), "a whole number from -1"),
    "repetition_penalty": Rule(lambda value: _number(0)(value) and value > 0, "a number above 0"),
    "presence_penalty": _PENALTY,
    "frequency_penalty": _PENALTY,
    "n": Rule(_whole(1, limits.MOST_CHOICES), f"a whole number from 1 to {limits.MOST_CHOICES}"),
    "max_tokens": _LENGTH,
    "max_completion_tokens": _LENGTH,
    "seed": Rule(_whole(float("-inf")), "a whole number"),
    "stop": Rule(_is_stop, f"a string or a list of at most {limits.MOST_STOPS} strings"),
    "stream": _SWITCH,
    "stream_options": Rule(_is(dict), "an object"),
    "logprobs": Rule(
        lambda value: isinstance(value, bool) or _whole(0, MOST_LOGPROBS)(value),
        f"true, false, or a whole number from 0 to {MOST_LOGPROBS}",
    ),
    "logit_bias": Rule(_are_biases, f"an object of at most {limits.MOST_BIASES} numbers from -100 to 100"),
    "echo": _SWITCH,
    "context_length_exceeded_behavior": Rule(_one_of("error", "truncate"), "error or truncate"),
}  # fmt: skip
RULES: dict[Kind, dict[str, Rule]] = {
    Kind.CHAT: {
        **SAMPLING,
        "messages": Rule(_are_messages, f"a list of 1 to {limits.MOST_MESSAGES} messages, each an object with a role"),
        "top_logprobs": Rule(_whole(0, MOST_LOGPROBS), f"a whole number from 0 to {MOST_LOGPROBS}"),
        "tools": Rule(
            _are_tools, f'a list of at most {limits.MOST_TOOLS} {{"type": "function", "function": {{"name": …}}}}'
        ),
        "tool_choice": Rule(_is(str, dict), "none, auto, required or a function's name in an object"),
        "response_format": Rule(_is_format, "an object with a type; one of type json_schema needs a schema"),
    },
    Kind.COMPLETIONS: {
        **SAMPLING,
        "prompt": _PROMPT,
        "max_tokens": _LENGTH_OR_NONE,
        "max_completion_tokens": _LENGTH_OR_NONE,
    },
    Kind.EMBEDDINGS: {
        "input": _PROMPT,
        "encoding_format": Rule(_one_of("float", "base64"), "float or base64"),
        "dimensions": _POSITIVE,
    },
    Kind.RERANK: {
        "query": Rule(lambda value: isinstance(value, str) and bool(value), "a string that is not empty"),
        "documents": Rule(
            _list_of((str, dict), limits.MOST_DOCUMENTS),
            f"a list of 1 to {limits.MOST_DOCUMENTS} strings or objects",
        ),
        "top_n": _POSITIVE,
        "return_documents": _SWITCH,
        "rank_fields": Rule(_list_of(str, limits.MOST_FIELDS), f"a list of 1 to {limits.MOST_FIELDS} strings"),
    },
}
_CHECKS = tuple({name: rule.holds for name, rule in RULES[kind].items()} for kind in sorted(RULES))
"""By ``Kind``: looked up for each request."""
_SERVED = {"embedding": Kind.EMBEDDINGS, "rerank": Kind.RERANK}
_SAYS = {
    Kind.CHAT: "chat or completions",
    Kind.COMPLETIONS: "chat or completions",
    Kind.EMBEDDINGS: "embeddings",
    Kind.RERANK: "reranking",
}


def refusal(body: Mapping[str, Any], kind: Kind, endpoint: RouteEndpoint) -> Refusal | None:
    """Why ``body`` cannot be sent to ``endpoint``; None when it can. A parameter of null is one that is not there."""
    served = _SERVED.get(endpoint.type, CHAT)
    if served is not kind and (served is not CHAT or kind is not COMPLETIONS):
        return _other_operation(kind, served)
    if kind is not CHAT:
        excess = limits.excess(body, kind, endpoint.context_length)
        if excess is not None:
            return excess
    checks = _CHECKS[kind]
    for name, value in body.items():
        holds = checks.get(name)
        if holds is not None and value is not None and not holds(value):
            return Refusal(400, f"{name} must be {RULES[kind][name].takes}.", "bad_value", param=name)
    if "tool_choice" in body and kind is CHAT and body["tool_choice"] is not None:
        unknown = _tool_choice(body)
        if unknown is not None:
            return unknown
    if not endpoint.logprobs and wants_logprobs(body):
        return _UNTRUE
    return _too_long(body, endpoint) if "context_length_exceeded_behavior" in body else None


def wants_logprobs(body: Mapping[str, Any]) -> bool:
    """Whether log probabilities are asked for."""
    return bool(body.get("logprobs") or body.get("top_logprobs"))


_UNTRUE = Refusal(
    400,
    "Log probabilities are not available while this deployment decodes speculatively; create it with "
    "disable_speculative_decoding (`roost endpoints create --no-speculative-decoding`) to have them.",
    "logprobs_unavailable",
    param="logprobs",
    should_retry=False,
)


def _other_operation(kind: Kind, served: Kind) -> Refusal:
    message = f"This deployment does not offer {_SAYS[kind]}; it serves {_SAYS[served]}."
    return Refusal(400, message, "unsupported_operation", param="model", should_retry=False)


def _tool_choice(body: Mapping[str, Any]) -> Refusal | None:
    choice, tools = body["tool_choice"], body.get("tools") or []
    if isinstance(choice, str):
        if choice not in ("none", "auto", "required"):
            takes = RULES[Kind.CHAT]["tool_choice"].takes
            return Refusal(400, f"tool_choice must be {takes}.", "bad_value", param="tool_choice")
        if choice != "required" or tools:
            return None
        return Refusal(400, "tool_choice is required, but there are no tools.", "bad_value", param="tool_choice")
    name = function_name(choice)
    if name is not None and name in {function_name(tool) for tool in tools}:
        return None
    return Refusal(400, "tool_choice must name one of the functions in tools.", "bad_value", param="tool_choice")


def _too_long(body: Mapping[str, Any], endpoint: RouteEndpoint) -> Refusal | None:
    most = endpoint.context_length
    if body["context_length_exceeded_behavior"] != "error" or most is None:
        return None
    for name in ("max_completion_tokens", "max_tokens"):
        if (body.get(name) or 0) > most:
            message = (
                f"{name} exceeds the context length of {most} tokens; ask for fewer, or send "
                'context_length_exceeded_behavior "truncate".'
            )
            return Refusal(400, message, "context_length_exceeded", param=name)
    return None
