"""The first admin key and the credentials file, each time the control plane starts.

Called by ``wiring.control``. It must never print or log a key, and never replace one that works.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from roost.config import Settings
from roost.domain.event import Event
from roost.domain.ids import UuidSource, event_id, key_id
from roost.domain.key import ApiKey, Role, digest_of
from roost.store.base import Store
from roost.wiring.home import write_private
from roost.wiring.listen import origin


@dataclass(frozen=True, slots=True)
class Access:
    """How the owner gets in: ``api_key`` when one was made just now, ``note`` when the file needs the user's care."""

    api_key: str | None = None
    note: str | None = None


async def grant_access(
    store: Store,
    settings: Settings,
    *,
    now: datetime,
    uuids: UuidSource,
    token: Callable[[], str],
    new_key: bool = False,
) -> Access:
    """Make sure that there is an admin key, and that ``credentials.json`` names this server's address.

    A key is made when there is none at all, or when ``new_key`` asks for one.
    """
    keys = await store.keys()
    if new_key or not keys:
        reason = "asked for when the server was started" if keys else "first start"
        return Access(api_key=await _make_key(store, settings, now, uuids, token(), reason))
    held = _read(settings)
    where = settings.credentials_path
    remedy = "To make a new admin key: `roost stop`, then `roost serve --new-key`."
    if held is None:
        return Access(note=f"{where} is missing or damaged. {remedy}")
    usable = {key.digest for key in keys if key.usable(now)}
    if digest_of(held["api_key"]) not in usable:
        return Access(note=f"The key in {where} is not one that this server accepts. {remedy}")
    if held.get("base_url") != base_url(settings):
        _write(settings, {**held, "base_url": base_url(settings)})
    return Access()


def base_url(settings: Settings) -> str:
    """The base URL for clients on this machine."""
    return f"{origin(settings.host, settings.port, tls=bool(settings.tls_cert))}/v1"


async def _make_key(store: Store, settings: Settings, now: datetime, uuids: UuidSource, token: str, reason: str) -> str:
    key = ApiKey(id=key_id(uuids()), digest=digest_of(token), owner=settings.owner, role=Role.ADMIN, created_at=now)
    event = Event(id=event_id(uuids()), at=now, kind="key.created", actor="system", reason=reason, data={"key": key.id})
    # The file first: a crash in between leaves a file that the next start replaces, not a key that nobody knows.
    _write(settings, {"base_url": base_url(settings), "api_key": token})
    await store.insert_key(key, [event])
    return token


def _read(settings: Settings) -> Mapping[str, Any] | None:
    try:
        held = json.loads(settings.credentials_path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return held if isinstance(held, dict) and isinstance(held.get("api_key"), str) else None


def _write(settings: Settings, values: Mapping[str, Any]) -> None:
    write_private(settings.credentials_path, json.dumps(values, indent=2) + "\n")
