"""The address that an engine process is told to listen on. Used by the engine processes; standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listen:
    """Either ``path`` (a unix socket) or ``host`` and ``port``."""

    path: str | None = None
    host: str = ""
    port: int = 0


def parse_listen(text: str) -> Listen:
    """Read ``unix:<path>`` or ``<host>:<port>`` (an IPv6 host in brackets). Raises ``ValueError``."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path:
            raise ValueError("the path of the unix socket is missing")
        return Listen(path=path)
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is neither unix:<path> nor <host>:<port>")
    return Listen(host=host.strip("[]"), port=int(port))
