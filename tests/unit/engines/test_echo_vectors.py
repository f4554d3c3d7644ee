"""The echo engine's embeddings and rankings."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.engines.echo_reply import Unacceptable
from roost.engines.echo_vectors import DIMENSIONS, embed, embeddings, rerank


def ask(answer: Any, **body: Any) -> Any:
    return json.loads(answer(json.dumps(body).encode(), model="m"))


@given(st.text())
def test_an_embedding_has_a_norm_of_one_and_depends_on_the_words_alone(text: str) -> None:
    vector = embed(text)
    assert sum(number * number for number in vector) == pytest.approx(1.0)
    assert vector == embed(f" {text.upper().lower()} ") or text.lower() != text.upper().lower()


def test_texts_that_share_words_are_near_each_other() -> None:
    results = ask(rerank, query="a red cat", documents=["tax law", "the red cat", "dogs"], top_n=2)["results"]
    assert results[0]["index"] == 1
    assert len(results) == 2
    assert results[0]["relevance_score"] > results[1]["relevance_score"]


def test_inputs_of_all_forms() -> None:
    assert [item["index"] for item in ask(embeddings, input=["a", "b"])["data"]] == [0, 1]
    assert len(ask(embeddings, input=[1, 2])["data"]) == 1
    (plain,) = ask(embeddings, input="a b")["data"]
    (packed,) = ask(embeddings, input="a b", encoding_format="base64")["data"]
    numbers = struct.unpack(f"<{DIMENSIONS}f", base64.b64decode(packed["embedding"]))
    assert list(numbers) == pytest.approx(plain["embedding"], abs=1e-6)
    assert ask(embeddings, input="a b")["usage"] == {"prompt_tokens": 2, "total_tokens": 2}


@pytest.mark.parametrize(
    ("answer", "body", "param"),
    [
        (embeddings, {}, "input"),
        (embeddings, {"input": []}, "input"),
        (rerank, {"documents": ["a"]}, "query"),
        (rerank, {"query": "a", "documents": []}, "documents"),
    ],
)
def test_what_is_missing_is_named(answer: Any, body: dict[str, Any], param: str) -> None:
    with pytest.raises(Unacceptable) as caught:
        ask(answer, **body)
    assert caught.value.param == param
