"""The first admin key and the credentials file."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from roost.config import Settings, replace
from roost.domain.key import Role, digest_of
from roost.store.memory import MemoryStore
from roost.wiring.bootstrap import Access, grant_access

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore("memory://")
    await store.open()
    return store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, port=8123)


async def grant(store: MemoryStore, settings: Settings, token: str = "roost-one", *, new_key: bool = False) -> Access:
    return await grant_access(store, settings, now=NOW, uuids=uuid4, token=lambda: token, new_key=new_key)


def held(settings: Settings) -> dict[str, str]:
    values: dict[str, str] = json.loads(settings.credentials_path.read_text())
    return values


async def test_the_first_start_makes_an_admin_key_and_a_private_file(store: MemoryStore, settings: Settings) -> None:
    access = await grant(store, settings)
    assert access == Access(api_key="roost-one")
    assert held(settings) == {"base_url": "http://127.0.0.1:8123/v1", "api_key": "roost-one"}
    assert stat.S_IMODE(settings.credentials_path.stat().st_mode) == 0o600
    [key] = await store.keys()
    assert (key.digest, key.role, key.owner) == (digest_of("roost-one"), Role.ADMIN, settings.owner)
    [event] = await store.events()
    assert event.kind == "key.created"
    assert "roost-one" not in repr(event)


async def test_later_starts_make_no_key_and_say_nothing(store: MemoryStore, settings: Settings) -> None:
    await grant(store, settings)
    assert await grant(store, settings, "roost-two") == Access()
    assert len(await store.keys()) == 1


async def test_a_new_port_is_written_to_the_file_and_the_key_stays(store: MemoryStore, settings: Settings) -> None:
    await grant(store, settings)
    await grant(store, replace(settings, port=9000))
    assert held(settings) == {"base_url": "http://127.0.0.1:9000/v1", "api_key": "roost-one"}


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"api_key": 7}'])
async def test_a_missing_or_damaged_file_is_left_alone_with_what_to_do(
    store: MemoryStore, settings: Settings, content: str | None
) -> None:
    await grant(store, settings)
    settings.credentials_path.unlink()
    if content is not None:
        settings.credentials_path.write_text(content)
    access = await grant(store, settings)
    assert access.api_key is None
    assert "--new-key" in (access.note or "")
    assert len(await store.keys()) == 1


async def test_a_file_with_a_key_of_another_server_is_noticed(store: MemoryStore, settings: Settings) -> None:
    await grant(store, settings)
    settings.credentials_path.write_text('{"base_url": "x", "api_key": "roost-foreign"}')
    access = await grant(store, settings)
    assert "not one that this server accepts" in (access.note or "")
    assert held(settings)["base_url"] == "x", "a file that is not this server's is not touched"


async def test_a_revoked_key_in_the_file_is_noticed(store: MemoryStore, settings: Settings) -> None:
    await grant(store, settings)
    [key] = await store.keys()
    await store.revoke_key(key.id, NOW, [])
    assert "--new-key" in ((await grant(store, settings)).note or "")


async def test_a_new_key_on_request_replaces_the_file_and_keeps_old_keys(
    store: MemoryStore, settings: Settings
) -> None:
    await grant(store, settings)
    access = await grant(store, settings, "roost-two", new_key=True)
    assert access.api_key == "roost-two"
    assert held(settings)["api_key"] == "roost-two"
    assert {key.digest for key in await store.keys()} == {digest_of("roost-one"), digest_of("roost-two")}
