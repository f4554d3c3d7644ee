"""Usage is counted exactly, whoever is killed while it is reported."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from dataclasses import astuple, dataclass, fields
from typing import Any

import psutil
from openai import OpenAI
from tests.e2e.server import PAUSE, Server, until

WORDS: list[Any] = [{"role": "user", "content": "one two three four five"}]
CLIENTS = 4
KILLS = 4


@dataclass
class Count:
    """What clients were told."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, prompt: int, completion: int) -> None:
        self.requests += 1
        self.prompt_tokens += prompt
        self.completion_tokens += completion


class Clients:
    """Requests one after the other on several connections until told to stop; each answer is counted."""

    def __init__(self, server: Server, model: str, prompt_tokens: int) -> None:
        self._server = server
        self._model = model
        self._prompt = prompt_tokens
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.count = Count()
        self.failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def until_more(self, requests: int) -> None:
        """Wait for so many more answers."""
        wanted = self.count.requests + requests
        until("the load goes on", lambda: self.count.requests >= wanted or self.failed, 120)

    def _run(self, number: int) -> None:
        client = OpenAI(base_url=self._server.base_url, api_key=self._server.key, max_retries=0)
        turn = number
        try:
            while not self._over.is_set():
                prompt, completion = self._ask(client, turn)
                turn += 1
                with self._lock:
                    self.count.add(prompt, completion)
        except Exception as error:  # noqa: BLE001 - handed to the test, which fails with it
            self.failed.append(error)

    def _ask(self, client: OpenAI, turn: int) -> tuple[int, int]:
        asked: dict[str, Any] = {"model": self._model, "messages": WORDS, "max_tokens": 2 + turn % 7}
        if turn % 3 == 0:
            answer = client.chat.completions.create(**asked)
            assert answer.usage is not None
            return answer.usage.prompt_tokens, answer.usage.completion_tokens
        if turn % 3 == 1:
            # Who does not ask is told nothing, and counted all the same.
            chunks = list(client.chat.completions.create(stream=True, **asked))
            assert all(chunk.choices and chunk.usage is None for chunk in chunks)
            return self._prompt, sum(bool(chunk.choices[0].delta.content) for chunk in chunks)
        options: Any = {"include_usage": True}
        *_, last = client.chat.completions.create(stream=True, stream_options=options, **asked)
        assert last.usage is not None
        return last.usage.prompt_tokens, last.usage.completion_tokens


def in_database(server: Server, endpoint_id: str) -> tuple[Count, int]:
    """The sums over all rows of the endpoint, and how many answers are estimated."""
    names = ", ".join(f"coalesce(sum({each.name}), 0)" for each in fields(Count))
    database = sqlite3.connect(f"file:{server.home / 'roost.db'}?mode=ro", uri=True)
    try:
        query = f"select {names}, coalesce(sum(estimated), 0) from usage where endpoint_id = ?"
        *sums, estimated = database.execute(query, (endpoint_id,)).fetchone()
    finally:
        database.close()
    return Count(*sums), estimated


def assert_counted(server: Server, endpoint_id: str, wanted: Count) -> None:
    """The sums become what the clients counted, and stay so while nothing is waiting to be reported."""

    def reported() -> bool:
        return in_database(server, endpoint_id)[0].requests >= wanted.requests and not spooled(server)

    until("all is reported", reported)
    found, estimated = in_database(server, endpoint_id)
    assert astuple(found) == astuple(wanted)
    assert estimated == 0


def spooled(server: Server) -> list[str]:
    return [path.name for path in (server.home / "run").glob("usage-*.json")]


def prompt_of(server: Server, model: str) -> int:
    with OpenAI(base_url=server.base_url, api_key=server.key) as client:
        usage = client.chat.completions.create(model=model, messages=WORDS, max_tokens=1).usage
    assert usage is not None
    return usage.prompt_tokens


def kill(server: Server, before: int) -> int:
    """End the control plane the hard way, as soon as there is one that was not yet; its pid."""
    pid: int = until("a control plane", lambda: _control(server, before), 120)
    os.kill(pid, signal.SIGKILL)
    return pid


def _control(server: Server, before: int) -> int:
    try:
        pid = server.pid("control")
    except (FileNotFoundError, ValueError):
        return 0
    return pid if pid != before and psutil.pid_exists(pid) else 0


def test_the_sums_are_exact_though_the_control_plane_is_killed_while_it_takes_them(server: Server) -> None:
    created = server.create("test/echo")
    prompt = prompt_of(server, created["id"])
    with Clients(server, created["id"], prompt) as clients:
        killed = 0
        for number in range(KILLS):
            # A different moment of the reports' second each time; the load goes on meanwhile.
            clients.until_more(20)
            PAUSE.wait(0.3 * number)
            killed = kill(server, killed)
    assert not clients.failed
    clients.count.add(prompt, 1)  # the first one, alone
    assert_counted(server, created["id"], clients.count)


def test_a_worker_that_ends_while_the_control_plane_is_away_leaves_what_it_counted_to_the_next(server: Server) -> None:
    created = server.create("test/echo")
    prompt = prompt_of(server, created["id"])
    worker = server.pid("gateway-0")
    with Clients(server, created["id"], prompt) as clients:
        killed = kill(server, 0)
        until("requests without a control plane", lambda: clients.count.requests > 30)
    assert not clients.failed
    # Once more where it came back already: the worker is to end while nobody takes its report.
    if _control(server, killed):
        kill(server, killed)
    os.kill(worker, signal.SIGTERM)
    until("the worker has ended", lambda: not psutil.pid_exists(worker) or _ended(worker))
    clients.count.add(prompt, 1)
    assert_counted(server, created["id"], clients.count)
    assert "usage that another worker left is taken over" in server.log_text()


def _ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
