"""Request ids, and failures that nobody expected."""

from __future__ import annotations

import re
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs
from tests.unit.api.front import BASE_URL, app_of, check_failure, client_of
from tests.unit.services.office import Office

from roost.api.boundary import Boundary
from roost.domain.errors import NotReady
from roost.testing.builders import secret_of


async def test_every_response_has_an_id(http: httpx.AsyncClient) -> None:
    ids = {(await http.get(path)).headers["x-request-id"] for path in ("/models", "/nothing", "/endpoints/none")}

    assert len(ids) == 3
    assert all(re.fullmatch(r"[0-9a-f-]{36}", value) for value in ids)


async def test_an_incoming_id_is_kept(http: httpx.AsyncClient) -> None:
    response = await http.get("/models", headers={"x-request-id": "req-42"})

    assert response.headers.get_list("x-request-id") == ["req-42"]


@pytest.mark.parametrize("bad", ["", "has space", "x" * 129])
async def test_an_unfit_id_is_replaced(http: httpx.AsyncClient, bad: str) -> None:
    response = await http.get("/models", headers={"x-request-id": bad})

    assert re.fullmatch(r"[0-9a-f-]{36}", response.headers["x-request-id"])


class Broken(Office):
    """An office whose machines cannot be counted, for a reason that nobody expected."""

    async def capacity(self) -> list[object]:  # type: ignore[override]
        raise ZeroDivisionError("a secret detail")


async def test_an_unexpected_failure_is_logged_and_not_shown() -> None:
    office = await Broken().open()
    async with client_of(app_of(office)) as client:
        with capture_logs() as logs:
            response = await client.get("/hardware", headers={"x-request-id": "req-7"})

    error = check_failure(response, 500)
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "req-7" in error["message"]
    assert "secret" not in response.text
    (entry,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert (entry["request_id"], entry["path"], entry["exc_info"]) == ("req-7", "/v1/hardware", True)


async def test_a_response_that_has_begun_breaks_off() -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    transport = httpx.ASGITransport(Boundary(half))
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        with pytest.raises(ZeroDivisionError):
            await client.get("/")


class Away(Office):
    """An office whose machines do not answer, which is expected to happen."""

    async def capacity(self) -> list[object]:  # type: ignore[override]
        raise NotReady("The machines do not answer.", retry_after=timedelta(seconds=2.5))


async def test_what_is_not_ready_says_when_to_ask_again() -> None:
    office = await Away().open()
    async with client_of(app_of(office)) as client:
        response = await client.get("/hardware")

    assert check_failure(response, 503)["type"] == "overloaded_error"
    assert response.headers["retry-after"] == "3"


async def test_a_client_that_hangs_up_while_sending_is_no_failure(office: Office, app: FastAPI) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/endpoints",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {secret_of(1)}".encode())],
    }
    with capture_logs() as logs:
        await app(scope, receive, send)

    assert sent == []
    assert [entry["log_level"] for entry in logs] == ["info"]
    assert await office.store.endpoints() == []
