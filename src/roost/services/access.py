"""Who asks, and what that allows. Pure. Used by all services; made by ``web.auth`` from a request's key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from roost.domain.errors import PermissionDenied
from roost.domain.key import UNLIMITED, KeyLimits, Role, reaches


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a usable key. ``endpoints``, ``expires_at`` and ``limits`` are the key's: see
    ``domain.key.ApiKey``."""

    key_id: str
    owner: str
    role: Role
    endpoints: tuple[str, ...] | None = None
    expires_at: datetime | None = None
    limits: KeyLimits = UNLIMITED

    @property
    def is_admin(self) -> bool:
        """Whether the key may do everything."""
        return self.role is Role.ADMIN

    def may_see(self, owner: str) -> bool:
        """Whether things of ``owner``, other than endpoints, exist for this principal."""
        return self.is_admin or self.owner == owner

    def may_use(self, endpoint_id: str, owner: str) -> bool:
        """Whether that endpoint of ``owner`` exists for this principal."""
        return reaches(self.role, self.owner, self.endpoints, endpoint_id=endpoint_id, endpoint_owner=owner)

    def require_admin(self, what: str) -> None:
        """Raise ``PermissionDenied`` unless the key is an admin's; ``what`` completes "The key lacks permission to"."""
        if not self.is_admin:
            raise PermissionDenied(f"This key lacks the permission to {what}: an admin's key is needed.")

    def require_control(self) -> None:
        """Raise ``PermissionDenied`` for keys that are for inference only."""
        if self.role is Role.INFERENCE:
            raise PermissionDenied("This key has permission for inference only: use a member's or an admin's key.")

    def require_create(self) -> None:
        """Raise ``PermissionDenied`` for keys that may not make endpoints."""
        self.require_control()
        if self.endpoints is not None:
            raise PermissionDenied(
                "This key has permission for the deployments on its list only, and not to create others: use a key "
                "without a list."
            )
