"""What became of answers that change something: told to the control plane, so that it knows which create was lost.

``Delivery`` watches one answer on its way; made by ``relay`` for each such request. It must never hold up a connection,
nor count as delivered what the client may not have read.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from typing import TYPE_CHECKING

from roost.domain.creation import Delivery as State

if TYPE_CHECKING:
    from roost.gateway.gateway import Gateway

FIRST_LOOK_S = 0.001
SLOWEST_LOOK_S = 0.1


class Delivery:
    """One answer. Its client's machine has acknowledged it once the kernel holds no byte of it any more; the client has
    read it if it goes on using the connection, or closes it in order: a machine that is left with bytes that nobody
    read resets the connection instead."""

    __slots__ = ("_acknowledged", "_decided", "_gateway", "_pause", "_timer", "_transport", "_written", "answer")

    def __init__(self, gateway: Gateway, transport: asyncio.Transport, answer: str) -> None:
        """``answer`` is its name at the control plane."""
        self.answer = answer
        self._gateway = gateway
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self._pause = FIRST_LOOK_S
        self._written = False
        self._acknowledged = False
        self._decided = False

    def written(self) -> None:
        """The whole answer has been given to the connection."""
        self._written = True
        if self._transport.get_extra_info("sslcontext") is None:
            self._look()
        else:
            # What is encrypted reaches the socket a little later, and until then it cannot be seen anywhere.
            self._timer = self._gateway.loop.call_later(self._pause, self._look)

    def client_went_on(self) -> None:
        """The client sent something after the answer was written."""
        self._decide(State.DELIVERED)

    def client_closed(self) -> None:
        """The client has closed its side of the connection in order; our side is still open."""
        arrived = self._written and self._unacknowledged() == 0
        self._decide(State.DELIVERED if arrived else State.LOST)

    def connection_lost(self, *, reset: bool) -> None:
        """The connection is no more, by a reset or because this side closed it."""
        self._decide(State.DELIVERED if self._acknowledged and not reset else State.LOST)

    def lost(self) -> None:
        """The client will not get the answer."""
        self._decide(State.LOST)

    def _look(self) -> None:
        self._timer = None
        if self._decided or self._acknowledged:
            return
        if self._unacknowledged() == 0:
            self._acknowledged = True
            self._gateway.tell(self.answer, State.ACKNOWLEDGED)
            return
        self._timer = self._gateway.loop.call_later(self._pause, self._look)
        self._pause = min(2 * self._pause, SLOWEST_LOOK_S)

    def _unacknowledged(self) -> int:
        """Bytes that the client's machine has not acknowledged; 1 when that cannot be told any more."""
        waiting = self._transport.get_write_buffer_size()
        sock = self._transport.get_extra_info("socket")
        if waiting or sock is None:
            return waiting or 1
        try:
            # SIOCOUTQ, which has the number of TIOCOUTQ.
            raw = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        except (OSError, ValueError):
            # It is closed already.
            return 1
        return int(struct.unpack("i", raw)[0])

    def _decide(self, state: State) -> None:
        if self._decided:
            return
        self._decided = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._gateway.tell(self.answer, state)
