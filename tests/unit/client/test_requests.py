"""What is sent, and how answers are read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from roost.client import requests
from roost.client.errors import ApiError, UnexpectedAnswer
from roost.client.requests import Call, Request

ENDPOINT: dict[str, Any] = {
    "object": "endpoint",
    "id": "endpoint-1",
    "name": "roost/m-00000001",
    "display_name": "m",
    "model": "m",
    "hardware": "1x_cpu",
    "type": "dedicated",
    "owner": "roost",
    "state": "STARTED",
    "autoscaling": {"min_replicas": 1, "max_replicas": 1},
    "created_at": "2026-01-15T14:30:00Z",
}


def body_of(call: Call[Any]) -> Any:
    return call.request.json


def test_creating_sends_what_is_given() -> None:
    call = requests.create_endpoint(
        model="m", hardware="1x_cpu", autoscaling={"min_replicas": 1, "max_replicas": 3}, display_name="D"
    )
    assert (call.request.method, call.request.path) == ("POST", "/endpoints")
    assert body_of(call) == {
        "model": "m",
        "hardware": "1x_cpu",
        "autoscaling": {"min_replicas": 1, "max_replicas": 3},
        "state": "STARTED",
        "disable_speculative_decoding": False,
        "display_name": "D",
    }


@pytest.mark.parametrize("minutes", [None, 0, 5])
def test_a_timeout_is_sent_when_given_even_if_none(minutes: int | None) -> None:
    created = requests.create_endpoint(model="m", hardware="h", autoscaling={}, inactive_timeout=minutes)
    updated = requests.update_endpoint("e", inactive_timeout=minutes)
    assert body_of(created)["inactive_timeout"] == minutes
    assert body_of(updated) == {"inactive_timeout": minutes}


def test_an_update_sends_only_what_changes() -> None:
    assert body_of(requests.update_endpoint("e")) == {}
    assert body_of(requests.update_endpoint("e", autoscaling={"max_replicas": 2})) == {
        "autoscaling": {"max_replicas": 2}
    }
    assert body_of(requests.update_endpoint("e", state="STOPPED")) == {"state": "STOPPED"}


@pytest.mark.parametrize(
    "call",
    [
        requests.retrieve_endpoint("a/b?c#d e"),
        requests.update_endpoint("a/b?c#d e"),
        requests.delete_endpoint("a/b?c#d e"),
    ],
)
def test_a_name_is_one_segment_of_the_path(call: Call[Any]) -> None:
    assert call.request.path == "/endpoints/a%2Fb%3Fc%23d%20e"


@pytest.mark.parametrize(
    ("call", "request_"),
    [
        (requests.list_endpoints(), Request("GET", "/endpoints")),
        (
            requests.list_endpoints(type="dedicated", usage_type="on-demand", mine=True),
            Request("GET", "/endpoints", {"type": "dedicated", "usage_type": "on-demand", "mine": "true"}),
        ),
        (requests.list_hardware(), Request("GET", "/hardware")),
        (requests.list_hardware("a/b"), Request("GET", "/hardware", {"model": "a/b"})),
        (requests.list_zones(), Request("GET", "/clusters/availability-zones")),
        (requests.list_models(), Request("GET", "/models")),
        (requests.retrieve_model("a/b"), Request("GET", "/models/a%2Fb")),
        (requests.remove_model("a/b"), Request("DELETE", "/models/a%2Fb")),
        (requests.add_model({"id": "a"}), Request("POST", "/models", json={"id": "a"})),
        (requests.create_key(), Request("POST", "/keys", json={"role": "member"})),
        (
            requests.create_key(owner="o", role="admin"),
            Request("POST", "/keys", json={"owner": "o", "role": "admin"}),
        ),
        (
            requests.create_key(name="n", endpoints=("e",), expires_at=datetime(2030, 1, 1, tzinfo=UTC)),
            Request(
                "POST",
                "/keys",
                json={"role": "member", "expires_at": "2030-01-01T00:00:00+00:00", "name": "n", "endpoints": ["e"]},
            ),
        ),
        (
            requests.create_key(requests_per_minute=1, tokens_per_minute=2, concurrency=3),
            Request(
                "POST",
                "/keys",
                json={"role": "member", "requests_per_minute": 1, "tokens_per_minute": 2, "concurrency": 3},
            ),
        ),
        (requests.list_keys(), Request("GET", "/keys")),
        (requests.retrieve_key("key-1"), Request("GET", "/keys/key-1")),
        (requests.update_key("key-1"), Request("PATCH", "/keys/key-1", json={})),
        (
            requests.update_key("key-1", requests_per_minute=5, concurrency=None),
            Request("PATCH", "/keys/key-1", json={"requests_per_minute": 5, "concurrency": None}),
        ),
        (requests.revoke_key("key-1"), Request("DELETE", "/keys/key-1")),
        (requests.whoami(), Request("GET", "/whoami")),
    ],
)
def test_requests(call: Call[Any], request_: Request) -> None:
    assert call.request == request_


def test_the_first_event_of_all_can_be_asked_for() -> None:
    assert requests.list_events(after=0, limit=10).request.query == {"after": "0", "limit": "10"}


def test_a_chat_asks_for_a_stream_with_usage() -> None:
    call = requests.chat_stream("e", [{"role": "user", "content": "x"}], {"temperature": 0.5})
    assert body_of(call) == {
        "model": "e",
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_success_is_a_value_and_its_json() -> None:
    extra = {**ENDPOINT, "of_a_newer_server": 1}
    answer = requests.parse(requests.retrieve_endpoint("x"), 200, {}, json.dumps(extra).encode())
    assert answer.value.id == "endpoint-1"
    assert answer.json == extra


def test_an_empty_success_is_none() -> None:
    answer = requests.parse(requests.delete_endpoint("x"), 204, {}, b"")
    assert answer.json is None


def test_a_refusal_is_an_api_error() -> None:
    body = {"error": {"message": "Too many.", "type": "rate_limit_error", "param": "model", "code": "slow_down"}}
    with pytest.raises(ApiError, match="Too many") as caught:
        requests.parse(
            requests.retrieve_endpoint("x"),
            429,
            {"retry-after": "3", "x-request-id": "req-1"},
            json.dumps(body).encode(),
        )
    error = caught.value
    assert (error.status, error.type, error.code, error.param) == (429, "rate_limit_error", "slow_down", "model")
    assert (error.retry_after, error.request_id) == (3.0, "req-1")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"error": "text"}', b'{"error": {}}', b"null"])
def test_a_refusal_without_an_envelope_names_its_status(body: bytes) -> None:
    with pytest.raises(ApiError, match="status 502 and no explanation"):
        requests.parse(requests.list_keys(), 502, {}, body)


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b'{"id": "x"}'])
def test_a_success_of_another_server_is_noticed(body: bytes) -> None:
    with pytest.raises(UnexpectedAnswer, match="base URL that of a Roost server"):
        requests.parse(requests.retrieve_endpoint("x"), 200, {}, body)
