"""From an ``Authorization`` header to the one who asks. Called by the API on every request but the public ones.

It must never log a key or put one in a message.
"""

from __future__ import annotations

from roost.domain.errors import AuthenticationFailed
from roost.services.access import Principal
from roost.services.keys import KeyService

HINT = "send the header 'Authorization: Bearer <API key>'"


def bearer_of(authorization: str | None) -> str:
    """The key in the header. Raises ``AuthenticationFailed`` when there is none."""
    if not authorization:
        raise AuthenticationFailed(f"authentication failed: there is no API key; {HINT}.", code="missing_api_key")
    scheme, _, key = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise AuthenticationFailed(f"authentication failed: not a bearer key; {HINT}.", code="missing_api_key")
    return key.strip()


async def principal_of(authorization: str | None, keys: KeyService) -> Principal:
    """Who asks. Raises ``AuthenticationFailed``."""
    return await keys.authenticate(bearer_of(authorization))
