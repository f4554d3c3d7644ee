"""API keys."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta, timezone

import pytest
from tests.unit.services.office import ADMIN, INFERENCE, MEMBER, Office

from roost.domain.errors import AuthenticationFailed, BadRequest, NotFound, PermissionDenied
from roost.domain.key import Role, digest_of
from roost.gateway.admission import EXPIRED_KEY, UNKNOWN_KEY
from roost.services.access import Principal
from roost.telemetry.logging import redact
from roost.testing.builders import secret_of


async def test_a_key_names_its_holder(office: Office) -> None:
    keys = office.services.keys

    assert await keys.authenticate(secret_of(1)) == ADMIN
    assert await keys.authenticate(secret_of(2)) == MEMBER


@pytest.mark.parametrize("secret", ["", "nonsense", f"{secret_of(1)} ", "\udcff"])
async def test_other_keys_name_nobody(office: Office, secret: str) -> None:
    with pytest.raises(AuthenticationFailed, match="authentication") as caught:
        await office.services.keys.authenticate(secret)
    assert caught.value.code == UNKNOWN_KEY.code


async def test_an_issued_key_works_until_it_expires(office: Office) -> None:
    keys = office.services.keys
    expires = office.clock.now() + timedelta(hours=1)

    issued = await keys.create(ADMIN, owner="bob", role="inference", expires_at=expires)

    assert re.fullmatch(r"roost-[A-Za-z0-9_-]{43}", issued.secret)
    assert issued.key.digest == digest_of(issued.secret)
    assert await keys.authenticate(issued.secret) == Principal(issued.key.id, "bob", Role.INFERENCE, expires_at=expires)
    assert office.route_wakes == 1
    office.clock.advance(timedelta(hours=1))
    with pytest.raises(AuthenticationFailed, match="expired") as caught:
        await keys.authenticate(issued.secret)
    assert caught.value.code == EXPIRED_KEY.code


async def test_a_key_is_never_recorded(office: Office) -> None:
    issued = await office.services.keys.create(ADMIN, owner=None, role="member", expires_at=None)

    assert issued.key.owner == ADMIN.owner
    (event,) = await office.events()
    assert (event.kind, event.data) == ("key.created", {"key": issued.key.id})
    assert issued.secret not in repr(event)
    assert issued.secret not in repr(await office.store.keys())
    assert issued.secret not in repr(redact(None, "info", {"event": f"sent {issued.secret}"}))


@pytest.mark.parametrize("who", [MEMBER, INFERENCE])
async def test_only_admins_issue_keys(office: Office, who: Principal) -> None:
    with pytest.raises(PermissionDenied, match="permission"):
        await office.services.keys.create(who, owner=None, role="member", expires_at=None)
    assert len(await office.store.keys()) == 3


async def test_lists_show_the_keys_of_ones_own_owner(office: Office) -> None:
    keys = office.services.keys

    assert [key.id for key in await keys.list(ADMIN)] == ["key-00000001", "key-00000002", "key-00000003"]
    assert [key.id for key in await keys.list(MEMBER)] == ["key-00000002"]
    with pytest.raises(PermissionDenied):
        await keys.list(INFERENCE)


async def test_a_revoked_key_is_refused(office: Office) -> None:
    keys = office.services.keys

    revoked = await keys.revoke(ADMIN, MEMBER.key_id)

    assert revoked.revoked_at == office.clock.now()
    assert office.route_wakes == 1
    assert (await office.events())[-1].kind == "key.revoked"
    with pytest.raises(AuthenticationFailed) as caught:
        await keys.authenticate(secret_of(2))
    assert caught.value.code == UNKNOWN_KEY.code
    assert await keys.revoke(ADMIN, MEMBER.key_id) == revoked, "again is a no-op"


async def test_a_foreign_key_reads_like_none(office: Office) -> None:
    with pytest.raises(NotFound):
        await office.services.keys.revoke(MEMBER, ADMIN.key_id)


async def test_a_member_revokes_only_the_key_it_asks_with(office: Office) -> None:
    keys = office.services.keys
    own_admin = await keys.create(ADMIN, owner=MEMBER.owner, role="admin", expires_at=None)
    sibling = await keys.create(ADMIN, owner=MEMBER.owner, role="member", expires_at=None)
    for other in (own_admin, sibling):
        with pytest.raises(PermissionDenied, match="permission"):
            await keys.revoke(MEMBER, other.key.id)
        assert await keys.authenticate(other.secret)

    assert (await keys.revoke(MEMBER, MEMBER.key_id)).revoked_at is not None


async def test_revoking_both_admin_keys_at_once_leaves_one(office: Office) -> None:
    keys = office.services.keys
    other = await keys.create(ADMIN, owner=None, role="admin", expires_at=None)

    results = await asyncio.gather(
        keys.revoke(ADMIN, ADMIN.key_id), keys.revoke(ADMIN, other.key.id), return_exceptions=True
    )

    assert sum(isinstance(result, BadRequest) for result in results) == 1
    assert sum(key.role is Role.ADMIN and key.revoked_at is None for key in await office.store.keys()) == 1


@pytest.mark.parametrize("year", [1, 2024, 9999])
async def test_an_expiry_outside_of_time_names_the_field(office: Office, year: int) -> None:
    west = timezone(timedelta(hours=-14))
    at = datetime(year, 12, 31, 23, 59, 59, tzinfo=west)

    with pytest.raises(BadRequest, match="expires_at") as raised:
        await office.services.keys.create(ADMIN, owner=None, role="member", expires_at=at)

    assert raised.value.param == "expires_at"


async def test_the_last_admin_key_stays(office: Office) -> None:
    keys = office.services.keys
    with pytest.raises(BadRequest, match="last admin key"):
        await keys.revoke(ADMIN, ADMIN.key_id)

    await keys.create(ADMIN, owner=None, role="admin", expires_at=None)

    assert (await keys.revoke(ADMIN, ADMIN.key_id)).revoked_at is not None
