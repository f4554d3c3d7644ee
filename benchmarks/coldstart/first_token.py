"""The request that both sides are asked, and the moment of its first token."""

from __future__ import annotations

import json
import time

import httpx

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]


def first_token(client: httpx.Client, model: str) -> float:
    """When (``time.perf_counter``) the first text of a streamed answer arrived. Raises ``httpx`` errors."""
    body = {"model": model, "messages": MESSAGES, "temperature": 0, "max_tokens": 4, "stream": True}
    with client.stream("POST", "/chat/completions", json=body, timeout=120) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            choices = json.loads(line.removeprefix("data: ")).get("choices") or [{}]
            if (choices[0].get("delta") or {}).get("content"):
                return time.perf_counter()
    raise SystemExit("The answer held no text.")
