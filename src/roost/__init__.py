"""Roost: dedicated LLM endpoints on your own machines.

The clients and their errors are imported when first used: the server's processes need neither, and must not pay for
them. Their types are in the stub beside this file.
"""

from importlib import import_module

from roost._version import __version__

_ERRORS = "roost.client.errors"
_HOMES = {"Roost": "roost.client.sync", "AsyncRoost": "roost.client.asynchronous"} | dict.fromkeys(
    (
        "ApiError",
        "AuthenticationError",
        "BadRequest",
        "ClientError",
        "Conflict",
        "ConnectionFailed",
        "EndpointFailed",
        "MissingPackage",
        "NoKeyKnown",
        "NoServerKnown",
        "NotConfigured",
        "NotFound",
        "PayloadTooLarge",
        "PermissionDenied",
        "RateLimited",
        "ServerError",
        "Timeout",
        "UnexpectedAnswer",
        "Untrusted",
        "WaitFailed",
        "WaitTimeout",
    ),
    _ERRORS,
)

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    """The clients and the errors by name."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
