"""What the echo engine says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.engines.echo_reply import DEFAULT_COUNT, LONGEST, Ask, Unacceptable, answer, events, understand


def ask(chat: bool = True, **body: Any) -> Ask:
    base: dict[str, Any] = {"messages": [{"role": "user", "content": "one two three"}]} if chat else {"prompt": "a b"}
    return understand(json.dumps({**base, **body}).encode(), chat=chat, model="echo")


def text_of(chunks: list[dict[str, Any]]) -> str:
    deltas = [choice.get("delta", {}).get("content", choice.get("text")) for c in chunks for choice in c["choices"]]
    return "".join(delta or "" for delta in deltas)


def streamed(asked: Ask) -> list[dict[str, Any]]:
    data = [event.decode().removeprefix("data: ").strip() for event, _ in events(asked, 1, 0)]
    assert data.pop() == "[DONE]"
    return [json.loads(each) for each in data]


def test_the_last_users_words_over_and_over() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": [{"type": "text", "text": "one two"}, {"type": "text", "text": "three"}]},
        {"role": "assistant", "content": "well"},
    ]
    asked = ask(messages=messages, max_tokens=5)
    body = json.loads(answer(asked, 7, 0))
    assert body["choices"][0]["message"]["content"] == "one two three one two"
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"] == {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13}


def test_without_a_limit_it_stops_by_itself() -> None:
    body = json.loads(answer(ask(chat=False), 1, 0))
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == DEFAULT_COUNT
    assert body["choices"][0]["text"].startswith("a b a b ")


@given(st.booleans(), st.integers(0, 40), st.booleans(), st.text(max_size=30))
def test_a_stream_says_what_a_whole_answer_says(chat: bool, limit: int, usage: bool, words: str) -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": words}]} if chat else {"prompt": words}
    asked = ask(chat, **body, max_tokens=limit, stream=True, stream_options={"include_usage": usage})
    chunks = streamed(asked)
    whole = json.loads(answer(asked, 1, 0))
    (choice,) = whole["choices"]
    assert text_of(chunks) == (choice["message"]["content"] if chat else choice["text"])
    assert len(text_of(chunks).split()) == limit
    assert sum(is_token for _, is_token in events(asked, 1, 0)) == limit
    assert [c["usage"] for c in chunks if "usage" in c] == ([whole["usage"]] if usage else [])
    finishes = [one["finish_reason"] for c in chunks for one in c["choices"] if one["finish_reason"]]
    assert finishes == ["length"]


@pytest.mark.parametrize(
    ("chat", "body", "param"),
    [
        (True, b"{", None),
        (True, b"[]", None),
        (True, b"[" * 100_000, None),
        (True, b"\xff", None),
        (True, b"{}", "messages"),
        (True, b'{"messages":[]}', "messages"),
        (True, b'{"messages":[1]}', "messages"),
        (True, b'{"messages":[{}],"max_tokens":-1}', "max_tokens"),
        (True, b'{"messages":[{}],"max_tokens":true}', "max_tokens"),
        (True, b'{"messages":[{}],"max_completion_tokens":"1"}', "max_completion_tokens"),
        (True, b'{"messages":[{}],"n":2}', "n"),
        (False, b'{"prompt":["a","b"]}', "prompt"),
        (False, b"{}", "prompt"),
    ],
)
def test_bodies_that_are_refused(chat: bool, body: bytes, param: str | None) -> None:
    with pytest.raises(Unacceptable) as caught:
        understand(body, chat=chat, model="echo")
    assert caught.value.param == param


def test_the_model_is_named_as_the_client_named_it() -> None:
    assert ask(model="mine").model == "mine"
    assert ask().model == "echo"


@pytest.mark.parametrize("asked_for", [LONGEST + 1, 10**30])
def test_no_answer_is_without_end(asked_for: int) -> None:
    asked = ask(max_tokens=asked_for)
    assert (asked.count, asked.finish_reason) == (LONGEST, "length")
