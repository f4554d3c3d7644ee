"""Which values of parameters the gateway takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.fakes import ENDPOINT, KEY, OTHER_KEY, World, post

from roost.domain.routing import RouteEndpoint
from roost.gateway.params import RULES, refusal
from roost.gateway.request import Kind

ROUTES = {Kind.CHAT: "chat", Kind.COMPLETIONS: "language", Kind.EMBEDDINGS: "embedding", Kind.RERANK: "rerank"}
TOOL = {"type": "function", "function": {"name": "f"}}


def route(kind: Kind = Kind.CHAT, **changes: Any) -> RouteEndpoint:
    return RouteEndpoint("e", "n", "o", "STARTED", True, "x", **{"type": ROUTES[kind], **changes})


GOOD: dict[str, list[Any]] = {
    "temperature": [0, 0.7, 2],
    "top_p": [0, 1, 0.5],
    "top_k": [-1, 0, 40, 40.0],
    "min_p": [0.05],
    "repetition_penalty": [0.5, 1],
    "presence_penalty": [-2, 2.0],
    "n": [1, 128],
    "max_tokens": [1, 10**9],
    "seed": [-1, 0, 2**63],
    "stop": ["x", ["x", "y"], []],
    "logprobs": [True, False, 0, 20],
    "logit_bias": [{}, {"198": -100, "5": 1.5}],
    "echo": [True],
    "messages": [[{"role": "user", "content": [{"type": "text", "text": "x"}]}]],
    "tools": [[], [TOOL]],
    "tool_choice": ["none", "auto"],
    "response_format": [{"type": "text"}, {"type": "json_object"}, {"type": "json_schema", "schema": {}}],
    "prompt": ["", "x", ["x"], [1, 2], [[1], [2]], ["x", [1]]],
    "input": ["x", ["x", "y"], [1]],
    "dimensions": [1],
    "documents": [["x"], [{"text": "x"}, "y"]],
    "top_n": [1],
}
BAD: dict[str, list[Any]] = {
    "temperature": ["hot", -1, True, []],
    "top_p": [7, -0.1],
    "top_k": [1.5, "x", -2],
    "min_p": [3],
    "repetition_penalty": [0, -2, "a"],
    "frequency_penalty": [9, "x"],
    "n": [0, 1000, 1.5, "2", True],
    "max_tokens": [-5, -1, 1.5, "x"],
    "max_completion_tokens": [-1],
    "seed": ["x", 1.5],
    "stop": [5, [1], {}],
    "stream": ["yes", 1],
    "stream_options": [5],
    "logprobs": [99, -1, "yes", 1.5],
    "top_logprobs": [99, -1, True],
    "logit_bias": ["x", [1], {"a": "b"}, {"a": 101}],
    "context_length_exceeded_behavior": ["explode", 1],
    "messages": [[], "hi", {"role": "user"}, ["a"], [{"content": "x"}], [{"role": 5}]],
    "tools": [5, [{"type": "x"}], [{"type": "function"}], [{"type": "function", "function": {"name": ""}}]],
    "tool_choice": ["zork", "required", TOOL, 5],
    "response_format": ["x", {}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {"schema": 1}}],
    "prompt": [5, [], [None], [1.5], [-1], [[]]],
    "input": [5, []],
    "encoding_format": ["zork"],
    "dimensions": [0, "x"],
    "documents": [[], "x", [5]],
    "query": ["", 5],
    "top_n": [0, -1],
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, rules in RULES.items() for name in rules])
def test_each_parameter_takes_what_is_good_and_names_itself_when_it_is_not(kind: Kind, name: str) -> None:
    assert refusal({name: None}, kind, route(kind)) is None
    for value in GOOD.get(name, []):
        assert refusal({name: value}, kind, route(kind)) is None, value
    for value in BAD.get(name, []):
        found = refusal({name: value}, kind, route(kind))
        assert found is not None, value
        assert (found.status, found.param, found.code) == (400, name, "bad_value")
        assert found.message.startswith(name)


KEYS = st.sampled_from(["role", "type", "function", "name", "schema"])
ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
    max_leaves=8,
)


@given(st.sampled_from([*ROUTES]), st.data())
def test_no_value_upsets_it(kind: Kind, data: st.DataObject) -> None:
    body = data.draw(st.dictionaries(st.sampled_from([*RULES[kind], "other"]), ANYTHING))
    found = refusal(body, kind, route(kind, logprobs=False, context_length=10))
    assert found is None or (found.status == 400 and found.param)


@pytest.mark.parametrize("kind", ROUTES)
@pytest.mark.parametrize("asked", ROUTES)
def test_a_deployment_serves_what_its_model_is_for(kind: Kind, asked: Kind) -> None:
    found = refusal({}, asked, route(kind))
    generates = {Kind.CHAT, Kind.COMPLETIONS}
    if kind is asked or {kind, asked} == generates:
        assert found is None
    else:
        assert found is not None
        assert (found.status, found.code, found.param) == (400, "unsupported_operation", "model")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_no_token_at_all_may_be_asked_of_completions_only(name: str) -> None:
    assert refusal({name: 0}, Kind.COMPLETIONS, route(Kind.COMPLETIONS)) is None
    assert refusal({name: 0}, Kind.CHAT, route()) is not None
    unlimited = refusal({name: -1}, Kind.COMPLETIONS, route(Kind.COMPLETIONS))
    assert unlimited is not None
    assert "leave it out" in unlimited.message


def test_a_tool_choice_names_a_tool() -> None:
    assert refusal({"tools": [TOOL], "tool_choice": TOOL}, Kind.CHAT, route()) is None
    assert refusal({"tools": [TOOL], "tool_choice": "required"}, Kind.CHAT, route()) is None
    other = {"type": "function", "function": {"name": "g"}}
    assert refusal({"tools": [TOOL], "tool_choice": other}, Kind.CHAT, route()) is not None


@pytest.mark.parametrize("body", [{"logprobs": True}, {"logprobs": 1}, {"top_logprobs": 1}])
def test_log_probabilities_that_are_not_true_are_refused(body: dict[str, Any]) -> None:
    found = refusal(body, Kind.CHAT, route(logprobs=False))
    assert found is not None
    assert (found.status, found.code) == (400, "logprobs_unavailable")
    assert "--no-speculative-decoding" in found.message
    assert refusal(body, Kind.CHAT, route()) is None
    assert refusal({"logprobs": 0}, Kind.CHAT, route(logprobs=False)) is None


def test_more_tokens_than_the_context_are_refused_where_the_client_says_so() -> None:
    body = {"max_tokens": 11}
    assert refusal(body, Kind.CHAT, route(context_length=10)) is None
    assert (
        refusal({**body, "context_length_exceeded_behavior": "truncate"}, Kind.CHAT, route(context_length=10)) is None
    )
    error = {**body, "context_length_exceeded_behavior": "error"}
    found = refusal(error, Kind.CHAT, route(context_length=10))
    assert found is not None
    assert (found.param, found.code) == ("max_tokens", "context_length_exceeded")
    assert refusal(error, Kind.CHAT, route()) is None


async def test_an_adapter_of_a_deployment_is_not_offered_and_of_none_not_known(world: World) -> None:
    answer = await world.ask(post({"model": f"{ENDPOINT}:mine"}))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "adapters_unsupported", "model")
    for model, key in ((f"{ENDPOINT}:mine", OTHER_KEY), ("nobody/none:mine", KEY), (":", KEY)):
        answer = await world.ask(post({"model": model}, key=key))
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")
