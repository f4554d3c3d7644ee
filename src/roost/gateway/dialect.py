"""What llama.cpp wants instead of what clients of OpenAI's API send. Pure.

Called by ``classic.adapt`` for deployments of that dialect. Each function returns the fields to put into the body; what
is not named here passes untouched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from roost.gateway.answers import Refusal
from roost.gateway.body import MAX_DEPTH, encode
from roost.gateway.params import function_name, schema_of

_NAMES = {"repetition_penalty": "repeat_penalty"}
_CHANGED = frozenset((*_NAMES, "response_format"))
CONTROLS = frozenset(("id_slot", "n_cmpl", "n_predict", "n_probs", "post_sampling_probs", "verbose"))
"""Fields of llama.cpp's own that no client of the API may send: they show the engine's inside, pick a slot, or stand
above the fields that are checked here (``max_tokens``, ``n``, ``logprobs``). They are taken out."""


def generation(body: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of chat and completions by llama.cpp's names, and a schema where it looks for one."""
    if _CHANGED.isdisjoint(body):
        return {}  # as for most requests
    changes = {own: body[name] for name, own in _NAMES.items() if body.get(name) is not None and own not in body}
    response_format = body.get("response_format")
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        schema = schema_of(response_format)
        if "schema" in response_format and schema is not None:
            changes["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}
    return changes


def says_nothing(body: Mapping[str, Any]) -> bool:
    """Whether no token is wanted, only what comes with an answer: llama.cpp says one all the same."""
    most = body.get("max_completion_tokens")
    return (body.get("max_tokens") if most is None else most) == 0


def forced_call(body: Mapping[str, Any]) -> dict[str, Any] | Refusal:
    """A body that makes the model call a tool: llama.cpp cannot be told to call a certain one, and with ``required``
    lets the model talk before it calls, without end. The answer is instead held to the JSON of a call (``call_in``
    reads it); the tools stay in the prompt. Empty when the choice is the model's.

    Each tool's parameters stay in one piece below ``$defs``, since two may define the same name."""
    choice, tools = body.get("tool_choice"), body.get("tools")
    if not tools or not (choice == "required" or isinstance(choice, dict)):
        return {}
    wanted = function_name(choice) if isinstance(choice, dict) else None
    chosen = [tool for tool in tools if wanted is None or function_name(tool) == wanted]
    calls, roots = [], {}
    for number, tool in enumerate(chosen):
        function = tool["function"]
        parameters = function.get("parameters")
        arguments = parameters if isinstance(parameters, dict) and parameters else {"type": "object"}
        root = f"#/$defs/{number}"
        try:
            roots[str(number)] = _at(root, arguments, arguments)
        except _NotThere as error:
            message = (
                f"The parameters of the function {function['name'][:100]} refer to {error}, which they do not hold."
            )
            return Refusal(400, message, "bad_value", param="tools")
        calls.append(_call_schema(function["name"], root))
    schema = {**(calls[0] if len(calls) == 1 else {"anyOf": calls}), "$defs": roots}
    return {
        "tools": chosen,
        "tool_choice": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
    }


def _call_schema(name: str, arguments: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": {"$ref": arguments}},
        "required": ["name", "arguments"],
    }


class _NotThere(Exception):
    """A reference leads nowhere."""


def _at(root: str, value: Any, whole: Mapping[str, Any], depth: int = 0) -> Any:
    """``value``, a part of the schema ``whole``, with references for the place ``root`` that ``whole`` moves to.
    llama.cpp takes every ``$ref`` for one, wherever it stands. Raises ``_NotThere``."""
    if depth > MAX_DEPTH:
        return value  # refused as too deep when it is written
    if isinstance(value, list):
        return [_at(root, each, whole, depth + 1) for each in value]
    if not isinstance(value, dict):
        return value
    moved = {}
    for name, each in value.items():
        if name == "$ref" and isinstance(each, str) and (each == "#" or each.startswith("#/")):
            if not _holds(whole, each.split("/")[1:]):
                raise _NotThere(each[:200])
            moved[name] = root + each[1:]
        else:
            moved[name] = _at(root, each, whole, depth + 1)
    return moved


def _holds(value: Any, path: list[str]) -> bool:
    # As llama.cpp goes: by the names as they are, without JSON pointers' escapes.
    for name in path:
        if isinstance(value, list):
            value = value[int(name)] if name.isdecimal() and len(name) < 9 and int(name) < len(value) else None
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value is not None


def documents(body: Mapping[str, Any]) -> dict[str, Any] | Refusal:
    """The documents of a rerank request as texts; empty when they are. Refused is what is nested too deep."""
    given = body.get("documents")
    if given is None or all(isinstance(document, str) for document in given):
        return {}
    texts: list[str] = []
    for document in given:
        text = document_text(document, body.get("rank_fields"))
        if isinstance(text, Refusal):
            return text
        texts.append(text)
    return {"documents": texts}


def document_text(document: str | Mapping[str, Any], fields: list[str] | None) -> str | Refusal:
    """What of a document is ranked: itself, or its ``fields`` (all, when none are named), one to a line. Fields of null
    are left out; what is not text is ranked as JSON."""
    if isinstance(document, str):
        return document
    texts = []
    for name in dict.fromkeys(fields or document):
        value = document.get(name)
        if value is None:
            continue
        text = value if isinstance(value, str) else _json(value)
        if isinstance(text, Refusal):
            return text
        texts.append((name, text))
    return texts[0][1] if len(texts) == 1 else "\n".join(f"{name}: {text}" for name, text in texts)


def _json(value: Any) -> str | Refusal:
    # Only what has parts can be too deep.
    written = encode(value) if isinstance(value, (dict, list)) else json.dumps(value)
    return written.decode() if isinstance(written, bytes) else written
