"""Who asks, as far as the shape of answers depends on it. Pure.

Called by the API, and by the gateway for each request.
"""

from __future__ import annotations

_CLASSIC = (b"Together", b"AsyncTogether", b"together-")


def is_classic(user_agent: bytes) -> bool:
    """Whether the header is that of a classic SDK (``together``, ``together-ai``), which wants bare arrays and chunks
    of its own shape, as all others break on them."""
    return user_agent.startswith(_CLASSIC)
