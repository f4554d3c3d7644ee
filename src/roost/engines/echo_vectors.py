"""What the echo engine answers to embeddings and rerank requests: numbers that depend on the words alone. Pure.

Called by ``echo_http``; standard library only. Texts that share words are near each other, so that answers make sense
without a model.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
from collections.abc import Sequence
from typing import Any

from roost.engines.echo_reply import Unacceptable

DIMENSIONS = 64


def embed(text: str) -> list[float]:
    """The embedding of a text: of norm 1, and the same whenever its words are."""
    total = [0.0] * DIMENSIONS
    for word in text.lower().split() or [""]:
        digest = hashlib.sha512(word.encode("utf-8", "replace")).digest()
        total = [known + (byte - 127.5) for known, byte in zip(total, digest, strict=True)]
    norm = math.sqrt(sum(number * number for number in total)) or 1.0
    return [number / norm for number in total]


def embeddings(body: bytes, *, model: str) -> bytes:
    """The body of an answer to an embeddings request. Raises ``Unacceptable``."""
    data = _object(body)
    given = data.get("input")
    texts = [given] if isinstance(given, str) or _are_tokens(given) else given
    if not isinstance(texts, list) or not texts:
        raise Unacceptable("input must be a text, tokens, or a list of those", "input")
    said = [text if isinstance(text, str) else " ".join(map(str, text)) for text in texts]
    vectors = [embed(text)[: data.get("dimensions") or DIMENSIONS] for text in said]
    packed = data.get("encoding_format") == "base64"
    items = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
        for index, vector in enumerate(vectors)
    ]
    return _answer(data, model, sum(len(text.split()) for text in said), data=items)


def rerank(body: bytes, *, model: str) -> bytes:
    """The body of an answer to a rerank request. Raises ``Unacceptable``."""
    data = _object(body)
    query, documents = data.get("query"), data.get("documents")
    if not isinstance(query, str):
        raise Unacceptable("query must be a text", "query")
    if not isinstance(documents, list) or not documents:
        raise Unacceptable("documents must be a list of at least one", "documents")
    texts = [document if isinstance(document, str) else json.dumps(document) for document in documents]
    wanted = embed(query)
    scores = [sum(a * b for a, b in zip(wanted, embed(text), strict=True)) for text in texts]
    order = sorted(range(len(texts)), key=lambda index: -scores[index])[: data.get("top_n") or len(texts)]
    results = [{"index": index, "relevance_score": scores[index]} for index in order]
    return _answer(data, model, sum(len(text.split()) for text in (query, *texts)), results=results)


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unacceptable(f"the body is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise Unacceptable("the body must be a JSON object")
    return data


def _are_tokens(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(each, int) for each in given) and bool(given)


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _answer(asked: dict[str, Any], model: str, tokens: int, **rest: Any) -> bytes:
    name = asked["model"] if isinstance(asked.get("model"), str) else model
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json.dumps({"object": "list", "model": name, "usage": usage, **rest}, separators=(",", ":")).encode()
