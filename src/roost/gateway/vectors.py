"""Answers of embeddings and rerank requests as the clients expect them. Pure.

Used by ``shaping`` for whole answers. It changes the engine's dictionaries in place.
"""

from __future__ import annotations

import base64
import math
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roost.gateway.answers import Refusal


@dataclass(frozen=True, slots=True)
class Shortened:
    """Embeddings that were asked for with fewer ``dimensions`` than the model gives."""

    dimensions: int

    def apply(self, answer: dict[str, Any]) -> Refusal | None:
        """Cut every embedding to length and scale it to a norm of 1; refuse what is longer than there is."""
        for item in answer["data"]:
            vector = _vector(item["embedding"])
            if len(vector) < self.dimensions:
                message = f"dimensions must be at most {len(vector)}, which is what this deployment gives."
                return Refusal(400, message, "bad_value", param="dimensions")
            short = _unit(vector[: self.dimensions])
            item["embedding"] = _packed(short) if isinstance(item["embedding"], str) else short
        return None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A rerank answer: ``documents`` as the client sent them, where it wants them back."""

    documents: tuple[str | Mapping[str, Any], ...] | None = None

    def apply(self, answer: dict[str, Any]) -> Refusal | None:
        """Name the object, complete the usage, put the documents to the results."""
        answer["object"] = "rerank"
        usage = answer.get("usage")
        if isinstance(usage, dict):
            total = usage.get("total_tokens", 0)
            answer["usage"] = {"prompt_tokens": total, "completion_tokens": 0, "total_tokens": total, **usage}
        if self.documents is not None:
            for result in answer["results"]:
                document = self.documents[result["index"]]
                result["document"] = {"text": document} if isinstance(document, str) else document
        return None


def _vector(embedding: list[float] | str) -> list[float]:
    if not isinstance(embedding, str):
        return embedding
    numbers = array("f", base64.b64decode(embedding))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _packed(vector: list[float]) -> str:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def _unit(vector: list[float]) -> list[float]:
    norm = math.sqrt(sum(number * number for number in vector))
    return [number / norm for number in vector] if norm else vector
