"""What llama.cpp wants instead of what clients of OpenAI's API send. Pure.

Called by ``classic.adapt`` for deployments of that dialect. Each function returns the fields to put into the body; what
is not named here passes untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roost.gateway.params import function_name, schema_of

_NAMES = {"repetition_penalty": "repeat_penalty"}


def generation(body: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of chat and completions by llama.cpp's names, and a schema where it looks for one."""
    changes = {own: body[name] for name, own in _NAMES.items() if body.get(name) is not None and own not in body}
    response_format = body.get("response_format")
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        schema = schema_of(response_format)
        if "schema" in response_format and schema is not None:
            changes["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}
    return changes


def forced_call(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body that makes the model call a tool: llama.cpp cannot be told to call a certain one, and with ``required``
    lets the model talk before it calls, without end. The answer is instead held to the JSON of a call (``call_in``
    reads it); the tools stay in the prompt. Empty when the choice is the model's."""
    choice, tools = body.get("tool_choice"), body.get("tools")
    if not tools or not (choice == "required" or isinstance(choice, dict)):
        return {}
    wanted = function_name(choice) if isinstance(choice, dict) else None
    chosen = [tool for tool in tools if wanted is None or function_name(tool) == wanted]
    shared: dict[str, dict[str, Any]] = {}
    calls = [_call_schema(tool["function"], shared) for tool in chosen]
    schema = {**(calls[0] if len(calls) == 1 else {"anyOf": calls}), **shared}
    return {
        "tools": chosen,
        "tool_choice": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
    }


def _call_schema(function: Mapping[str, Any], shared: dict[str, dict[str, Any]]) -> dict[str, Any]:
    parameters = function.get("parameters")
    arguments = dict(parameters) if isinstance(parameters, dict) and parameters else {"type": "object"}
    for name in ("$defs", "definitions"):
        # References begin at the root of the whole schema.
        definitions = arguments.pop(name, None)
        if isinstance(definitions, dict):
            shared.setdefault(name, {}).update(definitions)
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, "arguments": arguments},
        "required": ["name", "arguments"],
    }


def documents(body: Mapping[str, Any]) -> dict[str, Any]:
    """The documents of a rerank request as texts; empty when they are."""
    given = body.get("documents")
    if given is None or all(isinstance(document, str) for document in given):
        return {}
    return {"documents": [document_text(document, body.get("rank_fields")) for document in given]}


def document_text(document: str | Mapping[str, Any], fields: list[str] | None) -> str:
    """What of a document is ranked: itself, or its ``fields`` (all, when none are named), one to a line."""
    if isinstance(document, str):
        return document
    chosen = [(name, document[name]) for name in (fields or document) if name in document]
    if len(chosen) == 1:
        return str(chosen[0][1])
    return "\n".join(f"{name}: {value}" for name, value in chosen)
