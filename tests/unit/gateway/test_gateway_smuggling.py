"""No bytes of a client become two requests, or another request than the one it sent: the table of ``wire_cases``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gateway.fakes import KEY, PATIENCE_S, Client, World
from tests.unit.gateway.wire_cases import BODY, CASES, ONE, Case

from roost.config import Settings
from roost.domain.routing import RouteKey
from roost.gateway.answers import Refusal
from roost.gateway.bodies import Bodies
from roost.gateway.front import Front
from roost.gateway.pace import Limits
from roost.gateway.request import Request

PATHS = {"inference": b"/v1/chat/completions", "relayed": b"/v1/endpoints"}
CALLER = RouteKey("digest", "key-1", "alice", "member")
HIDDEN = b"X-Hidden: yes\r\n"
_REQUEST = re.compile(rb"POST [^ \r\n]+ HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\r\n\0]*\r\n)+)\r\n")


def of(case: Case, side: str) -> bytes:
    """The bytes of a case, with a sound request hidden behind what is refused."""
    hidden = ONE.replace(b"Authorization", HIDDEN + b"Authorization") if case.refused is not None else b""
    data = case.data + hidden
    return data.replace(b"<key>", b"Bearer " + KEY.encode()).replace(b"<path>", PATHS[side])


class Recorder:
    """An upstream that keeps every byte, and answers each whole request."""

    def __init__(self) -> None:
        self.connections: list[bytearray] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = bytearray()
        self.connections.append(seen)
        answered = 0
        while data := await reader.read(65536):
            seen += data
            whole = len(requests_in(bytes(seen)))
            for _ in range(whole - answered):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
            answered = max(answered, whole)
        writer.close()

    @property
    def requests(self) -> list[tuple[bytes, bytes]]:
        return [request for seen in self.connections for request in requests_in(bytes(seen))]


def requests_in(data: bytes) -> list[tuple[bytes, bytes]]:
    """Head and body of each whole request, read as strictly as can be."""
    found: list[tuple[bytes, bytes]] = []
    at = 0
    while match := _REQUEST.match(data, at):
        head, at = match[0], match.end()
        lengths = re.findall(rb"(?i)\r\ncontent-length: ([0-9]+)\r\n", head)
        codings = re.findall(rb"(?i)\r\ntransfer-encoding: (chunked)\r\n", head)
        assert len(lengths) + len(codings) == 1, "what is passed on has one framing"
        body = b""
        size = int(lengths[0]) if lengths else _chunk_at(data, at)
        while codings and size > 0:
            start = data.index(b"\r\n", at) + 2
            body += data[start : start + size]
            at = start + size + 2
            size = _chunk_at(data, at)
        end = at + (size if lengths else 5)
        if size < 0 or len(data) < end:
            return found
        found.append((head, data[at:end] if lengths else body))
        at = end
    return found


def _chunk_at(data: bytes, at: int) -> int:
    match = re.compile(rb"([0-9a-f]+)\r\n").match(data, at)
    return int(match[1], 16) if match is not None and len(data) >= match.end() + int(match[1], 16) + 2 else -1


@pytest.fixture
async def recorder(world: World, folder: Path) -> AsyncIterator[Recorder]:
    made = Recorder()
    await world.upstream.stop()
    await world.control.stop()
    servers = [await asyncio.start_unix_server(made.serve, fake.path) for fake in (world.upstream, world.control)]
    yield made
    for server in servers:
        server.close()


def statuses(data: bytes) -> list[int]:
    """Of the answers in ``data``, all of which have a length."""
    found = []
    at = 0
    while at < len(data):
        match = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) .*?\r\n\r\n", re.DOTALL).match(data, at)
        assert match is not None, data[at:]
        length = re.search(rb"(?i)content-length: ([0-9]+)", match[0])
        at = match.end() + (int(length[1]) if length else 0)
        found.append(int(match[1]))
    return found


async def more(client: Client) -> bytes:
    """The next bytes; the end is none."""
    piece = await client.reader.read(65536)
    assert piece
    return piece


@pytest.mark.parametrize("side", PATHS)
@pytest.mark.parametrize("name", CASES)
async def test_what_becomes_of_it(world: World, recorder: Recorder, name: str, side: str) -> None:
    case = CASES[name]
    client = await world.connect()
    client.writer.write(of(case, side))
    got = b""
    async with asyncio.timeout(PATIENCE_S):
        while len(statuses(got)) < case.served:
            got += await more(client)
        if case.refused is None:
            # Nothing is left over that would be taken for the beginning of another request.
            client.writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            while len(statuses(got)) <= case.served:
                got += await more(client)
        else:
            got += await client.reader.read()
    assert statuses(got) == [200] * case.served + [case.refused or 200], case.why
    assert [body for _, body in recorder.requests] == [BODY] * case.served
    assert not any(HIDDEN.lower() in head.lower() or b"evil" in head for head, _ in recorder.requests)


@pytest.mark.parametrize("side", PATHS)
@pytest.mark.parametrize("name", ["size 0x", "length then coding", "signed length", "two hosts", "header ends with LF"])
async def test_a_head_that_was_seen_before_makes_nothing_pass(
    world: World, recorder: Recorder, name: str, side: str
) -> None:
    case = CASES[name]
    client = await world.connect()
    sound = of(Case("", ONE, None, 1), side)
    for _ in range(3):
        assert (await client.ask(sound)).status == 200
    client.writer.write(of(case, side))
    async with asyncio.timeout(PATIENCE_S):
        assert statuses(await client.reader.read()) == [case.refused]
    assert [body for _, body in recorder.requests] == [BODY] * 3


@pytest.mark.parametrize("side", PATHS)
@pytest.mark.parametrize("data", [ONE, CASES["CHUNKED"].data], ids=["length", "chunks"])
async def test_a_request_cut_anywhere_is_never_carried_out(
    world: World, recorder: Recorder, data: bytes, side: str
) -> None:
    data = of(Case("", data, None), side)
    for cut in range(1, len(data), 7):
        client = await world.connect()
        await client.send(data[:cut])
        client.writer.write_eof()
        assert await client.closed()
    assert recorder.requests == []


# ---- any pieces


class Wire(asyncio.Transport):
    """What the front writes."""

    def __init__(self) -> None:
        self.out = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.out += data

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Office:
    """What the front needs of a gateway; each request is answered once it is complete, and kept."""

    settings = Settings(Path("/"))
    max_clients = max_told = 10
    pace = Limits(30, 60, 60)
    leaving = draining = False
    max_body_bytes = 1 << 20
    marks = b""
    too_large = Refusal(413, "Too large.", "payload_too_large")

    def __init__(self) -> None:
        self.fronts: set[Front] = set()
        self.bodies = Bodies(1 << 20, 1 << 20)
        self.cells = [0] * 1000
        self.seen: list[tuple[bytes, bytes, bytes]] = []

    def now(self) -> float:
        return 0.0

    def next_id(self) -> bytes:
        return b"id"

    def authenticate(self, authorization: bytes | None) -> object:
        return CALLER

    def admit(self, request: Request, *, is_next: bool) -> Refusal | None:
        request.key = CALLER
        return None if request.method in (b"POST", b"OPTIONS") else Refusal(405, "POST only.", "method_not_allowed")

    def account(self, *told: object) -> None: ...

    def infer(self, front: Front, request: Request) -> None:
        self.seen.append((request.method, request.target, b"".join(request.body)))
        front.reply(request, 200, b"{}")

    def serve(self, front: Front, request: Request) -> None:
        if request.target == b"*":
            front.reply(request, 204, b"")
            return
        waiter = Waiter(self, front, request)
        front.active = waiter
        waiter.on_request_body()


class Waiter:
    """Answers a request that is relayed as soon as all of it is there."""

    sent = 0

    def __init__(self, office: Office, front: Front, request: Request) -> None:
        self.office, self.front, self.request = office, front, request

    def on_request_body(self) -> None:
        if self.request.complete:
            self.office.infer(self.front, self.request)

    def on_client_full(self) -> None: ...

    def on_client_drained(self) -> None: ...

    def abort(self) -> None: ...


def outcome(pieces: list[bytes]) -> tuple[list[tuple[bytes, bytes, bytes]], list[int]]:
    wire, office = Wire(), Office()
    front = Front(office)  # type: ignore[arg-type]
    front.connection_made(wire)
    for piece in pieces:
        if not wire.closed:
            front.data_received(piece)
    return office.seen, statuses(wire.out)


SHORT = sorted(name for name, case in CASES.items() if len(case.data) < 2000)


@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from(SHORT), side=st.sampled_from(sorted(PATHS)), cuts=st.lists(st.integers(1, 60), max_size=40))
def test_the_pieces_in_which_it_comes_change_nothing(name: str, side: str, cuts: list[int]) -> None:
    data = of(CASES[name], side)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(data[at : at + cut])
        at += cut
    pieces = [piece for piece in [*pieces, data[at:]] if piece]
    whole = outcome([data])
    assert outcome(pieces) == whole
    assert whole[1][-1] == (CASES[name].refused or 200)


@pytest.mark.parametrize("side", PATHS)
@pytest.mark.parametrize("name", SHORT)
def test_byte_by_byte(name: str, side: str) -> None:
    data = of(CASES[name], side)
    assert outcome([data[at : at + 1] for at in range(len(data))]) == outcome([data])


def test_many_requests_in_one_piece_are_no_long_head() -> None:
    get = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    data = get * 3000
    served, answers = outcome([data[:-5], data[-5:]])
    assert (len(served), set(answers)) == (3000, {200})
