"""Server-sent events of chat completions."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.client.errors import ApiError, ConnectionFailed, UnexpectedAnswer
from roost.client.streaming import ChatChunk, ChatStream, EventDecoder, parse_event


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(text: str, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}]}


STREAM = b": warming up\n\n" + event(delta("Grüß")) + event(delta(" dich", "stop")) + b"data: [DONE]\n\n"


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM)), max_size=8))
def test_where_the_bytes_are_cut_does_not_matter(cuts: list[int]) -> None:
    stream, chunks = ChatStream(), []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        chunks += list(stream.feed(STREAM[start:end]))
    assert "".join(chunk.text for chunk in chunks) == "Grüß dich"
    assert stream.ended


def test_carriage_returns_comments_and_other_fields_are_no_data() -> None:
    data = b": ping\r\nevent: x\r\nid: 1\r\ndata: a\r\ndata: b\r\n\r\n\r\n"
    assert list(EventDecoder().feed(data)) == [b"a\nb"]


def test_data_without_a_blank_keeps_its_first_character() -> None:
    assert list(EventDecoder().feed(b"data:x\n\ndata:  y\n\n")) == [b"x", b" y"]


def test_usage_comes_without_choices() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}
    assert parse_event(json.dumps(usage).encode()) == ChatChunk("", None, 7, 5)


def test_the_finish_reason_is_read() -> None:
    assert parse_event(json.dumps(delta("x", "length")).encode()) == ChatChunk("x", "length")


@pytest.mark.parametrize("value", [{"choices": [{"delta": None}]}, {"choices": None}, {"choices": ["x"]}, {}])
def test_an_odd_chunk_adds_nothing(value: object) -> None:
    assert parse_event(json.dumps(value).encode()) == ChatChunk("")


def test_an_error_frame_is_raised() -> None:
    frame = {"error": {"message": "The replica died.", "type": "server_error", "param": None, "code": "crashed"}}
    with pytest.raises(ApiError, match="The replica died") as caught:
        parse_event(json.dumps(frame).encode())
    assert (caught.value.code, caught.value.type) == ("crashed", "server_error")


@pytest.mark.parametrize("data", [b"nonsense", b"[1]", b'"x"'])
def test_what_is_no_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(UnexpectedAnswer):
        parse_event(data)


def test_a_stream_that_breaks_off_is_no_answer() -> None:
    stream = ChatStream()
    assert [chunk.text for chunk in stream.feed(event(delta("half")))] == ["half"]
    with pytest.raises(ConnectionFailed, match="before the answer was complete"):
        stream.close()


def test_nothing_is_read_after_the_end_mark() -> None:
    stream = ChatStream()
    assert list(stream.feed(b"data: [DONE]\n\n" + event(delta("late")))) == []
    stream.close()
