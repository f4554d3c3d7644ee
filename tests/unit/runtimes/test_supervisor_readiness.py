"""When an address counts as accepting connections."""

from __future__ import annotations

import socket
from pathlib import Path

from roost.runtimes.supervision.supervisor import accepts, probe_interval


def test_a_unix_socket_accepts_from_listen_on(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    address = f"unix:{path}"
    assert not accepts(address)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        assert not accepts(address), "bound is not listening"
        server.listen()
        assert accepts(address)
    assert not accepts(address), "the file is still there, nobody is behind it"


def test_a_port_accepts_from_listen_on() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert not accepts(address)
        server.listen()
        assert accepts(address)


def test_readiness_is_noticed_within_thirty_milliseconds() -> None:
    assert probe_interval(0) <= 0.010
    assert all(probe_interval(seconds) < 0.030 for seconds in range(0, 3600, 60))
