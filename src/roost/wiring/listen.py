"""Sockets: the public TCP port and the two unix sockets of the control plane.

The parent binds the port and hands it to the gateways, so that a gateway's death resets no queued connection. It must
never share a port with another server: no ``SO_REUSEPORT`` here.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from roost.domain.errors import InvalidSettings

BACKLOG = 2048
"""Connections that may queue while no gateway accepts (a restart); the system may cap it lower."""

LONGEST_UNIX_PATH = 107
"""Bytes that the address of a unix socket can hold on Linux."""


class PortTaken(InvalidSettings):
    """Another socket listens on the address."""

    code = "port_taken"


def bind(host: str, port: int) -> socket.socket:
    """A listening socket on ``host:port`` (port 0: one that is free).

    Raises ``PortTaken``, or ``InvalidSettings`` with what to do, when it cannot.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise InvalidSettings(f"The host {host!r} is not an address of this machine: {error}.") from error
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise _explain(error, host, port) from error
    listening.setblocking(False)
    return listening


def bind_unix(path: Path) -> socket.socket:
    """A listening unix socket at ``path``, mode 0600; what an earlier process left there is removed.

    Raises ``InvalidSettings`` when the path is too long for a unix socket.
    """
    if len(os.fsencode(path)) > LONGEST_UNIX_PATH:
        raise InvalidSettings(f"{path} is too long for a unix socket: choose a shorter ROOST_HOME.")
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o600)
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening


def origin(host: str, port: int, *, tls: bool = False) -> str:
    """The URL at which this machine reaches the server: a wildcard host becomes the loopback address."""
    scheme = "https" if tls else "http"
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"


def _explain(error: OSError, host: str, port: int) -> InvalidSettings:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else 8080
        return PortTaken(
            f"Port {port} on {host} is in use by another program: end that program, or choose another port "
            f"(--port {other}, or --port 0 for any free one)."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return InvalidSettings(f"Port {port} may not be opened by this user: choose a port from 1024 up (--port 8080).")
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidSettings(f"The host {host!r} is not an address of this machine: use 127.0.0.1 or 0.0.0.0.")
    return InvalidSettings(f"Cannot listen on {host}:{port}: {error.strerror}.")
