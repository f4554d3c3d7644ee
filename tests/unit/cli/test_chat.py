"""Conversations and what is said of an answer."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import httpx
import pytest

from roost.cli.commands.chat import Answer, Conversation, read_lines, summary
from roost.cli.session import Session, World
from roost.client.streaming import ChatChunk


def answer(*steps: tuple[float, ChatChunk]) -> Answer:
    result = Answer(asked_at=10.0)
    for at, chunk in steps:
        result.add(chunk, at)
    return result


def test_the_rate_is_of_the_tokens_after_the_first() -> None:
    full = answer((10.5, ChatChunk("a")), (11.5, ChatChunk("b")), (11.6, ChatChunk("", "stop", completion_tokens=21)))
    assert summary(full) == "21 tokens, 0.50 s to the first, 20.0 tokens/s"


def test_without_usage_chunks_are_counted() -> None:
    assert (
        summary(answer((10.5, ChatChunk("a")), (12.5, ChatChunk("b"))))
        == "about 2 tokens, 0.50 s to the first, 0.5 tokens/s"
    )


def test_one_token_has_no_rate() -> None:
    assert (
        summary(answer((10.25, ChatChunk("a", "length", 1)))) == "1 token, 0.25 s to the first, cut at the token limit"
    )


def test_an_empty_answer_has_no_text() -> None:
    assert summary(answer((11.0, ChatChunk("", "stop", 0)))) == "no text"


class Body(httpx.SyncByteStream):
    """A stream of frames that may be interrupted."""

    def __init__(self, *frames: str | type[BaseException]) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[bytes]:
        for frame in self._frames:
            if not isinstance(frame, str):
                raise frame
            yield f"data: {frame}\n\n".encode()


def said(text: str) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}}]})


class Gateway:
    """Answers with the next response and keeps what was asked."""

    def __init__(self, *responses: httpx.Response) -> None:
        self.responses = list(responses)
        self.asked: list[list[dict[str, str]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body: Any = json.loads(request.content)
        self.asked.append(body["messages"])
        return self.responses.pop(0)


def converse(gateway: Gateway, *lines: str) -> tuple[str, str]:
    session = Session(World(transport=httpx.MockTransport(gateway)), "http://127.0.0.1:1/v1", "k", None)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        Conversation(session, "e", "S", {}).run(lines)
    session.close()
    return out.getvalue(), err.getvalue()


def ok(*frames: str | type[BaseException]) -> httpx.Response:
    return httpx.Response(200, stream=Body(*frames))


def test_a_conversation_remembers_both_sides() -> None:
    gateway = Gateway(ok(said("Hi"), "[DONE]"), ok(said("Bye"), "[DONE]"))
    out, _ = converse(gateway, "hello", "  ", "goodbye")
    assert out == "Hi\nBye\n"
    assert gateway.asked[1] == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "goodbye"},
    ]


def test_ctrl_c_ends_the_answer_and_not_the_conversation() -> None:
    gateway = Gateway(ok(said("Once upon"), KeyboardInterrupt), ok(said("ok"), "[DONE]"))
    out, err = converse(gateway, "tell", "next")
    assert out == "Once upon\nok\n"
    assert "(interrupted)" in err
    assert {"role": "assistant", "content": "Once upon"} in gateway.asked[1]


def test_a_failed_request_ends_neither_and_is_forgotten() -> None:
    refused = httpx.Response(429, json={"error": {"message": "Too many.", "type": "rate_limit_error"}})
    gateway = Gateway(refused, ok(said("ok"), "[DONE]"))
    out, err = converse(gateway, "first", "second")
    assert out == "ok\n"
    assert "Error: Too many." in err
    assert [message["content"] for message in gateway.asked[1]] == ["S", "second"]


def test_lines_end_with_ctrl_d_and_survive_ctrl_c() -> None:
    typed: list[str | type[BaseException]] = ["one", KeyboardInterrupt, "two", EOFError]

    def ask(prompt: str) -> str:
        step = typed.pop(0)
        if isinstance(step, str):
            return step
        raise step

    with redirect_stderr(io.StringIO()):
        assert list(read_lines(ask)) == ["one", "two"]
    assert typed == []


@pytest.mark.parametrize("text", ["", "  "])
def test_blank_lines_ask_nothing(text: str) -> None:
    gateway = Gateway()
    assert converse(gateway, text) == ("", "")
    assert gateway.asked == []
