"""Sockets of the server: bound once, refused in one clear sentence."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from roost.domain.errors import InvalidSettings
from roost.wiring.listen import PortTaken, bind, bind_unix, origin


def test_port_zero_gives_a_free_port_that_listens() -> None:
    with bind("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname(), timeout=5):
        pass


def test_a_taken_port_names_the_port_and_what_to_do() -> None:
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {port} on 127.0.0.1 is in use .* --port"):
            bind("127.0.0.1", port)


def test_a_port_is_free_again_at_once_after_its_listener_closed_with_connections() -> None:
    with bind("127.0.0.1", 0) as listening:
        address = listening.getsockname()
        client = socket.create_connection(address, timeout=5)
        listening.setblocking(True)
        served, _ = listening.accept()
        served.close()  # this side enters TIME_WAIT
        client.close()
    with bind(*address):
        pass


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7", "\u0000"])
def test_a_host_that_is_not_here_is_refused(host: str) -> None:
    with pytest.raises(InvalidSettings, match="is not an address of this machine"):
        bind(host, 0)


def test_a_unix_socket_replaces_a_stale_one_and_is_private(short_folder: Path) -> None:
    path = short_folder / "control.sock"
    bind_unix(path).close()
    with bind_unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_path_too_long_for_a_unix_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="shorter ROOST_HOME"):
        bind_unix(tmp_path / ("x" * 108))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("gpu-box", "http://gpu-box:80"),
    ],
)
def test_the_origin_is_reachable_from_this_machine(host: str, expected: str) -> None:
    assert origin(host, 80) == expected
