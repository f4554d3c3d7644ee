"""API keys: making, listing, revoking, and recognising them. Called by the API and ``web.auth``.

It never stores, logs or returns a key after its creation: only the SHA-256 digest is kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from roost.domain.errors import AuthenticationFailed, BadRequest, NotFound
from roost.domain.event import Event
from roost.domain.ids import UuidSource, event_id, key_id
from roost.domain.key import MAX_LIMIT, UNLIMITED, ApiKey, KeyLimits, Role, digest_of
from roost.services.access import Principal
from roost.store.base import Store

MAX_NAME_LENGTH = 64
MAX_ENDPOINTS = 1000
"""Endpoints on a key's list: gateways look through it with each request."""

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
        """Whose key that is. Raises ``AuthenticationFailed`` for unknown, revoked and expired ones, with the codes that
        gateways refuse them with."""
        key = await self.store.key_by_digest(digest_of(secret))
        if key is None or key.revoked_at is not None:
            raise AuthenticationFailed(
                "authentication failed: this API key is not one of this server's.", code="unknown_api_key"
            )
        if not key.usable(self.now()):
            raise AuthenticationFailed("authentication failed: this API key has expired.", code="expired_api_key")
        return Principal(key.id, key.owner, key.role, key.endpoints, key.expires_at, key.limits)

    async def create(
        self,
        principal: Principal,
        *,
        owner: str | None,
        role: str,
        expires_at: datetime | None,
        name: str | None = None,
        endpoints: Sequence[str] | None = None,
        limits: KeyLimits = UNLIMITED,
    ) -> IssuedKey:
        """Issue a key; ``endpoints`` are ids or names of those that it is for (None: all of its owner's).

        Raises ``PermissionDenied`` and ``BadRequest`` naming the field.
        """
        principal.require_admin("create keys")
        now = self.now()
        if role not in set(Role):
            raise BadRequest(f"role must be one of {', '.join(Role)}.", param="role")
        chosen = principal.owner if owner is None else owner
        if not _OWNER.fullmatch(chosen):
            raise BadRequest(
                "owner must be 1 to 64 letters, digits and . _ - (a letter or digit first).", param="owner"
            )
        check_limits(asdict(limits))
        listed = None if endpoints is None else await self._listed(endpoints, chosen, Role(role))
        secret = f"roost-{self.token()}"
        key = ApiKey(
            id=key_id(self.uuids()),
            digest=digest_of(secret),
            owner=chosen,
            role=Role(role),
            created_at=now,
            expires_at=_expiry(expires_at, now),
            name=_name(name),
            endpoints=listed,
            limits=limits,
        )
        only = "" if listed is None else f", limited to {', '.join(listed)}"
        given = {name: limit for name, limit in asdict(limits).items() if limit is not None}
        bounds = f", with {_told(given)}" if given else ""
        reason = f"{principal.owner} created a key of role {role} for {chosen}{only}{bounds}"
        await self.store.insert_key(key, [self._event("key.created", reason, principal, key.id, now)])
        self.wake_routes()
        return IssuedKey(key, secret)

    async def list(self, principal: Principal) -> Sequence[ApiKey]:
        """All keys of the principal's owner (for admins: all), oldest first; for keys with a list of endpoints only the
        key itself. Raises ``PermissionDenied``."""
        principal.require_control()
        keys = [key for key in await self.store.keys() if principal.may_see(key.owner)]
        return keys if principal.endpoints is None else [key for key in keys if key.id == principal.key_id]

    async def get(self, principal: Principal, key_id: str) -> ApiKey:
        """A key that the principal sees in its list. Raises ``NotFound`` and ``PermissionDenied``."""
        key = next((key for key in await self.list(principal) if key.id == key_id), None)
        if key is None:
            raise NotFound(f"The API key {key_id[:200]} was not found.", param="id", code="key_not_found")
        return key

    async def update(self, principal: Principal, key_id: str, limits: Mapping[str, int | None]) -> ApiKey:
        """Set some of a key's limits (admins only), by the fields of ``KeyLimits``; None lifts one.

        Raises ``NotFound``, ``PermissionDenied``, and ``BadRequest`` naming the field, or for a revoked key.
        """
        principal.require_admin("change keys")
        check_limits(limits)
        key = await self.get(principal, key_id)
        told = f"{principal.owner} set {_told(limits)}"
        events = [self._event("key.changed", told, principal, key.id, self.now())] if limits else []
        changed = await self.store.limit_key(key.id, limits, events)
        self.wake_routes()
        return changed

    async def revoke(self, principal: Principal, key_id: str) -> ApiKey:
        """Revoke a key (admins any, members only the one they ask with); again is a no-op.

        Raises ``NotFound``, ``PermissionDenied``, and ``BadRequest`` for the last usable admin key, without which
        nobody could make another.
        """
        key = await self.get(principal, key_id)
        if key.id != principal.key_id:
            principal.require_admin("revoke other keys than itself")
        now = self.now()
        event = self._event("key.revoked", f"{principal.owner} revoked the key", principal, key.id, now)
        # The store looks for another admin key in the same transaction: two revocations at once cannot take the last.
        revoked = await self.store.revoke_key(key.id, now, [event], keep_admin=True)
        self.wake_routes()
        return revoked

    async def _listed(self, endpoints: Sequence[str], owner: str, role: Role) -> tuple[str, ...]:
        """The ids of ``endpoints``, each once. Raises ``BadRequest`` for what is not one of ``owner``'s."""
        if role is Role.ADMIN:
            raise BadRequest(
                "endpoints cannot limit a key of role admin: make a member or inference key.", param="endpoints"
            )
        if not 1 <= len(endpoints) <= MAX_ENDPOINTS:
            raise BadRequest(
                f"endpoints must name 1 to {MAX_ENDPOINTS}; leave the field out for all of the owner's.",
                param="endpoints",
            )
        found: dict[str, None] = {}
        for wanted in endpoints:
            endpoint = await self.store.endpoint(wanted) or await self.store.endpoint_by_name(wanted)
            if endpoint is None or endpoint.deleted_at is not None or endpoint.owner != owner:
                # Only admins come here, who see everybody's endpoints.
                other = None if endpoint is None or endpoint.deleted_at is not None else endpoint.owner
                advice = f" That is {other}'s: make the key with owner {other}, and say by name whom it is for."
                raise BadRequest(
                    f"endpoints: {owner} has none with the id or name {wanted[:300]!r}.{advice if other else ''}",
                    param="endpoints",
                    code="unknown_endpoint",
                )
            found[endpoint.id] = None
        return tuple(found)

    def _event(self, kind: str, reason: str, principal: Principal, key: str, now: datetime) -> Event:
        return Event(event_id(self.uuids()), now, kind, principal.owner, reason, data={"key": key})


def check_limits(limits: Mapping[str, int | None]) -> None:
    """Raise ``BadRequest`` for a limit that is none or that no gateway can count."""
    for name, limit in limits.items():
        if limit is not None and not 1 <= limit <= MAX_LIMIT:
            raise BadRequest(
                f"{name} must be from 1 to {MAX_LIMIT}, or null for no limit; to stop a key, revoke it.", param=name
            )


def _told(limits: Mapping[str, int | None]) -> str:
    return ", ".join(f"{name} {'unlimited' if limit is None else limit}" for name, limit in sorted(limits.items()))


def _name(name: str | None) -> str | None:
    """The name, None for an empty one. Raises ``BadRequest``."""
    if not name:
        return None
    if len(name) > MAX_NAME_LENGTH or any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in name):
        raise BadRequest(
            f"name must have at most {MAX_NAME_LENGTH} characters and no control characters.", param="name"
        )
    return name


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
