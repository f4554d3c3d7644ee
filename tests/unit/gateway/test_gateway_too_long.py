"""What a caller reads of a prompt that is longer than the engine's context."""

from __future__ import annotations

import json

from roost.gateway.http1 import ResponseHead
from roost.gateway.shaping import reenveloped


def test_the_engines_refusal_of_a_long_prompt_says_what_helps() -> None:
    told = "request (4020 tokens) exceeds the available context size (2048 tokens), try increasing it"
    error = {"code": 400, "message": told, "type": "exceed_context_size_error"}
    found = reenveloped(400, json.dumps({"error": error}).encode(), ResponseHead(b"HTTP/1.1 400 Bad Request"))
    assert (found.status, found.code) == (400, "context_length_exceeded")
    assert found.message == (
        "The prompt has 4020 tokens and the deployment takes 2048: shorten it, or deploy with a larger context_length."
    )
