"""revoke, revoke_user, evict, cut_off, sweep: the ways a session ends, each once."""

from __future__ import annotations

import pytest

from app.model import DAY, MINUTE, Rules
from app.store.base import Due, SessionStore, Touch
from app.store.redis import RedisSessionStore
from tests.builders import a_rotation, a_session, a_tenant, all_due
from tests.store.conftest import Announced

DIGEST = b"d" * 16


async def test_the_first_reason_stays(store: SessionStore, tenant: str, now: int, announced: Announced) -> None:
    session = a_session(tenant, now)
    await store.create(session, DIGEST, Rules(), now)
    assert await store.revoke(tenant, session.id, "signed_out", Rules(), now + 1)
    assert not await store.revoke(tenant, session.id, "admin", Rules(), now + 2)
    assert await store.revoke_user(tenant, "u1", None, "user_revoked", Rules(), now + 3) == []
    found = await store.get(tenant, session.id, Rules(), now + 40 * DAY)
    assert found is not None and (found.end_reason, found.ended_at) == ("signed_out", now + 1)
    assert await announced.ends() == [(session.id, "signed_out")]


async def test_a_late_revoke_records_what_time_had_done(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    session = a_session(tenant, now, life=MINUTE)
    await store.create(session, DIGEST, Rules(), now)
    assert not await store.revoke(tenant, session.id, "signed_out", Rules(), now + 2 * MINUTE)
    assert await announced.ends() == [(session.id, "expired")]


async def test_all_but_one(store: SessionStore, tenant: str, now: int, announced: Announced) -> None:
    sessions = [a_session(tenant, now + step) for step in range(5)]
    stranger = a_session(tenant, now, user="u2")
    for session in (*sessions, stranger):
        await store.create(session, DIGEST, Rules(), session.created_at)
    ended = await store.revoke_user(tenant, "u1", sessions[2].id, "user_revoked", Rules(), now + 10)
    assert sorted(ended) == sorted(s.id for s in sessions if s is not sessions[2])
    assert await store.count_tenant(tenant) == 2
    assert len(await announced.ends()) == 4


async def test_another_tenant_can_end_nothing(store: SessionStore, tenant: str, now: int, announced: Announced) -> None:
    session, other = a_session(tenant, now), a_tenant()
    await store.create(session, DIGEST, Rules(), now)
    assert await store.get(other, session.id, Rules(), now) is None
    assert await store.get(other, session.id, Rules(), now, "u1") is None
    assert not await store.revoke(other, session.id, "admin", Rules(), now)
    assert await store.update(other, session.id, {"role": "x"}, Rules(), now) is None
    assert await store.revoke_user(other, "u1", None, "admin", Rules(), now) == []
    assert await store.touch([Touch(session.id, other, "u1", now + 5)], {other: Rules()}, now + 5) == []
    await store.cut_off(other, now + 5)
    assert await store.get(tenant, session.id, Rules(), now + 5) == session
    assert await announced.ends() == []


async def test_a_cut_off_is_dead_at_once_and_recorded_by_the_sweep(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    before, after = a_session(tenant, now), a_session(tenant, now + 2)
    await store.create(before, DIGEST, Rules(), now)
    assert await store.cut_off(tenant, now + 1) == 1
    await store.create(after, DIGEST, Rules(), now + 2)
    dead = await store.get(tenant, before.id, Rules(), now + 3)
    assert dead is not None and (dead.end_reason, dead.ended_at) == ("tenant_revoked", now + 1)
    members = [due for shard in range(1_024) for due in await store.tenant_members(tenant, shard, "", 10)]
    assert await store.sweep(members, {tenant: Rules()}, now + 4) == 1
    assert await announced.ends() == [(before.id, "tenant_revoked")]
    assert await store.get(tenant, after.id, Rules(), now + 4) == after


async def test_the_sweep_ends_the_due_rescores_the_living_and_buries_the_old(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    rules = {tenant: Rules(idle=MINUTE)}
    silent, active = a_session(tenant, now, user="silent"), a_session(tenant, now, user="active")
    for session in (silent, active):
        await store.create(session, DIGEST, rules[tenant], now)
    await store.touch([Touch(active.id, tenant, "active", now + 30_000)], rules, now + 30_000)

    async def pass_at(at: int) -> int:
        due = [item for item in await all_due(store, at) if item.tenant_id == tenant]
        return await store.sweep(due, rules, at)

    assert await pass_at(now + MINUTE - 1) == 0
    assert await pass_at(now + MINUTE) == 1
    assert await pass_at(now + MINUTE) == 0
    assert await pass_at(now + 90_000) == 1
    assert await announced.ends() == sorted([(silent.id, "idle_timeout"), (active.id, "idle_timeout")])
    assert await store.get(tenant, silent.id, rules[tenant], now + MINUTE + DAY) is not None
    await pass_at(now + 90_000 + DAY)
    assert await store.get(tenant, silent.id, rules[tenant], now + 90_000 + DAY) is None
    assert [item for item in await all_due(store, now + 400 * DAY) if item.tenant_id == tenant] == []


async def test_a_session_that_one_sweep_names_twice_ends_once(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    session = a_session(tenant, now, life=MINUTE)
    await store.create(session, DIGEST, Rules(), now)
    twice = [Due(session.id, tenant, "u1")] * 2
    assert await store.sweep(twice, {tenant: Rules()}, now + MINUTE) == 1
    assert await announced.ends() == [(session.id, "expired")]


async def test_no_one_is_trimmed_for_a_session_that_time_has_ended(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    long, short = a_session(tenant, now), a_session(tenant, now + 5, life=MINUTE)
    for session in (long, short):
        await store.create(session, DIGEST, Rules(), session.created_at)
    assert await store.evict(tenant, "u1", Rules(limit=1), now + 2 * MINUTE) == []
    assert await announced.ends() == [(short.id, "expired")]


async def test_a_second_cut_off_on_a_slower_clock_takes_nothing_back(
    store: SessionStore, tenant: str, now: int
) -> None:
    session = a_session(tenant, now)
    await store.create(session, DIGEST, Rules(), now)
    await store.cut_off(tenant, now + 1_000)
    await store.cut_off(tenant, now - 1_000)
    dead = await store.get(tenant, session.id, Rules(), now + 2_000)
    assert dead is not None and dead.end_reason == "tenant_revoked"


async def test_a_cut_off_ends_who_signed_in_on_a_clock_that_is_ahead(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    """And whoever signs in after it lives, in every shard, also for those who go by the event alone."""
    for number in range(5):
        await store.create(a_session(tenant, now + 4_000, user=f"ahead{number}"), DIGEST, Rules(), now + 4_000)
    assert await store.cut_off(tenant, now) == 5
    new = await store.create(a_session(tenant, now, user="new"), DIGEST, Rules(), now)
    assert new.session.created_at > now + 4_000
    alive = (await store.list_tenant(tenant, frozenset({"active"}), 10, None, Rules(), now + 5_000)).sessions
    assert [session.id for session in alive] == [new.session.id]
    assert await announced.cut_offs() == ([now + 4_000] if isinstance(store, RedisSessionStore) else [])


async def test_a_cut_off_that_is_carried_out_again_ends_no_one_who_came_later(
    store: SessionStore, tenant: str, now: int
) -> None:
    for at in (now, now + 5):
        await store.create(a_session(tenant, at, user=f"u{at}"), DIGEST, Rules(), at)
    assert await store.restore_cut_off(tenant, now) == 1
    assert await store.count_tenant(tenant) == 2
    assert len((await store.list_tenant(tenant, frozenset({"active"}), 10, None, Rules(), now + 9)).sessions) == 1


async def test_a_sweep_leaves_a_tombstone_until_its_time(store: SessionStore, tenant: str, now: int) -> None:
    session = a_session(tenant, now)
    await store.create(session, DIGEST, Rules(), now)
    await store.revoke(tenant, session.id, "signed_out", Rules(), now)
    swept = Due(session.id, tenant, session.user_id)
    assert await store.sweep([swept], {tenant: Rules()}, now + DAY - 1) == 0
    found = await store.get(tenant, session.id, Rules(), now + DAY - 1)
    assert found is not None and found.end_reason == "signed_out"
    await store.sweep([swept], {tenant: Rules()}, now + DAY)
    assert await store.get(tenant, session.id, Rules(), now + DAY) is None


async def test_a_touch_wakes_no_one_and_never_turns_back(store: SessionStore, tenant: str, now: int) -> None:
    session, rules = a_session(tenant, now), {tenant: Rules(idle=MINUTE)}
    await store.create(session, DIGEST, rules[tenant], now)
    touch = [Touch(session.id, tenant, "u1", now + 20_000)]
    assert await store.touch(touch, rules, now + 20_000) == [session.id]
    assert await store.touch([Touch(session.id, tenant, "u1", now + 10_000)], rules, now + 21_000) == [session.id]
    found = await store.get(tenant, session.id, rules[tenant], now + 22_000)
    assert found is not None and found.last_active_at == now + 20_000
    assert await store.touch([Touch(session.id, tenant, "u1", now + 80_000)], rules, now + 80_000) == []


async def test_a_longer_idle_timeout_does_not_wake_who_had_timed_out(
    store: SessionStore, tenant: str, now: int
) -> None:
    session = a_session(tenant, now)
    await store.create(session, DIGEST, Rules(idle=MINUTE), now)
    grown = Rules(idle=DAY, idle_cut=now, idle_cut_at=now + MINUTE)
    found = await store.get(tenant, session.id, grown, now + 2 * MINUTE)
    assert found is not None and (found.end_reason, found.ended_at) == ("idle_timeout", now + MINUTE)


async def test_a_change_is_kept_cleared_and_refused_after_the_end(store: SessionStore, tenant: str, now: int) -> None:
    session = a_session(tenant, now, role="member", claims={"long": "x" * 300}, org_id="org_1")
    await store.create(session, DIGEST, Rules(), now)
    changes = {"role": "owner", "claims": {"short": 1}, "org_id": None, "metadata": {"m": "y" * 200}}
    changed = await store.update(tenant, session.id, changes, Rules(), now)
    assert changed is not None and await store.get(tenant, session.id, Rules(), now) == changed
    assert (changed.role, changed.claims, changed.org_id) == ("owner", {"short": 1}, None)
    await store.revoke(tenant, session.id, "revoked", Rules(), now)
    ended = await store.update(tenant, session.id, {"role": "x"}, Rules(), now)
    assert ended is not None and (ended.role, ended.end_reason) == ("owner", "revoked")


async def test_a_change_for_a_user_reaches_the_living_and_no_one_else(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    living = [a_session(tenant, now + step) for step in range(3)]
    ended, stranger = a_session(tenant, now + 3), a_session(tenant, now, user="u2")
    for session in (*living, ended, stranger):
        await store.create(session, DIGEST, Rules(), session.created_at)
    await store.revoke(tenant, ended.id, "revoked", Rules(), now + 4)
    changed = await store.update_user(tenant, "u1", {"role": "owner"}, Rules(), now + 5)
    assert sorted(changed) == sorted(session.id for session in living)
    for session, role in ((living[0], "owner"), (living[2], "owner"), (ended, None), (stranger, None)):
        found = await store.get(tenant, session.id, Rules(), now + 6)
        assert found is not None and found.role == role
    assert await store.update_user(tenant, "nobody", {"role": "owner"}, Rules(), now + 5) == []
    assert await store.update_user(a_tenant(), "u1", {"role": "thief"}, Rules(), now + 5) == []
    assert await announced.ends() == [(ended.id, "revoked")]


@pytest.mark.parametrize(
    ("presented", "generation", "reason"),
    [
        (b"t1", 1, "signed_out"),  # the current one
        (b"t0", 0, "signed_out"),  # its parent: the reply to the last refresh may have been lost
        (b"t5", 5, "signed_out"),  # newer than the store, which has lost writes
        (b"xx", 1, "refresh_token_reused"),  # replaced by a late retry
        (b"xx", 0, "refresh_token_reused"),  # spent
    ],
)
async def test_a_refresh_token_ends_its_session(
    store: SessionStore,
    tenant: str,
    now: int,
    announced: Announced,
    presented: bytes,
    generation: int,
    reason: str,
) -> None:
    session = a_session(tenant, now)
    await store.create(session, b"t0".ljust(16), Rules(), now)
    await store.rotate(a_rotation(session, b"t0", 0, b"t1", b"b"), Rules(), now)
    token = a_rotation(session, presented, generation, b"", b"")
    assert await store.sign_out(token, Rules(), now + 1)
    assert not await store.sign_out(token, Rules(), now + 2)
    assert await announced.ends() == [(session.id, reason)]
    assert not await store.sign_out(a_rotation(a_session(tenant, now), b"t0", 0, b"", b""), Rules(), now)
