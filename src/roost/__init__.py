"""Roost: dedicated LLM endpoints on your own machines.

``Roost`` and ``AsyncRoost`` are imported when first used: the server's processes need neither, and must not pay for
them. Their types are in the stub beside this file.
"""

from importlib import import_module

from roost._version import __version__

__all__ = ["AsyncRoost", "Roost", "__version__"]

_CLIENTS = {"Roost": "roost.client.sync", "AsyncRoost": "roost.client.asynchronous"}


def __getattr__(name: str) -> object:
    """The clients by name."""
    if name not in _CLIENTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_CLIENTS[name]), name)
