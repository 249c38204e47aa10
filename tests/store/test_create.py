"""create, and the limit of sessions per user."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import IdempotencyKeyReused, SessionLimitReached
from app.model import MINUTE, Rules
from app.store.base import Once, SessionStore
from app.store.record import fields_of, session_of
from tests.builders import a_rotation, a_session, a_tenant
from tests.store.conftest import Announced

DIGEST = b"d" * 16


async def test_a_session_comes_back_as_it_was_given(store: SessionStore, tenant: str, now: int) -> None:
    given = a_session(
        tenant,
        now,
        user="user!{}:~" * 14,
        user_agent="Mozilla/5.0 " * 42,
        ip_address="2001:db8::1",
        country="DE",
        device_type="desktop",
        org_id="org_1",
        role="admin",
        mfa_verified=True,
        claims={"ü": ["x" * 500, 1, None, True]},
        metadata={"long": "é" * 900},
    )
    await store.create(given, DIGEST, Rules(), now)
    assert await store.get(tenant, given.id, Rules(), now, given.user_id) == given
    assert await store.get(tenant, given.id, Rules(), now) == given


def test_a_watch_that_an_earlier_version_stored_is_a_wearable() -> None:
    given = a_session("tnt_1", 1_800_000_000_000, device_type="watch")
    flat = [item if isinstance(item, bytes) else str(item).encode() for item in fields_of(given, DIGEST)]
    assert session_of(given.id, flat, None, None).device_type == "wearable"


async def test_a_repeat_of_the_same_create_changes_nothing(store: SessionStore, tenant: str, now: int) -> None:
    session = a_session(tenant, now)
    await store.create(session, DIGEST, Rules(limit=1), now)
    await store.rotate(a_rotation(session, DIGEST, 0, b"t1", b"branch"), Rules(), now)
    assert (await store.create(session, DIGEST, Rules(limit=1), now)).evicted == []
    found = await store.get(tenant, session.id, Rules(), now)
    assert found is not None and (found.generation, found.status) == (1, "active")
    assert await store.count_tenant(tenant) == 1


async def test_the_least_recently_active_is_evicted_first(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    sessions = [a_session(tenant, now + step) for step in range(6)]
    evicted = []
    for session in sessions:
        created = await store.create(session, DIGEST, Rules(limit=4), session.created_at)
        evicted += created.evicted
    assert evicted == [sessions[0].id, sessions[1].id]
    assert await announced.ends() == sorted((sid, "evicted") for sid in evicted)
    gone = await store.get(tenant, sessions[0].id, Rules(), now + 10)
    assert gone is not None and (gone.end_reason, gone.ended_at) == ("evicted", now + 4)


async def test_reject_refuses_and_ends_no_one(store: SessionStore, tenant: str, now: int, announced: Announced) -> None:
    await store.create(a_session(tenant, now), DIGEST, Rules(), now)
    with pytest.raises(SessionLimitReached, match="A user may have 1 session at a time"):
        await store.create(a_session(tenant, now), DIGEST, Rules(limit=1, reject=True), now)
    assert await announced.ends() == []
    assert await store.count_tenant(tenant) == 1


async def test_sessions_that_time_has_ended_do_not_count_and_no_one_is_evicted_for_them(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    short = a_session(tenant, now + 5, life=MINUTE)
    long = a_session(tenant, now)
    for session in (short, long):
        await store.create(session, DIGEST, Rules(), session.created_at)
    later = now + 2 * MINUTE
    created = await store.create(a_session(tenant, later), DIGEST, Rules(limit=2), later)
    assert created.evicted == []
    assert await announced.ends() == [(short.id, "expired")]
    alive = await store.get(tenant, long.id, Rules(), later)
    assert alive is not None and alive.status == "active"


async def test_a_sign_in_after_a_cut_off_lives_though_its_clock_is_behind(
    store: SessionStore, tenant: str, now: int
) -> None:
    await store.cut_off(tenant, now + 1_000)
    created = await store.create(a_session(tenant, now), DIGEST, Rules(), now)
    found = await store.get(tenant, created.session.id, Rules(), now)
    assert found is not None and found.status == "active"
    assert found.created_at == now + 1_001


async def test_users_and_tenants_do_not_count_for_each_other(store: SessionStore, tenant: str, now: int) -> None:
    other = a_tenant()
    for session in (a_session(tenant, now), a_session(tenant, now, user="u2"), a_session(other, now)):
        assert (await store.create(session, DIGEST, Rules(limit=1), now)).evicted == []
    assert (await store.count_tenant(tenant), await store.count_tenant(other)) == (2, 1)


async def test_a_session_of_thirty_days_lives_to_the_last_millisecond(
    store: SessionStore, tenant: str, now: int
) -> None:
    session = a_session(tenant, now)
    await store.create(session, DIGEST, Rules(), now)
    last = await store.get(tenant, session.id, Rules(), session.expires_at - 1)
    over = await store.get(tenant, session.id, Rules(), session.expires_at)
    assert last is not None and last.status == "active"
    assert over is not None and (over.status, over.ended_at) == ("expired", session.expires_at)


async def test_a_repeat_is_known_by_the_fingerprint_of_an_earlier_version(
    store: SessionStore, tenant: str, now: int
) -> None:
    session = a_session(tenant, now)
    await store.create(session, DIGEST, Rules(), now, Once("key", "as stored by the version before"))
    repeated = Once("key", "new form", "as stored by the version before")
    again = await store.create(a_session(tenant, now + 1), DIGEST, Rules(), now + 1, repeated)
    assert again.session.id == session.id


async def test_a_repeat_of_an_unanswered_call_says_that_its_session_has_ended(
    store: SessionStore, tenant: str, now: int
) -> None:
    session = a_session(tenant, now)
    await store.create(session, DIGEST, Rules(), now)
    assert await store.revoke(tenant, session.id, "signed_out", Rules(), now)
    assert (await store.create(session, DIGEST, Rules(), now)).session.end_reason == "signed_out"


async def test_a_repeated_call_makes_one_session(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    rules, once = Rules(limit=1), Once("key", "asked")
    oldest = a_session(tenant, now)
    await store.create(oldest, DIGEST, rules, now)
    made = await store.create(a_session(tenant, now + 1), DIGEST, rules, now + 1, once)
    again = await store.create(a_session(tenant, now + 2), DIGEST, rules, now + 2, once)
    assert again == made and made.evicted == [oldest.id]
    assert await announced.ends() == [(oldest.id, "evicted")]
    with pytest.raises(IdempotencyKeyReused):
        await store.create(a_session(tenant, now + 3), DIGEST, rules, now + 3, Once("key", "asked otherwise"))
    other = await store.create(a_session(a_tenant(), now + 3), DIGEST, rules, now + 3, once)
    assert other.session.id != made.session.id
    await store.revoke(tenant, made.session.id, "signed_out", rules, now + 4)
    ended = await store.create(a_session(tenant, now + 5), DIGEST, rules, now + 5, once)
    assert (ended.session.id, ended.session.end_reason) == (made.session.id, "signed_out")


async def test_of_many_repeated_calls_at_once_one_makes_the_session(store: SessionStore, tenant: str, now: int) -> None:
    once = Once("key", "asked")
    made = await asyncio.gather(
        *(store.create(a_session(tenant, now + step), DIGEST, Rules(), now + step, once) for step in range(50))
    )
    assert len({one.session.id for one in made}) == 1
    assert await store.count_tenant(tenant) == 1
