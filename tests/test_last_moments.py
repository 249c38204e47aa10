"""What a caller may rely on when a session has ended, in its last second, and at the limit of sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.errors import InvalidToken, RefreshTokenInvalid, SessionEnded, SessionExpired, SessionRevoked
from app.model import DAY, HOUR, MINUTE, SECOND, Session, Tenant, shard_in
from app.runtime import Runtime, now_ms, open_runtime
from app.sessions import Issued, NewSession
from app.store import keyspace
from app.store.wire import open_wire
from tests.test_sessions import settings

TOMBSTONES = 1_000
"""How many ended sessions of one user the store remembers (`TOMBSTONES_PER_USER` in prelude.lua)."""


@pytest.fixture(params=["single", "cluster"])
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[Runtime]:
    name = "valkey_url" if request.param == "single" else "cluster_url"
    async with open_runtime(settings(request.getfixturevalue(name))) as opened:
        yield opened


@pytest.fixture
async def tenant(runtime: Runtime) -> Tenant:
    return await runtime.tenants.create("Acme", now_ms())


async def sign_in(runtime: Runtime, tenant: Tenant, now: int) -> Issued:
    return await runtime.sessions.create(tenant, NewSession(user_id="usr_1"), now)


async def forgotten(runtime: Runtime, tenant: Tenant, now: int) -> Issued:
    """A session that was ended, and whose tombstone has made room for a thousand later ones of its user."""
    issued = await sign_in(runtime, tenant, now)
    await runtime.sessions.revoke(tenant, issued.session.id, "signed_out", now)
    for _ in range(0, TOMBSTONES, 100):
        await asyncio.gather(*(sign_in(runtime, tenant, now + 1) for _ in range(100)))
        await runtime.sessions.revoke_user(tenant, "usr_1", None, "user_revoked", now + 2)
    return issued


async def test_a_session_in_neither_set_is_over_on_every_path(runtime: Runtime, tenant: Tenant) -> None:
    now = now_ms()
    issued = await forgotten(runtime, tenant, now)
    sid, later = issued.session.id, now + MINUTE
    with pytest.raises(SessionEnded):
        await runtime.sessions.update(tenant, sid, {"role": "owner"}, later)
    assert await runtime.sessions.update_user(tenant, "usr_1", {"role": "owner"}, later) == []
    assert issued.refresh_token is not None
    with pytest.raises(SessionRevoked):
        await runtime.sessions.refresh(issued.refresh_token, later)
    with pytest.raises(SessionRevoked):
        await runtime.sessions.authenticate(issued.access_token, later)
    for asked in ({"token": issued.access_token}, {"session_id": sid}):
        found = await runtime.sessions.verify(tenant, later, **asked)
        assert (found.valid, found.code) == (False, "session_revoked")
    assert await runtime.sessions.activity(tenant, [sid], later) == 0
    session = await runtime.sessions.get(tenant, sid, later)
    assert (session.status, session.ended_at) == ("revoked", None)
    assert await runtime.sessions.revoke(tenant, sid, "revoked", later) is False
    assert (await runtime.sessions.history(tenant, sid, later)).session.status == "revoked"
    listed = await runtime.sessions.page(tenant, later, user_id="usr_1", status="active")
    assert listed.sessions == []


async def test_a_repeated_create_makes_no_token_for_a_session_that_has_ended(runtime: Runtime, tenant: Tenant) -> None:
    """A first call whose answer was lost may have begun a session that somebody has ended since."""
    now = now_ms()
    issued = await sign_in(runtime, tenant, now)
    await runtime.sessions.revoke(tenant, issued.session.id, "signed_out", now)
    store = runtime.sessions._store
    again = await store.create(issued.session, bytes(16), tenant.rules, now)
    assert again.session.end_reason == "signed_out"


async def in_milliseconds(url: str, session: Session) -> None:
    """Give a session an expiry as earlier versions stored it."""
    wire = await open_wire(url, 2_000)
    key = keyspace.session(shard_in(session.id), session.id)
    await wire.call(key, "HSET", key, "exp", session.expires_at + 990)
    await wire.close()


@pytest.mark.parametrize("left", [1_000, 1_001, 1_999])
async def test_a_token_that_is_given_out_can_be_used(runtime: Runtime, tenant: Tenant, left: int) -> None:
    issued = await sign_in(runtime, tenant, now_ms())
    assert issued.refresh_token is not None
    now = issued.session.expires_at - left
    refreshed = await runtime.sessions.refresh(issued.refresh_token, now)
    changed = await runtime.sessions.update(tenant, issued.session.id, {"role": "owner"}, now)
    for given in (refreshed, changed):
        assert given.expires_in >= 1
        assert (await runtime.sessions.verify(tenant, now + 999, token=given.access_token)).valid


@pytest.mark.parametrize("left", [999, 500, 1, 0, -1, -500, -999])
async def test_in_the_last_second_no_token_is_given_out(runtime: Runtime, tenant: Tenant, left: int) -> None:
    """Nothing has changed then: what was refused may be asked for again, by a clock that is behind."""
    issued = await sign_in(runtime, tenant, now_ms())
    assert issued.refresh_token is not None and issued.session.expires_at % SECOND == 0
    now = issued.session.expires_at - left
    with pytest.raises(SessionExpired):
        await runtime.sessions.refresh(issued.refresh_token, now)
    if left > 0:
        assert (await runtime.sessions.refresh(issued.refresh_token, now - SECOND)).session.generation == 1
    with pytest.raises(SessionEnded):
        await runtime.sessions.update(tenant, issued.session.id, {"role": "owner"}, now)


async def test_a_session_of_an_earlier_version_ends_when_its_answers_say(valkey_url: str) -> None:
    async with open_runtime(settings(valkey_url)) as runtime:
        tenant = await runtime.tenants.create("Acme", now_ms())
        issued = await sign_in(runtime, tenant, now_ms())
        await in_milliseconds(valkey_url, issued.session)
        shown = issued.session.expires_at
        assert (await runtime.sessions.get(tenant, issued.session.id, now_ms())).expires_at == shown
        assert issued.refresh_token is not None
        with pytest.raises(SessionExpired):
            await runtime.sessions.refresh(issued.refresh_token, shown)
        assert not await runtime.sessions.revoke(tenant, issued.session.id, "signed_out", shown + 100)
        ended = await runtime.sessions.get(tenant, issued.session.id, shown + DAY - 1)
        assert (ended.end_reason, ended.ended_at) == ("expired", shown)


async def limited(runtime: Runtime, tenant: Tenant, limit: int) -> Tenant:
    change = await runtime.tenants.set_policy(tenant.id, {"max_sessions_per_user": limit}, now_ms())
    return change.after


async def test_at_the_limit_the_session_in_use_stays(runtime: Runtime, tenant: Tenant) -> None:
    """Also where the use was seen by another process, and by a local verifier that reported it."""
    tenant, now = await limited(runtime, tenant, 3), now_ms()
    first, second, third = [await sign_in(runtime, tenant, now + i) for i in range(3)]
    async with open_runtime(runtime.settings) as other:
        assert (await other.sessions.verify(tenant, now + 300, token=first.access_token)).valid
        await other.sessions.flush()
        assert await other.sessions.activity(tenant, [second.session.id], now + 400) == 1
    fourth = await sign_in(runtime, tenant, now + 500)
    assert fourth.evicted == [third.session.id]
    assert (await runtime.sessions.verify(tenant, now + 700, token=second.access_token)).valid
    await runtime.sessions.flush()
    assert (await sign_in(runtime, tenant, now + 900)).evicted == [first.session.id]


@pytest.mark.parametrize("policy", [{"max_sessions_per_user": 3}, {"max_sessions_per_user": 1}, {}])
async def test_below_the_limit_a_use_costs_no_write(runtime: Runtime, tenant: Tenant, policy: dict[str, int]) -> None:
    """With a limit of one there is nothing to choose."""
    now = now_ms()
    tenant = (await runtime.tenants.set_policy(tenant.id, {"idle_timeout": "9d", **policy}, now)).after
    issued = await sign_in(runtime, tenant, now)
    assert (await runtime.sessions.verify(tenant, now + 900, token=issued.access_token)).valid
    await runtime.sessions.flush()
    assert (await runtime.sessions.get(tenant, issued.session.id, now + 901)).last_active_at == now


async def test_a_refresh_token_signs_out_also_when_it_has_expired(runtime: Runtime, tenant: Tenant) -> None:
    issued = await sign_in(runtime, tenant, now_ms())
    assert issued.refresh_token is not None
    later = issued.session.expires_at + MINUTE
    for _ in range(2):
        await runtime.sessions.sign_out(issued.refresh_token, later)
    assert (await runtime.sessions.get(tenant, issued.session.id, later)).end_reason == "expired"
    with pytest.raises(RefreshTokenInvalid):
        await runtime.sessions.sign_out("rt_" + issued.refresh_token[3:].swapcase(), later)
    await runtime.tenants.delete(tenant.id, now_ms())
    await runtime.sessions.sign_out(issued.refresh_token, now_ms())


async def test_an_access_token_past_its_exp_still_signs_out(runtime: Runtime, tenant: Tenant) -> None:
    issued, other = [await sign_in(runtime, tenant, now_ms()) for _ in range(2)]
    later = now_ms() + 2 * HOUR
    for _ in range(2):
        await runtime.sessions.sign_out_by_access_token(issued.access_token, later)
    session = await runtime.sessions.get(tenant, issued.session.id, later)
    assert (session.status, session.end_reason) == ("revoked", "signed_out")
    forged = other.access_token[:-10] + "AAAAAAAAAA"
    with pytest.raises(InvalidToken):
        await runtime.sessions.sign_out_by_access_token(forged, later)
    assert (await runtime.sessions.get(tenant, other.session.id, later)).status == "active"
