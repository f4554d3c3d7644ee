"""How much one request may hold and ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.gateway.test_gateway_params import TOOL, route

from roost.gateway import limits
from roost.gateway.answers import Refusal
from roost.gateway.classic import Adapted, adapt
from roost.gateway.params import refusal
from roost.gateway.request import Kind


class Unread(list[Any]):
    """A list that must not be looked through."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("somebody looked at each element")


def refused(body: dict[str, Any], kind: Kind, **changes: Any) -> Refusal:
    found = refusal(body, kind, route(kind, **changes))
    assert found is not None
    assert found.status == 400
    return found


@pytest.mark.parametrize(
    ("kind", "name", "element", "most"),
    [
        (Kind.CHAT, "messages", {"role": "user", "content": "x"}, 10_000),
        (Kind.CHAT, "tools", TOOL, 128),
        (Kind.CHAT, "stop", "x", 64),
        (Kind.COMPLETIONS, "prompt", "x", 128),
        (Kind.COMPLETIONS, "prompt", [1], 128),
        (Kind.EMBEDDINGS, "input", "x", 2048),
        (Kind.RERANK, "documents", "x", 1024),
        (Kind.RERANK, "rank_fields", "x", 64),
    ],
)
def test_a_list_has_a_most_and_what_is_beyond_is_named(kind: Kind, name: str, element: Any, most: int) -> None:
    assert refusal({name: [element] * most}, kind, route(kind)) is None
    found = refused({name: [element] * (most + 1)}, kind)
    assert (found.param, found.code) == (name, "bad_value")
    assert found.message.startswith(name)
    assert str(most) in found.message


def test_biases_have_a_most() -> None:
    biases = {str(token): 1 for token in range(1025)}
    assert "1024" in refused({"logit_bias": biases}, Kind.CHAT).message
    del biases["0"]
    assert refusal({"logit_bias": biases}, Kind.CHAT, route()) is None


def test_each_prompt_counts_as_often_as_it_is_answered() -> None:
    body = {"prompt": ["x"] * 32, "n": 4}
    assert refusal(body, Kind.COMPLETIONS, route(Kind.COMPLETIONS)) is None
    found = refused({**body, "prompt": ["x"] * 33}, Kind.COMPLETIONS)
    assert found.param == "prompt"
    assert "128" in found.message
    one = {"prompt": [1] * 200, "n": 4}
    assert refusal(one, Kind.COMPLETIONS, route(Kind.COMPLETIONS)) is None


@pytest.mark.parametrize("n", [True, "x", 1.5, float("nan"), 2**200, -1, None])
def test_a_number_of_answers_that_is_none_is_refused_by_its_own_name(n: Any) -> None:
    found = refusal({"prompt": ["x"] * 128, "n": n}, Kind.COMPLETIONS, route(Kind.COMPLETIONS))
    assert found is None if n is None else found is not None and found.param == "n"


@pytest.mark.parametrize("kind", [Kind.COMPLETIONS, Kind.EMBEDDINGS])
def test_more_tokens_than_the_context_are_refused_before_they_are_looked_at(kind: Kind) -> None:
    name = "prompt" if kind is Kind.COMPLETIONS else "input"
    assert refusal({name: [1] * 10}, kind, route(kind, context_length=10)) is None
    assert refusal({name: [[1] * 10, [1] * 10]}, kind, route(kind, context_length=10)) is None
    for tokens in (Unread([1] * 11), [[1], Unread([1] * 11)]):
        found = refused({name: tokens}, kind, context_length=10)
        assert (found.param, found.code) == (name, "context_length_exceeded")


def test_tokens_are_bounded_where_no_context_bounds_them_and_over_all_prompts() -> None:
    kind = Kind.COMPLETIONS
    whole = [1] * limits.MOST_TOKENS
    assert refusal({"prompt": whole}, kind, route(kind)) is None
    assert refused({"prompt": Unread([*whole, 1])}, kind).code == "bad_value"
    assert refused({"prompt": [whole, Unread([1])]}, kind).code == "bad_value"
    assert refusal({"prompt": [*whole, 1]}, kind, route(kind, context_length=limits.MOST_TOKENS * 2)) is None


def test_lists_that_are_too_long_are_not_looked_through() -> None:
    for kind, name in ((Kind.CHAT, "tools"), (Kind.CHAT, "stop"), (Kind.RERANK, "documents")):
        assert refused({name: Unread(["x"] * 5000)}, kind).param == name
    assert refused({"prompt": Unread(["x"] * 5000)}, Kind.COMPLETIONS).param == "prompt"
    assert refused({"input": Unread([None] * 5000)}, Kind.EMBEDDINGS).param == "input"


@pytest.mark.parametrize("token", [-1, 2**31, 2**62, 1.0, True, None, "x"])
def test_a_token_is_a_number_that_engines_can_keep(token: Any) -> None:
    assert refusal({"prompt": [0, 2**31 - 1]}, Kind.COMPLETIONS, route(Kind.COMPLETIONS)) is None
    for prompt in ([1, token], [[1, token]]):
        found = refused({"prompt": prompt}, Kind.COMPLETIONS)
        assert (found.param, found.code) == ("prompt", "bad_value")
    assert str(2**31 - 1) in refused({"prompt": [-1]}, Kind.COMPLETIONS).message


def test_how_many_prompts_there_are_is_told_without_looking_at_tokens() -> None:
    endpoint = route(Kind.COMPLETIONS, dialect="llama_cpp")
    adapted = adapt({"prompt": Unread([1, 2, 3])}, Kind.COMPLETIONS, endpoint, classic=False)
    assert isinstance(adapted, Adapted)
    assert adapted.shape is None


def test_a_field_named_twice_is_ranked_once() -> None:
    endpoint = route(Kind.RERANK, dialect="llama_cpp")
    body = {"query": "x", "documents": [{"a": "long", "b": "c"}], "rank_fields": ["a", "a"]}
    adapted = adapt(body, Kind.RERANK, endpoint, classic=False)
    assert isinstance(adapted, Adapted)
    assert adapted.body["documents"] == ["long"]
