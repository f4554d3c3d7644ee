"""Inference as each family of clients needs it: shapes, what is held and what is refused, parameters."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.spec import commanded, driven
from tests.spec.conftest import Opened
from tests.spec.driven import SHORT, WORDS, Refused
from tests.spec.stage import Stage
from tests.spec.test_wire import error_of

CLASSIC = {"user-agent": "Together/Python 2.42.0"}
LIBRARIES = [driven.Together, driven.AsyncTogether, driven.Classic, driven.AsyncClassic, driven.TypeScript]
OTHERS = [driven.OpenAI, driven.OpenAINode]


def frames(text: str) -> list[dict[str, Any]]:
    """The chunks of a stream; none is empty or named, and the last line says that it is done."""
    assert "event:" not in text
    lines = [line for line in text.splitlines() if line and not line.startswith(":")]
    assert all(line.startswith("data: ") and len(line) > len("data: ") for line in lines), text
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def chat(stage: Stage, endpoint: dict[str, Any], headers: dict[str, str] | None = None, **more: Any) -> Any:
    body = {"model": endpoint["id"], "messages": WORDS, **SHORT, **more}
    return stage.ask("POST", "/chat/completions", json=body, headers=headers)


def test_a_classic_sdk_gets_a_prompt_and_others_do_not(stage: Stage, running: dict[str, Any]) -> None:
    assert chat(stage, running, CLASSIC).json()["prompt"] == []
    assert "prompt" not in chat(stage, running).json()


@pytest.mark.parametrize("agent", ["Together/Python 2.42.0", "AsyncTogether/Python 2.42.0", "Together/JS 0.52.0"])
def test_a_classic_stream_has_a_role_in_each_chunk_and_the_usage_in_the_last(
    stage: Stage, running: dict[str, Any], agent: str
) -> None:
    chunks = frames(chat(stage, running, {"user-agent": agent}, stream=True).text)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["choices"][0]["delta"]["role"] for chunk in chunks} == {"assistant"}
    assert chunks[-1]["usage"]["completion_tokens"] > 0


def test_an_openai_stream_has_usage_when_asked_for(stage: Stage, running: dict[str, Any]) -> None:
    plain = frames(chat(stage, running, stream=True).text)
    assert all(not chunk.get("usage") for chunk in plain)
    asked = frames(chat(stage, running, stream=True, stream_options={"include_usage": True}).text)
    assert (asked[-1]["choices"], asked[-1]["usage"]["completion_tokens"] > 0) == ([], True)


@pytest.mark.parametrize("kind", LIBRARIES, ids=lambda kind: kind.title)
def test_a_classic_stream_through_its_sdk_ends_with_usage(
    kind: type[driven.Together], opened: Opened, running: dict[str, Any]
) -> None:
    chunks = opened(kind).stream(running["id"])
    assert len(chunks) > 1
    assert chunks[-1]["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("kind", [*LIBRARIES, *OTHERS], ids=lambda kind: kind.title)
def test_an_endpoint_that_does_not_run_is_refused_at_once_with_the_command_that_starts_it(
    kind: type[driven.Driven], opened: Opened, stopped: dict[str, Any]
) -> None:
    with pytest.raises(Refused, match=f"start {stopped['id']}") as caught:
        opened(kind).call("chat.completions.create", model=stopped["id"], messages=WORDS)
    assert caught.value.status == 400


@pytest.mark.parametrize("kind", [driven.Together, driven.Classic, driven.TypeScript], ids=lambda kind: kind.title)
def test_an_endpoint_that_comes_up_holds_the_request(kind: type[driven.Driven], opened: Opened, stage: Stage) -> None:
    made = stage.made(state="STARTED")
    answer = opened(kind).call("chat.completions.create", model=made["id"], messages=WORDS, **SHORT)
    assert answer["choices"][0]["message"]["content"].strip()


PARAMETERS: dict[str, dict[str, Any]] = {
    "top_k": {"top_k": 5},
    "min_p": {"min_p": 0.1},
    "repetition_penalty": {"repetition_penalty": 1.1},
    "n": {"n": 2},
    "seed": {"seed": 7},
    "stop": {"stop": ["\n"]},
    "logit_bias": {"logit_bias": {"10": -100}},
    "json_object": {"response_format": {"type": "json_object"}},
    "context_length_exceeded_behavior": {"context_length_exceeded_behavior": "truncate"},
    "max_completion_tokens": {"max_completion_tokens": 4},
    "unknown": {"something_new": True},
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_is_accepted(stage: Stage, running: dict[str, Any], name: str) -> None:
    answer = chat(stage, running, CLASSIC, **PARAMETERS[name])
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["choices"]) == (2 if name == "n" else 1)


def test_log_probabilities_have_the_shape_that_was_asked_for(stage: Stage, running: dict[str, Any]) -> None:
    openai = chat(stage, running, logprobs=True, top_logprobs=2).json()["choices"][0]["logprobs"]
    assert openai["content"][0]["top_logprobs"]
    classic = chat(stage, running, CLASSIC, logprobs=1).json()["choices"][0]["logprobs"]
    assert len(classic["tokens"]) == len(classic["token_logprobs"]) > 0


@pytest.mark.parametrize("kind", LIBRARIES, ids=lambda kind: kind.title)
@pytest.mark.parametrize("stream", [False, True])
def test_an_sdk_reads_classic_log_probabilities(
    kind: type[driven.Driven], opened: Opened, running: dict[str, Any], stream: bool
) -> None:
    answer = opened(kind).call(
        "chat.completions.create", model=running["id"], messages=WORDS, logprobs=1, stream=stream, **SHORT
    )
    assert answer


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.title)
def test_openai_s_sdks_read_their_log_probabilities(
    kind: type[driven.Driven], opened: Opened, running: dict[str, Any]
) -> None:
    answer = opened(kind).call(
        "chat.completions.create", model=running["id"], messages=WORDS, logprobs=True, top_logprobs=2, **SHORT
    )
    assert answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]


@pytest.mark.parametrize("body", [{"messages": WORDS}, {"model": 5, "messages": WORDS}, {"model": None}])
def test_a_request_without_a_deployment_is_400(stage: Stage, body: dict[str, Any]) -> None:
    answer = stage.ask("POST", "/chat/completions", json=body)
    assert answer.status_code == 400
    assert error_of(answer)["param"] == "model"


def test_every_answer_of_a_sandbox_says_so(stage: Stage, running: dict[str, Any]) -> None:
    assert chat(stage, running).headers["x-roost-sandbox"] == "true"
    assert stage.ask("GET", "/endpoints").headers["x-roost-sandbox"] == "true"


def test_curl_streams(opened: Opened, running: dict[str, Any]) -> None:
    assert len(opened(commanded.Curl).stream(running["id"])) > 1
