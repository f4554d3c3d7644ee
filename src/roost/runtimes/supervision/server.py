"""The supervisor's unix socket: connections, and messages in both directions. Used by the supervisor only.

Never blocks: what a peer does not take yet waits in its buffer, and a peer that lets it grow too far is dropped (it
may connect again; it missed only hints).
"""

from __future__ import annotations

import os
import selectors
import socket

from . import protocol
from .complaint import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Peer:
    """One connection of a runtime."""

    __slots__ = ("inbox", "outbox", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.inbox = bytearray()
        self.outbox = bytearray()


class Server:
    """Accepts peers at ``path`` and hands their messages to ``on_message`` (which raises ``ValueError``, ``TypeError``
    or ``KeyError`` for nonsense); greets each with ``greeting()``."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        path: str,
        greeting: Callable[[], bytes],
        on_message: Callable[[Peer, dict[str, Any]], None],
    ) -> None:
        self._selector = selector
        self._path = path
        self._greeting = greeting
        self._on_message = on_message
        self._peers: list[Peer] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def listen(self) -> None:
        """Bind the socket, in the place of one left behind. Raises ``OSError``."""
        remove(self._path)
        self._listener.bind(self._path)
        self._listener.listen(16)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def add(self, connection: socket.socket, received: bytes = b"") -> None:
        """Take a connection that is there already, with what was ``received`` on it, and greet it."""
        connection.setblocking(False)
        peer = Peer(connection)
        self._peers.append(peer)
        self._selector.register(connection, selectors.EVENT_READ, lambda mask: self._serve(peer, mask))
        self.send(peer, self._greeting())
        self._take(peer, received)

    def send(self, peer: Peer, data: bytes) -> None:
        """Send to one peer."""
        peer.outbox += data
        self._flush(peer)

    def broadcast(self, data: bytes) -> None:
        """Send to all peers."""
        for peer in list(self._peers):
            self.send(peer, data)

    def close(self, patience_s: float) -> None:
        """Deliver what is still waiting, for at most ``patience_s`` a peer, and close everything."""
        self._selector.unregister(self._listener)
        self._listener.close()
        remove(self._path)
        for peer in list(self._peers):
            peer.socket.settimeout(patience_s)
            try:
                peer.socket.sendall(peer.outbox)
            except OSError:
                peer.outbox.clear()  # gone or not reading; the record holds what it missed
            self._drop(peer)

    def _accept(self, mask: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.add(connection)

    def _serve(self, peer: Peer, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush(peer)
        if not mask & selectors.EVENT_READ:
            return
        try:
            data = peer.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(peer, data)
        else:
            self._drop(peer)

    def _take(self, peer: Peer, data: bytes) -> None:
        peer.inbox += data
        if len(peer.inbox) > protocol.MAX_LINE:
            self._drop(peer)
            return
        for line in protocol.split(peer.inbox):
            try:
                self._on_message(peer, protocol.decode(line))
            except (ValueError, TypeError, KeyError) as error:
                say(f"a peer was dropped for {line[:200]!r}: {error!r}")
                self._drop(peer)
                return

    def _flush(self, peer: Peer) -> None:
        try:
            while peer.outbox:
                sent = peer.socket.send(peer.outbox)
                del peer.outbox[:sent]
        except BlockingIOError:
            pass  # the rest goes when the peer reads again
        except OSError:
            self._drop(peer)
            return
        if len(peer.outbox) > protocol.MAX_LINE:
            self._drop(peer)
        elif peer in self._peers:
            waits = selectors.EVENT_WRITE if peer.outbox else 0
            key = self._selector.get_key(peer.socket)
            if key.events != selectors.EVENT_READ | waits:
                self._selector.modify(peer.socket, selectors.EVENT_READ | waits, key.data)

    def _drop(self, peer: Peer) -> None:
        if peer in self._peers:
            self._peers.remove(peer)
            self._selector.unregister(peer.socket)
            peer.socket.close()


def remove(path: str) -> None:
    """Remove a socket's file if it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
