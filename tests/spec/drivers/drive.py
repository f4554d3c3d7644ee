"""Makes calls of a published Python client as told on stdin, one JSON line each, and answers each with one on stdout.

``python drive.py together|openai sync|async|raw``, by the interpreter that has the client. A call is ``{"path", "args",
"kwargs"}``; the answer is ``{"value"}`` or ``{"refused": {"type", "status", "message"}}``. Standard library only.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
from functools import reduce
from typing import Any


def plain(value: Any) -> Any:
    """``value`` as JSON has it; what comes bit by bit as a list."""
    if hasattr(value, "model_dump"):
        return plain(value.model_dump())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return [plain(item) for item in value]


async def settled(value: Any) -> Any:
    """``value``, waited for where it is to be awaited."""
    if inspect.isawaitable(value):
        value = await value
    if hasattr(value, "__aiter__") and not hasattr(value, "model_dump"):
        value = [item async for item in value]
    return value


async def call(client: Any, mode: str, order: dict[str, Any]) -> Any:
    *owners, name = order["path"].split(".")
    owner = reduce(getattr, owners, client)
    if mode == "raw":
        raw = getattr(owner.with_raw_response, name)(*order["args"], **order["kwargs"])
        headers = {key.lower(): item for key, item in raw.headers.items()}
        return {"status": raw.status_code, "headers": headers, "value": plain(raw.parse())}
    value = getattr(owner, name)(*order["args"], **order["kwargs"])
    return plain(await settled(value) if mode == "async" else value)


async def main(package: str, mode: str) -> None:
    module = importlib.import_module(package)
    kind = {"together": "Together", "openai": "OpenAI"}[package]
    client = getattr(module, f"Async{kind}" if mode == "async" else kind)()
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            answer = {"value": await call(client, mode, json.loads(line))}
        # A test is told what the client raised, whatever it was.
        except Exception as error:  # noqa: BLE001
            status = getattr(error, "status_code", None) or getattr(error, "http_status", None)
            answer = {"refused": {"type": type(error).__name__, "status": status, "message": str(error)}}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
