"""Who a key belongs to, in the two shapes that clients ask for. An owner is organization and project in one."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from roost.schemas.base import Answer


class Whoami(Answer):
    """The flat shape, ``GET /whoami``; ``owner`` and what follows it are extras, all about the key that was sent."""

    api_key_id: str
    organization_id: str
    organization_name: str
    project_id: str
    project_name: str
    project_slug: str
    owner: str
    role: str
    endpoints: list[str] | None = None
    expires_at: datetime | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


class WhoamiKey(Answer):
    """The key that was sent."""

    id: str


class WhoamiOrganization(Answer):
    """The key's owner."""

    id: str
    name: str


class WhoamiProject(Answer):
    """The key's owner once more."""

    id: str
    name: str
    slug: str


class WhoamiNested(Answer):
    """The nested shape, ``GET /v3/whoami``."""

    type: Literal["project_api_key"] = "project_api_key"
    api_key: WhoamiKey
    organization: WhoamiOrganization
    project: WhoamiProject
