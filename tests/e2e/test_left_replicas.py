"""A server that is killed leaves replicas; the same home can end them without starting a server again."""

from __future__ import annotations

from tests.e2e.server import Server, until


def test_stop_after_the_server_was_killed_leaves_no_process(server: Server) -> None:
    server.create("test/echo")
    assert server.process is not None
    server.process.kill()
    server.process.wait(10)
    done = server.cli("stop")
    assert done.stdout.startswith("Ended 1 replica: replica-")
    until("all processes of the home have ended", lambda: not server.processes(), 10)
    server.start()
    (listed,) = server.http.get("/endpoints").json()["data"]
    server.wait_state(listed["id"], "STARTED")
