"""Answers and streams put into the shape that a request asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.fakes import delta, event

from roost.domain.routing import LLAMA_CPP, OPENAI, RouteEndpoint
from roost.gateway import dialect
from roost.gateway.answers import Refusal
from roost.gateway.chunks import DecodedStream
from roost.gateway.classic import Adapted, adapt
from roost.gateway.request import Kind
from roost.gateway.shape import Logprobs, Shape, shape_answer, total_usage
from roost.gateway.sse import with_delta
from roost.gateway.vectors import Ranked, Shortened

DONE = event("[DONE]")
TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
LLAMA = RouteEndpoint("e", "n", "o", "STARTED", True, "llama_cpp", cancels_non_stream=False, dialect=LLAMA_CPP)


def through(shape: Shape, *events: bytes, cut: int = 10**9) -> list[Any]:
    """The chunks that come out of a stream whose bytes arrive ``cut`` at a time."""
    stream, data, sent = DecodedStream(shape), b"".join(events), b""
    for at in range(0, len(data), cut):
        sent += stream.feed(data[at : at + cut])
    sent += stream.end()
    assert sent.endswith(DONE)
    return [json.loads(e.removeprefix("data: ")) for e in sent.decode().split("\n\n")[:-2] if e[0] != ":"]


def adapted(kind: Kind = Kind.CHAT, **body: Any) -> Adapted:
    got = adapt(body, kind, LLAMA, classic=False)
    assert isinstance(got, Adapted)
    return got


@given(st.integers(1, 40))
def test_a_forced_call_is_streamed_as_one_however_its_bytes_arrive(cut: int) -> None:
    pieces = ['{ "na', 'me":"f", "argu', 'ments": {"x": "é"}}']
    events = [event(delta("", role="assistant")), b": ping\n\n", *(event(delta(piece)) for piece in pieces)]
    chunks = through(Shape(True, forced=True), *events, event(delta(finish="stop")), DONE, cut=cut)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "tool_calls"]
    (call,) = chunks[1]["choices"][0]["delta"]["tool_calls"]
    assert call == {
        "index": 0,
        "id": "call_c1_0",
        "type": "function",
        "function": {"name": "f", "arguments": '{"x":"é"}'},
    }


def test_a_forced_call_that_was_cut_off_stays_text() -> None:
    chunks = through(Shape(True, forced=True), event(delta('{"name":')), event(delta(finish="length")), DONE)
    assert chunks[0]["choices"][0]["delta"] == {"content": '{"name":'}
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    answer: dict[str, Any] = {"choices": [{"index": 0, "message": {"content": '{"name":'}, "finish_reason": "length"}]}
    shape_answer(answer, Shape(True, forced=True))
    assert answer["choices"][0]["message"] == {"content": '{"name":'}


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", **parameters}}}


def schema_for(*tools: dict[str, Any], choice: Any = "required") -> dict[str, Any]:
    forced = dialect.forced_call({"tools": list(tools), "tool_choice": choice})
    assert isinstance(forced, dict)
    schema: dict[str, Any] = forced["response_format"]["json_schema"]["schema"]
    return schema


def follow(schema: dict[str, Any], reference: str) -> Any:
    """What a reference leads to."""
    found: Any = schema
    for name in reference.split("/")[1:]:
        found = found[name]
    return found


def test_a_choice_of_tools_becomes_a_schema_of_their_calls() -> None:
    other = tool("g")
    schema = schema_for(TOOL, other)
    assert [call["properties"]["name"]["const"] for call in schema["anyOf"]] == ["f", "g"]
    named = dialect.forced_call({"tools": [TOOL, other], "tool_choice": TOOL})
    assert isinstance(named, dict)
    assert named["tools"] == [TOOL]
    for choice in ("auto", "none", None):
        assert dialect.forced_call({"tools": [TOOL], "tool_choice": choice}) == {}


@pytest.mark.parametrize("word", ["$defs", "definitions"])
def test_tools_that_define_the_same_name_keep_their_own_definitions(word: str) -> None:
    kinds = ("string", "integer")
    city = {"city": {"$ref": f"#/{word}/City"}}
    tools = [tool(kind, properties=city, **{word: {"City": {"type": kind}}}) for kind in kinds]
    schema = schema_for(*tools)
    for call, kind in zip(schema["anyOf"], kinds, strict=True):
        arguments = follow(schema, call["properties"]["arguments"]["$ref"])
        assert follow(schema, arguments["properties"]["city"]["$ref"]) == {"type": kind}
    assert tools[0]["function"]["parameters"]["properties"] == {"city": {"$ref": f"#/{word}/City"}}


def test_references_within_a_tools_parameters_begin_at_their_root() -> None:
    items = {"type": "array", "items": {"$ref": "#"}}
    tree = tool("f", properties={"name": {"type": "string"}, "alias": {"$ref": "#/properties/name"}, "children": items})
    schema = schema_for(tree)
    arguments = follow(schema, schema["properties"]["arguments"]["$ref"])
    assert follow(schema, arguments["properties"]["alias"]["$ref"]) == {"type": "string"}
    assert follow(schema, arguments["properties"]["children"]["items"]["$ref"]) is arguments


@pytest.mark.parametrize("reference", ["#/$defs/Nope", "#/required/1", "#/required/" + "9" * 5000, "#/type/x"])
def test_a_reference_of_a_tool_that_leads_nowhere_is_refused_as_the_client_wrote_it(reference: str) -> None:
    body = {"tools": [tool("f", properties={"x": {"$ref": reference}}, required=["x"])], "tool_choice": "required"}
    refused = adapt(body, Kind.CHAT, LLAMA, classic=False)
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.param) == (400, "tools")
    assert f"f refer to {reference[:100]}" in refused.message


def test_parameters_of_a_tool_may_be_nested_however_deep() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"items": deep}
    assert schema_for(tool("f", items=deep))


def test_a_stream_with_several_tokens_in_a_chunk_has_a_number_for_each() -> None:
    items = [{"token": t, "logprob": -n, "id": n, "top_logprobs": []} for n, t in ((1.0, "a"), (2.0, "b"))]
    told = delta("ab")
    told["choices"][0]["logprobs"] = {"content": items}
    chunks = through(Shape(True, True, Logprobs.CLASSIC), event(told), event(delta(finish="stop")), DONE)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice.get("logprobs") for choice in choices] == [-1.0, -2.0, None]
    assert [choice["delta"].get("content") for choice in choices] == ["", "ab", None]


def usage(prompt: int, said: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), st.integers(1, 3), st.randoms(use_true_random=False))
def test_usage_counts_each_prompt_once_and_every_token_that_was_said(prompts: list[int], n: int, random: Any) -> None:
    told = [(at * n + k, usage(prompt, at + k)) for at, prompt in enumerate(prompts) for k in range(n)]
    random.shuffle(told)
    total = total_usage(told, n)
    assert total == usage(sum(prompts), sum(each["completion_tokens"] for _, each in told))
    assert total_usage([], 1) is None


def test_the_usage_of_a_stream_comes_once_at_its_end() -> None:
    def part(index: int, **extra: Any) -> bytes:
        choice = {"index": index, "text": "x", "finish_reason": "stop" if extra else None}
        return event({"id": "c", "choices": [choice], **extra})

    events = [event("null"), part(1), part(1, usage=usage(3, 2)), part(0), part(0, usage=usage(4, 1)), DONE]
    chunks = through(Shape(False, choices=2), *events)
    assert [chunk.get("usage") for chunk in chunks] == [None, None, None, None, usage(7, 3)]
    assert chunks[-1]["choices"] == []


def test_prompts_come_before_the_first_text_of_their_choices() -> None:
    texts = [event({"choices": [{"index": i, "text": t}]}) for i, t in ((1, "b"), (0, "a"), (1, "c"))]
    chunks = through(Shape(False, choices=2, echoed=("p", "q")), *texts, DONE)
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["qb", "pa", "c"]
    answer: dict[str, Any] = {"choices": [{"index": 1, "text": "b"}]}
    shape_answer(answer, Shape(False, True, choices=2, echoed=("p", "q")))
    assert answer == {
        "choices": [{"index": 1, "text": "qb"}],
        "prompt": [{"text": "p", "logprobs": None}, {"text": "q", "logprobs": None}],
    }


@given(st.text())
def test_a_text_is_a_delta_too(text: str) -> None:
    for data in (event({"choices": [{"index": 0, "text": text}]}), b'data: {"choices":[{"text" : "a\\"\\\\" }]}\n\n'):
        (choice,) = json.loads(with_delta(data)[6:])["choices"]
        assert choice["delta"] == {"role": "assistant", "content": choice["text"]}


def said(index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "text": " the", "logprobs": {"content": []}, "finish_reason": finish}], **more}


USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
NONE_SAID = {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}


@pytest.mark.parametrize("echo", [False, True])
def test_where_no_token_was_asked_for_none_is_said_and_none_counted(echo: bool) -> None:
    shape = adapted(Kind.COMPLETIONS, prompt="Once", max_tokens=0, echo=echo).shape
    assert shape is not None
    expected = "Once" if echo else ""
    answer = said(finish="stop", usage=dict(USAGE))
    shape_answer(answer, shape)
    assert answer["choices"] == [{"index": 0, "text": expected, "logprobs": None, "finish_reason": "length"}]
    assert answer["usage"] == NONE_SAID
    chunks = through(shape, event(said()), event(said(finish="stop", usage=dict(USAGE))), DONE)
    assert [chunk["choices"][0]["text"] for chunk in chunks] == [expected, ""]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "length"]
    assert chunks[-1]["usage"] == NONE_SAID


def test_no_token_of_several_prompts_counts_the_prompts_only() -> None:
    shape = adapted(Kind.COMPLETIONS, prompt=["a", "b"], max_tokens=0).shape
    assert shape is not None
    ends = [event(said(index, "length", usage=dict(USAGE))) for index in (0, 1)]
    assert through(shape, *ends, DONE)[-1]["usage"] == {"prompt_tokens": 6, "completion_tokens": 0, "total_tokens": 6}


def test_the_newer_name_of_the_longest_answer_counts_before_the_older() -> None:
    assert adapted(Kind.COMPLETIONS, prompt="x", max_tokens=0, max_completion_tokens=5).shape is None
    assert adapted(Kind.COMPLETIONS, prompt="x", max_tokens=5, max_completion_tokens=0).shape is not None
    assert adapted(Kind.COMPLETIONS, prompt="x", max_tokens=0, max_completion_tokens=None).shape is not None


def test_requests_without_anything_special_need_no_shape() -> None:
    for body in ({}, {"n": 1}, {"logprobs": False}, {"echo": False}, {"tools": [TOOL], "tool_choice": "auto"}):
        assert adapted(**body, messages=[]).shape is None
    assert adapted(Kind.COMPLETIONS, prompt="x").shape is None


@pytest.mark.parametrize("kind", [Kind.CHAT, Kind.COMPLETIONS, Kind.EMBEDDINGS, Kind.RERANK])
def test_fields_that_steer_llama_cpp_itself_are_taken_out_and_its_others_stay(kind: Kind) -> None:
    own = {"verbose": True, "id_slot": 7, "n_predict": 900, "n_cmpl": 9, "n_probs": 9, "post_sampling_probs": True}
    stay = {"max_tokens": 1, "cache_prompt": False, "timings_per_token": True}
    got = adapted(kind, **own, **stay)
    assert got.changed
    assert not own.keys() & got.body.keys()
    assert {name: got.body[name] for name in stay} == stay
    elsewhere = adapt(dict(own), kind, replace(LLAMA, dialect=OPENAI, cancels_non_stream=True), classic=False)
    assert isinstance(elsewhere, Adapted)
    assert elsewhere.body == own


def test_what_llama_cpp_is_asked_for_instead() -> None:
    assert adapted(logprobs=True).body["top_logprobs"] == 1
    tools = adapted(logprobs=True, top_logprobs=2, tools=[TOOL])
    assert (tools.aggregate, tools.body.get("stream")) == (False, None)
    schema = adapted(response_format={"type": "json_schema", "schema": {"type": "object"}}).body["response_format"]
    assert schema == {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    several = adapted(Kind.COMPLETIONS, prompt=["a", "b"], n=3)
    assert several.shape is not None
    assert (several.shape.choices, several.shape.per_prompt) == (6, 3)
    ranked = adapted(Kind.RERANK, query="q", documents=[{"a": 1, "b": "x"}, "y", {"b": "z"}], rank_fields=["a", "b"])
    assert ranked.body["documents"] == ["a: 1\nb: x", "y", "z"]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"a": {"x": None, "y": [True, "é"]}}, '{"x":null,"y":[true,"é"]}'),
        ({"a": True, "b": None, "c": 1.5, "d": "x"}, "a: true\nc: 1.5\nd: x"),
        ({"a": None, "b": "only"}, "only"),
        ({"a": 10**30}, "1" + "0" * 30),
        ({"a": [10**30], "b": []}, "a: [1" + "0" * 30 + "]\nb: []"),
        ({"a": None}, ""),
    ],
)
def test_what_is_not_text_in_a_document_is_ranked_as_json(document: dict[str, Any], text: str) -> None:
    assert adapted(Kind.RERANK, query="q", documents=["y", document]).body["documents"] == ["y", text]


def test_a_document_that_is_nested_too_deep_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    refused = adapt({"query": "q", "documents": [{"a": deep}]}, Kind.RERANK, LLAMA, classic=False)
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.code) == (400, "invalid_json")


def test_what_cannot_be_given_back_is_refused() -> None:
    for body in ({"prompt": "x", "logprobs": 1}, {"prompt": [1, 2]}, {"prompt": [[1], [2]]}):
        refused = adapt({**body, "echo": True}, Kind.COMPLETIONS, LLAMA, classic=False)
        assert isinstance(refused, Refusal)
        assert (refused.status, refused.param) == (400, "echo")


def test_log_probabilities_of_several_choices_with_tools_are_refused_since_their_usage_would_be_wrong() -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL], "logprobs": True, "n": 2}
    for more in ({}, {"tool_choice": "required"}, {"logprobs": 2}):
        refused = adapt({**body, **more}, Kind.CHAT, LLAMA, classic=False)
        assert isinstance(refused, Refusal)
        assert (refused.status, refused.param) == (400, "n")
    enough: list[dict[str, Any]] = [{"n": 1}, {"tools": []}, {"logprobs": False}, {"logprobs": 0}]
    for less in enough:
        assert isinstance(adapt({**body, **less}, Kind.CHAT, LLAMA, classic=False), Adapted)


def test_a_ranking_names_its_documents() -> None:
    answer: dict[str, Any] = {"object": "list", "usage": {"total_tokens": 3}, "results": [{"index": 1}, {"index": 0}]}
    assert Ranked(("a", {"title": "b"})).apply(answer) is None
    assert answer["object"] == "rerank"
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
    assert [result["document"] for result in answer["results"]] == [{"title": "b"}, {"text": "a"}]


def test_embeddings_are_cut_and_scaled_or_refused() -> None:
    answer = {"data": [{"embedding": [3.0, 4.0, 12.0]}]}
    assert Shortened(2).apply(answer) is None
    assert answer == {"data": [{"embedding": [0.6, 0.8]}]}
    refused = Shortened(9).apply({"data": [{"embedding": [1.0]}]})
    assert isinstance(refused, Refusal)
    assert refused.param == "dimensions"
