"""``/endpoints/{id}/logs`` on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from tests.unit.api.front import BASE_URL, CREATE, app_of, check_failure, client_of
from tests.unit.services.office import ADMIN, Office

from roost.api.routes.logs import KEEP_ALIVE_S
from roost.domain.key import Role
from roost.domain.log import ReplicaLog
from roost.services.logs import CHECK_EVERY, MAX_FOLLOWED, POLL_S, LogService
from roost.testing.builders import make_key, secret_of

LINES = [ReplicaLog("replica-0", ("over",), ended=True), ReplicaLog("replica-1", ("eins", "zwei \ud800"))]


class Server:
    """The public app; ``waits`` says what happens while a stream waits. ``chatty``: each wait brings a line."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.waited = 0
        self.chatty = False
        self.waits: Callable[[int], Awaitable[None]] = self._nothing
        logs = LogService(office.services.endpoints, office.store, self._logs_of, office.clock.now, self._wait)
        office.services = replace(office.services, logs=logs)
        self.app = app_of(office)

    async def create(self) -> dict[str, str]:
        async with client_of(self.app) as http:
            created: dict[str, str] = (await http.post("/endpoints", json=CREATE)).json()
            return created

    async def get(self, path: str, key: int | None = 1) -> httpx.Response:
        async with client_of(self.app, key) as http:
            return await http.get(path)

    async def _logs_of(self, endpoint_id: str, tail: int) -> Sequence[ReplicaLog]:
        said = tuple(f"line {n}" for n in range(self.waited)) if self.chatty else ()
        return [replace(log, lines=(*log.lines, *said)[-tail:] if tail else ()) for log in LINES]

    async def _wait(self, seconds: float) -> None:
        self.waited += 1
        assert self.waited < 1000, "a stream that does not end"
        self.office.clock.advance(timedelta(seconds=seconds))
        await self.waits(self.waited)

    async def _nothing(self, count: int) -> None:
        return


@pytest.fixture
async def server() -> Server:
    return Server(await Office().open())


async def test_the_lines_as_a_list(server: Server) -> None:
    created = await server.create()
    for name in (created["id"], created["name"].replace("/", "%2F"), created["name"]):
        response = await server.get(f"/endpoints/{name}/logs?tail=1")
        assert response.json() == {"object": "list", "data": [{"replica_id": "replica-1", "line": "zwei ?"}]}
    response = await server.get(f"/endpoints/{created['id']}/logs?replica=replica-0")
    assert [item["line"] for item in response.json()["data"]] == ["over"]


async def test_refusals_have_a_status_also_when_a_stream_is_asked_for(server: Server) -> None:
    created = await server.create()
    for follow in ("", "&follow=true"):
        assert check_failure(await server.get(f"/endpoints/endpoint-none/logs?{follow}"), 404)["param"] == "id"
        here = f"/endpoints/{created['id']}/logs"
        assert check_failure(await server.get(f"{here}?replica=x{follow}"), 404)["code"] == "replica_not_found"
        assert check_failure(await server.get(f"{here}?tail=10001{follow}"), 400)["param"] == "tail"
        assert check_failure(await server.get(f"{here}?tail=x{follow}"), 400)["param"] == "tail"
        check_failure(await server.get(f"{here}?{follow}", key=2), 404)
        check_failure(await server.get(f"{here}?{follow}", key=3), 403)
        check_failure(await server.get(f"{here}?{follow}", key=None), 401)


async def test_a_stream_is_of_unnamed_events_with_comments_in_its_silence(server: Server) -> None:
    created = await server.create()
    silence = round(KEEP_ALIVE_S / POLL_S)

    async def delete_at_last(count: int) -> None:
        if count == 2 * silence + 1:
            await server.office.services.endpoints.delete(ADMIN, created["id"])

    server.waits = delete_at_last
    response = await server.get(f"/endpoints/{created['id']}/logs?follow=true")
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [event for event in response.text.split("\n\n") if event]
    data = [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(":")]
    assert data == [{"replica_id": "replica-1", "line": "eins"}, {"replica_id": "replica-1", "line": "zwei ?"}]
    assert [event for event in events if event.startswith(":")] == [": following", ": keep-alive", ": keep-alive"]


def data_of(response: httpx.Response) -> list[dict[str, Any]]:
    events = [event for event in response.text.split("\n\n") if event]
    return [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(":")]


@pytest.mark.parametrize("chatty", [False, True])
async def test_a_key_that_is_revoked_ends_the_stream_however_much_is_said(server: Server, chatty: bool) -> None:
    created = await server.create()
    server.chatty = chatty

    async def revoke(count: int) -> None:
        if count == 1:
            await server.office.store.revoke_key("key-00000001", server.office.clock.now(), [])

    server.waits = revoke
    response = await server.get(f"/endpoints/{created['id']}/logs?follow=true")
    assert "authentication" in data_of(response)[-1]["error"]["message"].lower()
    assert server.waited * POLL_S <= CHECK_EVERY.total_seconds()


async def test_a_key_that_expires_ends_the_stream_of_an_engine_that_talks(server: Server) -> None:
    created = await server.create()
    server.chatty = True
    expires_at = server.office.clock.now() + timedelta(seconds=10)
    await server.office.store.insert_key(make_key(7, role=Role.ADMIN, expires_at=expires_at), [])
    response = await server.get(f"/endpoints/{created['id']}/logs?follow=true", key=7)
    assert "expired" in data_of(response)[-1]["error"]["message"]
    assert server.office.clock.now() <= expires_at + CHECK_EVERY


async def test_the_stream_of_an_engine_that_talks_ends_with_the_endpoint(server: Server) -> None:
    created = await server.create()
    server.chatty = True

    async def delete(count: int) -> None:
        if count == 4:
            await server.office.services.endpoints.delete(ADMIN, created["id"])

    server.waits = delete
    response = await server.get(f"/endpoints/{created['id']}/logs?follow=true")
    assert data_of(response)[-1]["line"].startswith("line ")
    assert server.waited == 4


async def hang_up(server: Server, path: str, *, in_a_send: bool) -> int:
    """Ask for ``path`` and hang up at the first part of the body; the status."""
    begun = asyncio.Event()
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        else:
            begun.set()
            if in_a_send and statuses == [200]:
                await asyncio.Event().wait()

    url = httpx.URL(BASE_URL + path)
    key = f"Bearer {secret_of(1)}".encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": url.path,
        "raw_path": url.raw_path,
        "query_string": url.query,
        "root_path": "",
        "headers": [(b"host", b"roost.test"), (b"authorization", key)],
        "server": ("roost.test", 80),
        "client": ("127.0.0.1", 1),
    }
    await server.app(scope, receive, send)
    return statuses[0]


@pytest.mark.parametrize("in_a_send", [False, True])
async def test_a_stream_whose_client_hangs_up_counts_no_longer(server: Server, in_a_send: bool) -> None:
    created = await server.create()
    never = asyncio.Event()

    async def wait(count: int) -> None:
        await never.wait()

    server.waits = wait
    path = f"/endpoints/{created['id']}/logs?follow=true"
    for _ in range(MAX_FOLLOWED + 1):
        assert await hang_up(server, path, in_a_send=in_a_send) == 200


async def test_more_streams_than_a_key_may_have_are_refused(server: Server) -> None:
    created = await server.create()
    logs = server.office.services.logs
    who = partial(server.office.services.keys.authenticate, secret_of(1))
    streams = [logs.follow(who, created["id"]) for _ in range(MAX_FOLLOWED)]
    for stream in streams:
        await anext(stream)
    error = check_failure(await server.get(f"/endpoints/{created['id']}/logs?follow=true"), 429)
    assert (error["type"], error["code"]) == ("rate_limit_error", "too_many_streams")
    assert (await server.get(f"/endpoints/{created['id']}/logs")).status_code == 200
