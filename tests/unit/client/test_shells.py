"""Both shells against a fake transport: what they send, repeat and raise."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from tests.unit.client.test_requests import ENDPOINT

import roost
from roost import AsyncRoost, Roost
from roost.client import async_resources, resources
from roost.client.errors import ApiError, ConnectionFailed

URL = "http://127.0.0.1:8080/v1"
Handler = Callable[[httpx.Request], httpx.Response]


class Script:
    """Answers with the next response each time (or raises it) and keeps the requests and the delays."""

    def __init__(self, *steps: httpx.Response | type[httpx.TransportError]) -> None:
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []
        self.delays: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.steps.pop(0)
        if isinstance(step, httpx.Response):
            return step
        raise step("broken", request=request)

    def sleep(self, seconds: float) -> None:
        self.delays.append(seconds)

    async def sleep_async(self, seconds: float) -> None:
        self.delays.append(seconds)

    def sync(self) -> Roost:
        return Roost(URL, "k", transport=httpx.MockTransport(self), sleep=self.sleep)

    def asynchronous(self) -> AsyncRoost:
        return AsyncRoost(URL, "k", transport=httpx.MockTransport(self), sleep=self.sleep_async)


Run = Callable[[Script, Callable[[Any], Any]], Awaitable[Any]]


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run one call of a client of either kind."""

    async def run_sync(script: Script, call: Callable[[Any], Any]) -> Any:
        with script.sync() as client:
            return call(client)

    async def run_async(script: Script, call: Callable[[Any], Any]) -> Any:
        async with script.asynchronous() as client:
            return await call(client)

    return run_sync if request.param == "sync" else run_async


def ok(value: Any = ENDPOINT) -> httpx.Response:
    return httpx.Response(200, json=value)


def refused(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": "no", "type": "t"}}, headers=headers)


async def test_a_request_carries_the_key_and_the_encoded_name(run: Run) -> None:
    script = Script(ok())
    endpoint = await run(script, lambda client: client.endpoints.retrieve("user/m-1"))
    (request,) = script.requests
    assert str(request.url) == f"{URL}/endpoints/user%2Fm-1"
    assert request.headers["authorization"] == "Bearer k"
    assert request.headers["user-agent"] == f"roost/{roost.__version__}"
    assert endpoint.id == "endpoint-1"


async def test_a_body_is_json(run: Run) -> None:
    script = Script(ok())
    await run(script, lambda client: client.endpoints.update("e", display_name="Hühnerstall", state="STARTED"))
    (request,) = script.requests
    assert json.loads(request.content) == {"display_name": "Hühnerstall", "state": "STARTED"}
    assert request.headers["content-type"] == "application/json"


async def test_a_get_is_repeated_until_it_is_answered(run: Run) -> None:
    script = Script(refused(503, **{"retry-after": "2"}), httpx.ReadError, ok())
    await run(script, lambda client: client.endpoints.retrieve("e"))
    assert len(script.requests) == 3
    assert script.delays[0] == 2.0


async def test_a_get_gives_up_after_two_repeats(run: Run) -> None:
    script = Script(*[refused(500) for _ in range(5)])
    with pytest.raises(ApiError) as caught:
        await run(script, lambda client: client.endpoints.retrieve("e"))
    assert caught.value.status == 500
    assert len(script.requests) == 3


async def test_a_create_is_sent_once_when_it_may_have_arrived(run: Run) -> None:
    script = Script(httpx.ReadTimeout, ok())
    with pytest.raises(ConnectionFailed, match="did not answer in time"):
        await run(script, lambda client: client.keys.create(owner="o"))
    assert len(script.requests) == 1


async def test_a_create_is_repeated_when_nobody_was_there(run: Run) -> None:
    script = Script(httpx.ConnectError, ok())
    await run(script, lambda client: client.endpoints.create(model="m", hardware="h", autoscaling={}))
    assert len(script.requests) == 2


async def test_nobody_there_names_the_server_and_what_to_do(run: Run) -> None:
    script = Script(*[httpx.ConnectError] * 3)
    with pytest.raises(ConnectionFailed, match=r"Cannot reach the server at http://127.*roost serve"):
        await run(script, lambda client: client.endpoints.list())


async def test_every_resource_call_reaches_its_path(run: Run) -> None:
    listing = {"object": "list", "data": []}
    calls: list[tuple[str, Callable[[Any], Any], httpx.Response]] = [
        ("GET /v1/endpoints", lambda c: c.endpoints.list(mine=True), ok(listing)),
        ("DELETE /v1/endpoints/e", lambda c: c.endpoints.delete("e"), httpx.Response(204)),
        ("GET /v1/hardware", lambda c: c.endpoints.list_hardware("m"), ok(listing)),
        ("GET /v1/clusters/availability-zones", lambda c: c.endpoints.list_avzones(), ok({"avzones": []})),
        ("GET /v1/models", lambda c: c.models.list(), ok(listing)),
        ("GET /v1/models/m", lambda c: c.models.retrieve("m"), ok(MODEL)),
        ("POST /v1/models", lambda c: c.models.add({"id": "m"}), ok(MODEL)),
        ("DELETE /v1/models/m", lambda c: c.models.remove("m"), ok({"id": "m", "deleted": True})),
        ("GET /v1/keys", lambda c: c.keys.list(), ok(listing)),
        ("GET /v1/events", lambda c: c.events.list(after=3), ok(listing)),
        ("GET /v1/whoami", lambda c: c.whoami(), ok(WHOAMI)),
    ]
    for expected, call, response in calls:
        script = Script(response)
        await run(script, call)
        (request,) = script.requests
        assert f"{request.method} {request.url.path}" == expected


MODEL = {
    "id": "m",
    "object": "model",
    "created": 0,
    "type": "chat",
    "display_name": "M",
    "organization": "o",
    "context_length": 1,
}
WHOAMI = {
    "api_key_id": "key-1",
    "organization_id": "o",
    "organization_name": "o",
    "project_id": "o",
    "project_name": "o",
    "project_slug": "o",
    "owner": "o",
    "role": "admin",
}


class Parts(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in parts, which notes that it was closed."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def chunk(text: str) -> bytes:
    return b'data: {"choices":[{"delta":{"content":' + json.dumps(text).encode() + b"}}]}\n\n"


async def texts(script: Script, kind: str) -> list[str]:
    messages = [{"role": "user", "content": "hi"}]
    if kind == "sync":
        with script.sync() as client:
            return [part.text for part in client.chat_stream("e", messages, max_tokens=3)]
    async with script.asynchronous() as other:
        return [part.text async for part in other.chat_stream("e", messages, max_tokens=3)]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_chat_is_streamed(kind: str) -> None:
    body = Parts(chunk("Hel")[:9], chunk("Hel")[9:] + chunk("lo"), b"data: [DONE]\n\n")
    script = Script(httpx.Response(200, stream=body))
    assert await texts(script, kind) == ["Hel", "lo"]
    assert json.loads(script.requests[0].content)["max_tokens"] == 3
    assert body.closed


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_refused_chat_is_an_api_error(kind: str) -> None:
    with pytest.raises(ApiError, match="no") as caught:
        await texts(Script(refused(404)), kind)
    assert caught.value.status == 404


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_chat_that_breaks_off_is_a_failure(kind: str) -> None:
    with pytest.raises(ConnectionFailed, match="before the answer was complete"):
        await texts(Script(httpx.Response(200, stream=Parts(chunk("x")))), kind)


def test_hanging_up_closes_the_stream() -> None:
    body = Parts(*[chunk("x")] * 3, b"data: [DONE]\n\n")
    with Script(httpx.Response(200, stream=body)).sync() as client:
        stream = client.chat_stream("e", [])
        assert next(stream).text == "x"
        assert not body.closed
        stream.close()
    assert body.closed


@pytest.mark.parametrize("name", ["Endpoints", "Models", "Keys", "Events"])
def test_the_asynchronous_resources_are_the_twins_of_the_others(name: str) -> None:
    def shape(kind: type) -> dict[str, str]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {method: str(inspect.signature(f)) for method, f in methods if not method.startswith("_")}

    assert shape(getattr(resources, name)) == shape(getattr(async_resources, f"Async{name}"))


def test_the_package_offers_the_clients_and_nothing_else() -> None:
    assert roost.Roost is Roost
    with pytest.raises(AttributeError, match="no attribute 'Rooster'"):
        roost.Rooster  # type: ignore[attr-defined]  # noqa: B018
