"""API keys: making, listing, revoking, and recognising them. Called by the API and ``web.auth``.

It never stores, logs or returns a key after its creation: only the SHA-256 digest is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from roost.domain.errors import AuthenticationFailed, BadRequest, NotFound
from roost.domain.event import Event
from roost.domain.ids import UuidSource, event_id, key_id
from roost.domain.key import ApiKey, Role, digest_of
from roost.services.access import Principal
from roost.store.base import Store

_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key: ``secret`` is what its holder sends, shown once."""

    key: ApiKey
    secret: str


@dataclass(frozen=True, slots=True)
class KeyService:
    """Use cases of API keys. ``token`` makes the random part of a key: 43 URL-safe characters."""

    store: Store
    now: Callable[[], datetime]
    uuids: UuidSource
    token: Callable[[], str]
    wake_routes: Callable[[], None]

    async def authenticate(self, secret: str) -> Principal:
        """Whose key that is. Raises ``AuthenticationFailed`` for unknown, revoked and expired ones."""
        key = await self.store.key_by_digest(digest_of(secret))
        if key is None or key.revoked_at is not None:
            raise AuthenticationFailed("authentication failed: this API key is not one of this server's.")
        if not key.usable(self.now()):
            raise AuthenticationFailed("authentication failed: this API key has expired.")
        return Principal(key.id, key.owner, key.role)

    async def create(
        self, principal: Principal, *, owner: str | None, role: str, expires_at: datetime | None
    ) -> IssuedKey:
        """Issue a key. Raises ``PermissionDenied`` and ``BadRequest`` naming the field."""
        principal.require_admin("create keys")
        now = self.now()
        if role not in set(Role):
            raise BadRequest(f"role must be one of {', '.join(Role)}.", param="role")
        chosen = principal.owner if owner is None else owner
        if not _OWNER.fullmatch(chosen):
            raise BadRequest(
                "owner must be 1 to 64 letters, digits and . _ - (a letter or digit first).", param="owner"
            )
        expires = _expiry(expires_at, now)
        secret = f"roost-{self.token()}"
        key = ApiKey(key_id(self.uuids()), digest_of(secret), chosen, Role(role), now, expires)
        reason = f"{principal.owner} created a key of role {role} for {chosen}"
        await self.store.insert_key(key, [self._event("key.created", reason, principal, key.id, now)])
        self.wake_routes()
        return IssuedKey(key, secret)

    async def list(self, principal: Principal) -> Sequence[ApiKey]:
        """All keys of the principal's owner (for admins: all), oldest first. Raises ``PermissionDenied``."""
        principal.require_control()
        return [key for key in await self.store.keys() if principal.may_see(key.owner)]

    async def revoke(self, principal: Principal, key_id: str) -> ApiKey:
        """Revoke a key (admins any, members only the one they ask with); again is a no-op.

        Raises ``NotFound``, ``PermissionDenied``, and ``BadRequest`` for the last usable admin key, without which
        nobody could make another.
        """
        keys = await self.list(principal)
        key = next((key for key in keys if key.id == key_id), None)
        if key is None:
            raise NotFound(f"The API key {key_id[:200]} was not found.", param="id", code="key_not_found")
        if key.id != principal.key_id:
            principal.require_admin("revoke other keys than itself")
        now = self.now()
        event = self._event("key.revoked", f"{principal.owner} revoked the key", principal, key.id, now)
        # The store looks for another admin key in the same transaction: two revocations at once cannot take the last.
        revoked = await self.store.revoke_key(key.id, now, [event], keep_admin=True)
        self.wake_routes()
        return revoked

    def _event(self, kind: str, reason: str, principal: Principal, key: str, now: datetime) -> Event:
        return Event(event_id(self.uuids()), now, kind, principal.owner, reason, data={"key": key})


def _expiry(expires_at: datetime | None, now: datetime) -> datetime | None:
    """The time in UTC. Raises ``BadRequest`` for one that is over or that UTC has no year for."""
    if expires_at is None:
        return None
    if expires_at <= now:
        raise BadRequest("expires_at must lie in the future.", param="expires_at")
    try:
        return expires_at.astimezone(UTC)
    except OverflowError as error:
        raise BadRequest("expires_at must lie before the year 10000 in UTC.", param="expires_at") from error
