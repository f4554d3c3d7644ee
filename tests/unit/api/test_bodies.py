"""Bodies that are no JSON, too large, or of the wrong shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator
from tests.unit.api.front import CREATE, app_of, check_failure, client_of
from tests.unit.services.office import Office

from roost.api.bodies import MAX_DEPTH, parsed
from roost.config import Settings
from roost.domain.errors import BadRequest
from roost.schemas import EndpointCreate
from roost.schemas.base import Body

LIMIT = 2000


@pytest.fixture
async def office() -> Office:
    """Services with a small limit on bodies."""
    return await Office(Settings(home=Path("/nowhere"), max_body_bytes=LIMIT)).open()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"[]", id="array"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"text"', id="string"),
        pytest.param(b"{\xff}", id="not-utf8"),
        pytest.param(b'{"model": "\\ud800"}', id="lone-surrogate"),
        pytest.param(b'{"model": NaN}', id="nan"),
        pytest.param(b"model=test/model", id="form"),
    ],
)
async def test_what_is_no_json_object(office: Office, http: httpx.AsyncClient, raw: bytes) -> None:
    for method, path in (("POST", "/endpoints"), ("PATCH", "/endpoints/none"), ("POST", "/keys"), ("POST", "/models")):
        error = check_failure(await http.request(method, path, content=raw), 400)
        assert error["code"] == "bad_json"
    assert await office.store.endpoints() == []


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
async def test_deep_nesting(opening: bytes) -> None:
    office = await Office().open()
    async with client_of(app_of(office)) as client:
        for raw in (opening * 20_000, b'{"model":' + b"[" * 20_000 + b"]" * 20_000 + b"}"):
            check_failure(await client.post("/endpoints", content=raw), 400)


@pytest.mark.parametrize("depth", [MAX_DEPTH, 300, 990, 1020])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
async def test_nesting_that_the_parser_takes(depth: int, opening: str, closing: str) -> None:
    office = await Office().open()
    deep = opening * depth + ("" if opening == "[" else "1") + closing * depth
    raw = json.dumps(CREATE)[:-1] + f', "other": {deep}' + "}"
    async with client_of(app_of(office)) as client:
        for method, path in (("POST", "/endpoints"), ("PATCH", "/endpoints/none"), ("POST", "/keys")):
            error = check_failure(await client.request(method, path, content=raw), 400)
            assert error["code"] == "bad_json"
    assert await office.store.endpoints() == []


async def test_nesting_up_to_the_limit_is_read(http: httpx.AsyncClient) -> None:
    inner = MAX_DEPTH - 1
    raw = json.dumps(CREATE)[:-1] + ', "other": ' + "[" * inner + "]" * inner + "}"

    assert (await http.post("/endpoints", content=raw)).status_code == 200


async def test_a_body_of_the_largest_size_is_read(http: httpx.AsyncClient) -> None:
    body = json.dumps(CREATE).encode()

    assert (await http.post("/endpoints", content=body.ljust(LIMIT))).status_code == 200
    error = check_failure(await http.post("/endpoints", content=body.ljust(LIMIT + 1)), 413)
    assert error["code"] == "payload_too_large"


async def test_a_body_without_a_length_is_counted(http: httpx.AsyncClient) -> None:
    async def parts() -> Any:
        for _ in range(3):
            yield b" " * (LIMIT // 2)

    check_failure(await http.post("/endpoints", content=parts()), 413)


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "nonsense"])
async def test_the_content_type_does_not_matter(http: httpx.AsyncClient, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}

    assert (await http.post("/endpoints", content=json.dumps(CREATE), headers=headers)).status_code == 200


@pytest.mark.parametrize("body", [{"model": "a\0b"}, {"x": ["\0"]}, {"a\0": 1}, {"autoscaling": {"x": {"y": "\0"}}}])
async def test_nul_is_refused_anywhere(office: Office, http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    error = check_failure(await http.post("/endpoints", json={**CREATE, **body}), 400)

    assert "NUL" in error["message"]
    assert await office.store.endpoints() == []


async def test_an_escaped_backslash_is_no_nul(http: httpx.AsyncClient) -> None:
    response = await http.post("/endpoints", json={**CREATE, "display_name": r"\u0000"})

    assert response.json()["display_name"] == r"\u0000"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


class Sample(Body):
    """A body with a field of each kind of limit."""

    text: str = Field(default="abc", min_length=3, max_length=5)
    count: int = Field(default=1, ge=1, le=9)
    rate: float = Field(default=1.0, gt=0)
    kind: Literal["a", "b"] = "a"
    many: list[int] = Field(default=[1], min_length=1)

    @field_validator("text")
    @classmethod
    def _no_boss(cls, value: str) -> str:
        if value == "boss":
            raise ValueError("this name is taken.")
        return value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"text": "a"}, "text must have at least 3 characters."),
        ({"text": "a" * 6}, "text must have at most 5 characters."),
        ({"text": "boss"}, "text is not accepted: this name is taken."),
        ({"count": 0}, "count must be at least 1."),
        ({"count": 10}, "count must be at most 9."),
        ({"count": "x"}, "count must be an integer."),
        ({"rate": 0.0}, "rate must be greater than 0.0."),
        ({"kind": "c"}, "kind must be 'a' or 'b'."),
        ({"many": []}, "many must not have fewer items than 1."),
        ({"many": {}}, "many must be an array."),
    ],
)
def test_a_fault_is_told_in_plain_words(value: dict[str, Any], told: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(Sample, value)
    assert caught.value.message == told


async def test_a_fault_of_the_query_is_told_in_the_same_words(http: httpx.AsyncClient) -> None:
    for name, told in (("limit", "must be an integer"), ("order", "must be 'asc' or 'desc'")):
        error = check_failure(await http.get("/events", params={name: "x"}), 400)
        assert error["message"] == f"{name} {told}."


@given(st.dictionaries(st.sampled_from([*EndpointCreate.model_fields, "other"]), json_values))
def test_any_object_is_a_wire_model_or_a_field_at_fault(value: dict[str, Any]) -> None:
    fault: BadRequest | None = None
    try:
        read = parsed(EndpointCreate, value)
    except BadRequest as error:
        fault = error
    if fault is None:
        assert read.model_fields_set <= value.keys()
    else:
        assert fault.param
        assert fault.param.split(".")[0] in value
        assert fault.message.startswith(fault.param)
