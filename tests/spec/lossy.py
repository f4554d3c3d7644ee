"""A relay before the server that loses answers: the server gives one, and the connection breaks before it is read."""

from __future__ import annotations

import select
import socket
import struct
import threading
from types import TracebackType
from urllib.parse import urlsplit


class Lossy:
    """A context manager. ``lose`` POSTs have their answers lost; ``seen`` holds the heads of all requests."""

    def __init__(self, origin: str, lose: int) -> None:
        url = urlsplit(origin)
        self._server = (url.hostname or "", url.port or 0)
        self._left = lose
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.origin = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.seen: list[str] = []

    def __enter__(self) -> Lossy:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Wakes the thread that accepts, which closing alone does not.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(30)

    def _start(self, work: object, *arguments: object) -> None:
        assert callable(work)
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        """One request a connection: what follows on it goes on a new one."""
        with client, socket.create_connection(self._server, timeout=30) as server:
            request = _whole(client)
            if not request:
                return
            head = request.partition(b"\r\n\r\n")[0].decode()
            self.seen.append(head)
            if head.startswith("POST") and self._left > 0:
                self._left -= 1
                server.sendall(request)
                # The answer is here, and is never read: both ends are reset.
                select.select([server], [], [], 30)
                for connection in (server, client):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            server.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            client.sendall(b"".join(iter(lambda: server.recv(65536), b"")))


def _whole(client: socket.socket) -> bytes:
    """A request with its body; empty when the client only opened a connection."""
    text = b""
    while b"\r\n\r\n" not in text:
        part = client.recv(65536)
        if not part:
            return b""
        text += part
    head, _, body = text.partition(b"\r\n\r\n")
    sizes = [line.partition(b":")[2] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    while len(body) < (int(sizes[0]) if sizes else 0):
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body
