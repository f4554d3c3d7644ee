"""What a client's connection tells whatever is answering its current request.

Called by ``front``; ``exchange``, ``relay`` and ``health`` are such. It must never hold anything but this protocol.
"""

from __future__ import annotations

from typing import Protocol


class Answering(Protocol):
    """Whatever is answering the connection's current request. ``sent`` counts the bytes of the answer so far."""

    sent: int

    def on_client_full(self) -> None:
        """The client reads slowly."""
        ...

    def on_client_drained(self) -> None:
        """The client has caught up."""
        ...

    def on_request_body(self) -> None:
        """More of the request's body is there, or its end."""
        ...

    def abort(self) -> None:
        """The client is gone."""
        ...
