"""Both shells against a fake transport: what they send, repeat and raise."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.unit.client.test_requests import ENDPOINT

import roost
from roost import (
    ApiError,
    AsyncRoost,
    AuthenticationError,
    BadRequest,
    Conflict,
    ConnectionFailed,
    EndpointFailed,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    RateLimited,
    Roost,
    ServerError,
    Timeout,
    WaitTimeout,
)
from roost.api.routes.logs import KEEP_ALIVE_S
from roost.client import async_resources, errors, resources
from roost.client.transport import FOLLOWED_TIMEOUT_S

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

    def now(self) -> float:
        """A clock that only the delays move."""
        return sum(self.delays)

    def sync(self) -> Roost:
        return Roost(URL, "k", transport=httpx.MockTransport(self), sleep=self.sleep, monotonic=self.now)

    def asynchronous(self) -> AsyncRoost:
        return AsyncRoost(URL, "k", transport=httpx.MockTransport(self), sleep=self.sleep_async, monotonic=self.now)


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


async def test_a_create_carries_a_key_and_is_repeated_with_it(run: Run) -> None:
    script = Script(httpx.ReadTimeout, refused(502), ok())
    await run(script, lambda client: client.endpoints.create(model="m", hardware="h", autoscaling={}))
    keys = {request.headers["idempotency-key"] for request in script.requests}
    assert len(script.requests) == 3
    assert len(keys) == 1


async def test_two_creates_are_two_wishes_unless_the_caller_says_otherwise(run: Run) -> None:
    script = Script(ok(), ok(), ok())
    wish: dict[str, Any] = {"model": "m", "hardware": "h", "autoscaling": {}}
    await run(script, lambda client: client.endpoints.create(**wish))
    await run(script, lambda client: client.endpoints.create(**wish))
    await run(script, lambda client: client.endpoints.create(**wish, idempotency_key="mine"))
    first, second, third = [request.headers["idempotency-key"] for request in script.requests]
    assert first != second
    assert third == "mine"


async def test_a_delete_whose_answer_was_lost_has_succeeded(run: Run) -> None:
    script = Script(httpx.ReadError, refused(404))
    await run(script, lambda client: client.endpoints.delete("e"))
    assert len(script.requests) == 2
    script = Script(httpx.ReadError, refused(404))
    await run(script, lambda client: client.models.remove("m"))


async def test_a_delete_of_what_is_not_there_is_not_found(run: Run) -> None:
    for script in (Script(refused(404)), Script(refused(503), refused(404)), Script(httpx.ConnectError, refused(404))):
        with pytest.raises(NotFound):
            await run(script, lambda client: client.endpoints.delete("e"))


async def test_the_number_of_repetitions_can_be_chosen() -> None:
    script = Script(*[refused(500) for _ in range(6)])
    with (
        Roost(
            URL, "k", transport=httpx.MockTransport(script), sleep=script.sleep, max_retries=4, random=lambda: 0.0
        ) as c,
        pytest.raises(ServerError),
    ):
        c.endpoints.list()
    assert script.delays == [0.25, 0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, AuthenticationError),
        (403, PermissionDenied),
        (404, NotFound),
        (405, ApiError),
        (409, Conflict),
        (413, PayloadTooLarge),
        (429, RateLimited),
        (500, ServerError),
        (501, ServerError),
        (503, ServerError),
    ],
)
async def test_each_refusal_is_of_its_own_kind(run: Run, status: int, kind: type[ApiError]) -> None:
    body = {"error": {"message": "No.", "type": "t", "code": "c", "param": "p"}}
    headers = {"x-request-id": "r", "retry-after": "9", "x-should-retry": "false"}
    script = Script(httpx.Response(status, json=body, headers=headers))
    with pytest.raises(kind) as caught:
        await run(script, lambda client: client.endpoints.list())
    error = caught.value
    assert type(error) is kind
    assert isinstance(error, roost.ClientError)
    assert (error.message, error.status, error.code, error.param) == ("No.", status, "c", "p")
    assert (error.request_id, error.retry_after) == ("r", 9.0)
    assert repr(error) == f"{kind.__name__}('No.', status={status}, code='c', param='p', request_id='r')"


def sight(state: str, **over: Any) -> httpx.Response:
    return ok({**ENDPOINT, "state": state, **over})


async def test_start_and_stop_ask_for_a_state(run: Run) -> None:
    script = Script(sight("PENDING"), sight("STOPPING"))
    assert (await run(script, lambda client: client.endpoints.start("e"))).state == "PENDING"
    assert (await run(script, lambda client: client.endpoints.stop("e"))).state == "STOPPING"
    assert [json.loads(request.content) for request in script.requests] == [{"state": "STARTED"}, {"state": "STOPPED"}]


async def test_waiting_polls_until_the_state_is_there_and_tells_news(run: Run) -> None:
    script = Script(sight("PENDING"), sight("PENDING"), sight("STARTING"), sight("STARTED"))
    news: list[str] = []
    found = await run(script, lambda client: client.endpoints.wait("e", on_change=lambda e: news.append(e.state)))
    assert found.state == "STARTED"
    assert news == ["PENDING", "STARTING", "STARTED"]
    assert script.delays == [1.0, 1.0, 1.0]


async def test_waiting_survives_a_restart_of_the_server(run: Run) -> None:
    script = Script(sight("STARTING"), *[httpx.ConnectError] * 7, refused(503), sight("STARTED"))
    assert (await run(script, lambda client: client.endpoints.wait("e", poll=2))).state == "STARTED"


async def test_waiting_for_a_server_that_stays_away_ends(run: Run) -> None:
    script = Script(sight("STARTING"), *[httpx.ConnectError] * 500)
    with pytest.raises(ConnectionFailed):
        await run(script, lambda client: client.endpoints.wait("e"))
    assert 60 <= sum(script.delays) < 65


async def test_waiting_ends_with_the_endpoint(run: Run) -> None:
    reason = {"code": "c", "message": "Out of memory."}
    script = Script(sight("STARTING"), sight("ERROR", state_reason=reason))
    with pytest.raises(EndpointFailed, match="Out of memory"):
        await run(script, lambda client: client.endpoints.wait("e"))
    with pytest.raises(NotFound):
        await run(Script(sight("STARTING"), refused(404)), lambda client: client.endpoints.wait("e"))
    script = Script(*[sight("STOPPING") for _ in range(9)])
    with pytest.raises(WaitTimeout, match=r"not STOPPED after 3 s, it is STOPPING\."):
        await run(script, lambda client: client.endpoints.wait("e", state="STOPPED", timeout=3))
    assert len(script.requests) == 4


async def test_logs_are_lines_of_replicas(run: Run) -> None:
    script = Script(ok({"object": "list", "data": [{"replica_id": "replica-1", "line": "up"}]}))
    lines = (await run(script, lambda client: client.endpoints.logs("u/m", tail=5))).data
    assert [(line.replica_id, line.line) for line in lines] == [("replica-1", "up")]
    assert script.requests[0].url.raw_path == b"/v1/endpoints/u%2Fm/logs?tail=5"


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_logs_can_be_followed(kind: str) -> None:
    events = b'data: {"replica_id":"r","line":"one"}\n\n: keep-alive\n\ndata: {"replica_id":"r","line":"two"}\n\n'
    body = Parts(events[:20], events[20:])
    script = Script(httpx.Response(200, stream=body))
    if kind == "sync":
        with script.sync() as client:
            lines = [line.line for line in client.endpoints.follow_logs("e", replica="r")]
    else:
        async with script.asynchronous() as other:
            lines = [line.line async for line in other.endpoints.follow_logs("e", replica="r")]
    assert lines == ["one", "two"]
    (request,) = script.requests
    assert dict(request.url.params) == {"replica": "r", "follow": "true"}
    assert request.extensions["timeout"]["read"] == FOLLOWED_TIMEOUT_S
    assert body.closed


async def followed(script: Script, kind: str) -> list[str]:
    if kind == "sync":
        with script.sync() as client:
            return [line.line for line in client.endpoints.follow_logs("e")]
    async with script.asynchronous() as other:
        return [line.line async for line in other.endpoints.follow_logs("e")]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_followed_logs_end_when_the_network_does(kind: str) -> None:
    body = Parts(b'data: {"replica_id":"r","line":"one"}\n\n: keep-alive\n\n', silent=True)
    script = Script(httpx.Response(200, stream=body))
    with pytest.raises(Timeout, match="did not answer in time"):
        await followed(script, kind)
    (request,) = script.requests
    assert 3 * KEEP_ALIVE_S < request.extensions["timeout"]["read"] < 4 * KEEP_ALIVE_S
    assert body.closed


async def test_an_error_within_followed_logs_is_raised() -> None:
    body = Parts(b'data: {"error":{"message":"Gone.","type":"t"}}\n\n')
    with Script(httpx.Response(200, stream=body)).sync() as client, pytest.raises(ApiError, match="Gone"):
        list(client.endpoints.follow_logs("e"))


COMPLETION = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
}


async def test_chat_is_openai_s_over_the_same_connections(run: Run) -> None:
    script = Script(ok(COMPLETION))
    messages = [{"role": "user", "content": "x"}]
    answer = await run(script, lambda client: client.chat.completions.create(model="endpoint-1", messages=messages))
    assert isinstance(answer, openai.types.chat.ChatCompletion)
    assert answer.choices[0].message.content == "Hi"
    (request,) = script.requests
    assert str(request.url) == f"{URL}/chat/completions"
    assert request.headers["authorization"] == "Bearer k"
    assert request.headers["x-stainless-read-timeout"] == "60.0"


async def test_completions_and_embeddings_are_openai_s(run: Run) -> None:
    script = Script(ok({"id": "x", "object": "text_completion", "created": 1, "model": "m", "choices": []}))
    await run(script, lambda client: client.completions.create(model="e", prompt="x"))
    assert str(script.requests[0].url) == f"{URL}/completions"
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    script = Script(ok({"object": "list", "model": "m", "data": [vector], "usage": {}}))
    answer = await run(script, lambda client: client.embeddings.create(model="e", input="x", encoding_format="float"))
    assert answer.data[0].embedding == [0.5]


async def test_openai_s_part_obeys_the_same_limits(run: Run) -> None:
    script = Script(refused(503, **{"x-should-retry": "false"}))
    with pytest.raises(openai.InternalServerError):
        await run(script, lambda client: client.chat.completions.create(model="e", messages=[]))
    assert len(script.requests) == 1
    script = Script(*[httpx.Response(503, headers={"retry-after": "0.001"}) for _ in range(3)])
    with (
        Roost(URL, "k", transport=httpx.MockTransport(script), max_retries=1, timeout=7) as client,
        pytest.raises(openai.InternalServerError),
    ):
        client.completions.create(model="e", prompt="x")
    assert len(script.requests) == 2
    assert script.requests[0].headers["x-stainless-read-timeout"] == "7"


async def test_without_openai_s_package_its_part_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What Python itself writes down for a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(roost.MissingPackage, match=r"pip install openai"):
        await run(Script(), lambda client: client.chat)


def test_importing_the_client_does_not_import_openai_s_package() -> None:
    code = "import sys; from roost import Roost; Roost('http://h/v1', 'k'); sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


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
    """A body in parts, which notes that it was closed; a ``silent`` one has no end: the client's read timeout has."""

    def __init__(self, *parts: bytes, silent: bool = False) -> None:
        self.parts = parts
        self.silent = silent
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.parts
        if self.silent:
            raise httpx.ReadTimeout("")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
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


def shape(kind: type) -> dict[str, tuple[str, str | None]]:
    """The signatures and the docstrings of all that is public, in the words of the synchronous one."""
    public = {name: member for name, member in inspect.getmembers(kind) if not name.startswith("_")}
    public["__init__"] = kind.__init__  # type: ignore[misc]
    return {
        name: (
            str(inspect.signature(member)).replace("Async", "").replace("Awaitable[None]", "None")
            if inspect.isfunction(member)
            else "property",
            inspect.getdoc(member),
        )
        for name, member in public.items()
    }


@pytest.mark.parametrize("name", ["Endpoints", "Models", "Keys", "Events"])
def test_the_asynchronous_resources_are_the_twins_of_the_others(name: str) -> None:
    assert shape(getattr(resources, name)) == shape(getattr(async_resources, f"Async{name}"))


def test_the_clients_are_twins() -> None:
    one, other = shape(Roost), shape(AsyncRoost)
    for each in (one, other):
        # Tests only; each has the kind of its world.
        each.pop("__init__")
    assert one == other
    mine, others = (inspect.signature(kind).parameters for kind in (Roost, AsyncRoost))
    assert list(mine) == list(others)
    assert [p.default for p in mine.values()][:5] == [p.default for p in others.values()][:5]


def test_the_package_offers_the_clients_and_their_errors() -> None:
    stub = Path(roost.__file__).with_suffix(".pyi").read_text()
    offered = set(vars(roost)["__all__"])
    assert set(re.findall(r"^from \S+ import (\w+) as \1$", stub, re.MULTILINE)) == offered
    assert offered <= set(dir(roost))
    for name in offered:
        assert getattr(roost, name) is not None
    tree = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert tree | {"Roost", "AsyncRoost", "__version__"} == offered
    with pytest.raises(AttributeError, match="no attribute 'Rooster'"):
        roost.Rooster  # type: ignore[attr-defined]  # noqa: B018
