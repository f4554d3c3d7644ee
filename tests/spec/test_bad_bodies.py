"""Bodies that no client sends by design: each is a clear 4xx that changes nothing, or is accepted for good reason."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.spec.stage import Stage
from tests.spec.test_wire import error_of

MIB = 1024 * 1024
DEEP = b'{"model": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"

UNREADABLE: dict[str, bytes] = {
    "nothing": b"",
    "half of an object": b'{"model": "x"',
    "a word": b"hello",
    "two values": b"{} {}",
    "single quotes": b"{'model': 'x'}",
    "an array": b"[]",
    "a string": b'"model"',
    "null": b"null",
    "not a number": b'{"model": NaN}',
    "bytes that are no UTF-8": b'{"model": "\xff\xfe"}',
    "half of a surrogate pair": b'{"model": "\\ud800"}',
    "nested 20,000 deep": DEEP,
    "a NUL in a name": b'{"model": "a\\u0000b", "hardware": "1x_cpu"}',
    "a NUL as a field": b'{"\\u0000": 1}',
    "a form": b"model=x&hardware=1x_cpu",
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("path", ["/endpoints", "/endpoints/{id}", "/chat/completions"])
def test_what_cannot_be_read_is_400(stage: Stage, stopped: dict[str, Any], path: str, name: str) -> None:
    before = stage.ids()
    method = "PATCH" if "{id}" in path else "POST"
    answer = stage.ask(method, path.format(**stopped), content=UNREADABLE[name])
    # The gateway looks up whatever name can be read, and finds nothing by it.
    odd_name = path == "/chat/completions" and name in ("half of a surrogate pair", "a NUL in a name")
    assert answer.status_code == (404 if odd_name else 400), answer.text
    error_of(answer)
    assert stage.ids() == before
    assert stage.server.endpoint(stopped["id"]) == stopped


def huge(stage: Stage, **fields: Any) -> bytes:
    """A good body, but for its size of 65 MiB."""
    return json.dumps(stage.body(display_name="x" * 65 * MIB, **fields)).encode()


@pytest.mark.parametrize("path", ["/endpoints", "/chat/completions"])
def test_a_body_above_the_limit_is_413(stage: Stage, path: str) -> None:
    before = stage.ids()
    answer = stage.ask("POST", path, content=huge(stage))
    assert answer.status_code == 413
    error_of(answer)
    assert stage.ids() == before


def test_a_body_above_the_limit_that_is_not_announced_is_413(stage: Stage) -> None:
    part = b" " * MIB
    answer = stage.ask("POST", "/endpoints", content=iter([part] * 65))
    assert answer.status_code == 413
    error_of(answer)


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "odd"]
)
def test_good_json_counts_whatever_it_is_called(stage: Stage, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = stage.ask("POST", "/endpoints", content=json.dumps(stage.body()).encode(), headers=headers)
    assert answer.status_code == 200, answer.text


WRONG: dict[str, dict[str, Any]] = {
    "a number for a string": {"model": 5},
    "an array for a string": {"hardware": ["1x_cpu"]},
    "an array for an object": {"autoscaling": [1, 1]},
    "strings for bounds": {"autoscaling": {"min_replicas": "1", "max_replicas": "1"}},
    "fractions for bounds": {"autoscaling": {"min_replicas": 0.5, "max_replicas": 1}},
    "booleans for bounds": {"autoscaling": {"min_replicas": False, "max_replicas": True}},
    "a minimum above the maximum": {"autoscaling": {"min_replicas": 3, "max_replicas": 2}},
    "a negative minimum": {"autoscaling": {"min_replicas": -1, "max_replicas": 2}},
    "a maximum of nothing": {"autoscaling": {"min_replicas": 0, "max_replicas": 0}},
    "a bound beyond 64 bits": {"autoscaling": {"min_replicas": 1, "max_replicas": 2**64}},
    "a bound far beyond 64 bits": {"autoscaling": {"min_replicas": 1, "max_replicas": 10**40}},
    "a bound that no fleet has": {"autoscaling": {"min_replicas": 1, "max_replicas": 10**6}},
    "half of the bounds": {"autoscaling": {"min_replicas": 1}},
    "a timeout beyond 64 bits": {"inactive_timeout": 2**64},
    "a timeout of a million years": {"inactive_timeout": 10**12},
    "a negative timeout": {"inactive_timeout": -1},
    "a timeout that is a boolean": {"inactive_timeout": True},
    "an unknown state": {"state": "PAUSED"},
    "a state of the wire that is no wish": {"state": "ERROR"},
    "an unknown zone": {"availability_zone": "mars-1a"},
    "a zone that is a number": {"availability_zone": 1},
    "hardware too small for the model": {"hardware": "1x_nvidia_h100_80gb_sxm"},
    "a display name too long": {"display_name": "x" * 10_000},
    "a display name of several lines": {"display_name": "a\nb"},
    "an empty model": {"model": ""},
    "a model with a path": {"model": "../../etc/passwd"},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_sense_is_refused_by_field(stage: Stage, name: str) -> None:
    before = stage.ids()
    answer = stage.ask("POST", "/endpoints", content=json.dumps(stage.body(**WRONG[name])).encode())
    assert answer.status_code == (404 if name == "a model with a path" else 400), answer.text
    error = error_of(answer)
    assert error["param"] is not None
    assert error["param"].split(".")[0] in WRONG[name]
    assert stage.ids() == before


@pytest.mark.parametrize(
    "name", ["Läma", "🦙", "火の鳥", "عربي", "a" * 200, "with 'quotes' and \"more\"", "<b>&amp;</b>"]
)
def test_names_in_any_language_are_kept(stage: Stage, name: str) -> None:
    made = stage.made(display_name=name)
    assert stage.server.endpoint(made["id"])["display_name"] == name
    assert name in [endpoint["display_name"] for endpoint in stage.listed()]


def test_unknown_fields_are_ignored(stage: Stage) -> None:
    made = stage.made(unknown={"deep": [1, {"er": None}]}, another=2**80)
    assert "unknown" not in made


@pytest.mark.parametrize(
    "path",
    ["/endpoints/%00", "/endpoints/%ff%fe", "/endpoints/..%2f..", "/endpoints/" + "x" * 8000, "/endpoints/%ed%a0%80"],
)
def test_odd_names_are_not_found(stage: Stage, path: str) -> None:
    # Straight to the socket, since clients tidy paths up.
    url = urlsplit(stage.server.origin)
    assert url.hostname
    assert url.port
    with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
        head = f"GET /v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stage.server.key}\r\n"
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    status = int(answer.split()[1])
    assert status in (400, 404), answer
    assert set(json.loads(answer.partition(b"\r\n\r\n")[2])) == {"error"}


def test_fifty_creates_at_once_are_fifty_endpoints(stage: Stage) -> None:
    before = set(stage.ids())
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: stage.ask("POST", "/endpoints", json=stage.body()), range(50)))
    assert [answer.status_code for answer in answers] == [200] * 50
    made = [answer.json() for answer in answers]
    assert len({endpoint["id"] for endpoint in made}) == 50
    assert len({endpoint["name"] for endpoint in made}) == 50
    assert set(stage.ids()) - before == {endpoint["id"] for endpoint in made}


def test_two_deliberate_creates_are_two_and_an_idempotency_key_makes_one(stage: Stage) -> None:
    body = stage.body()
    plain = [stage.ask("POST", "/endpoints", json=body).json()["id"] for _ in range(2)]
    assert len(set(plain)) == 2
    header = {"idempotency-key": "mine-1"}
    keyed = [stage.ask("POST", "/endpoints", json=body, headers=header).json()["id"] for _ in range(2)]
    assert len(set(keyed)) == 1
    assert len(set(plain + keyed)) == 3


@pytest.mark.parametrize("agent", ["Together/Python 2.42.0", "Together/JS 0.52.0"])
def test_the_retry_of_a_create_whose_answer_was_lost_is_the_same_endpoint(stage: Stage, agent: str) -> None:
    """As the SDKs do it: the same body again, with a count, after the connection broke."""
    before = set(stage.ids())
    body = json.dumps(stage.body(display_name=f"lost {agent}")).encode()
    url = urlsplit(stage.server.origin)
    head = (
        f"POST /v1/endpoints HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stage.server.key}\r\nUser-Agent: {agent}\r\n"
        f"X-Stainless-Retry-Count: 0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        # Gone before the answer: a reset, as of a client that gave up.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    header = {"x-stainless-retry-count": "1", "user-agent": agent}
    again = stage.ask("POST", "/endpoints", content=body, headers=header)
    assert again.status_code == 200, again.text
    assert set(stage.ids()) - before == {again.json()["id"]}
