"""What is counted of sessions, and what is kept of who ended them: the same in every store, whichever way they end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.census import kind_of
from app.model import DAY, MINUTE, Rules, Session
from app.store import counting
from app.store.base import Due, SessionStore
from app.store.redis import RedisSessionStore
from app.store.wire import open_wire
from tests.builders import a_rotation, a_session

DIGEST = b"t0".ljust(16)
AT_HOME: dict[str, Any] = {"device_type": "desktop", "country": "DE"}
ON_THE_ROAD: dict[str, Any] = {"device_type": "mobile", "country": "FR"}
End = Callable[[SessionStore, Session, int], Awaitable[object]]


def due(session: Session) -> Due:
    return Due(session.id, session.tenant_id, session.user_id)


async def cut_and_swept(store: SessionStore, session: Session, now: int) -> None:
    await store.cut_off(session.tenant_id, now, "admin")
    await store.sweep([due(session)], {session.tenant_id: Rules()}, now)


async def pushed_out(store: SessionStore, session: Session, now: int) -> None:
    newer = a_session(session.tenant_id, now, user=session.user_id)
    await store.create(newer, DIGEST, Rules(limit=1), now, None, "key:k1")
    await store.revoke(session.tenant_id, newer.id, "revoked", Rules(), now)


ENDS: dict[str, tuple[End, str, int | None]] = {
    # reason: how it comes to it, by whom it is told to be, the limit
    "revoked": (lambda s, one, now: s.revoke(one.tenant_id, one.id, "revoked", Rules(), now, "key:k1"), "key:k1", None),
    "signed_out": (
        lambda s, one, now: s.revoke(one.tenant_id, one.id, "signed_out", Rules(), now, "user"),
        "user",
        None,
    ),
    "user_revoked": (
        lambda s, one, now: s.revoke_user(one.tenant_id, one.user_id, None, "user_revoked", Rules(), now, "admin"),
        "admin",
        None,
    ),
    "evicted": (pushed_out, "key:k1", 1),
    "refresh_token_reused": (
        lambda s, one, now: s.rotate(a_rotation(one, b"stolen", 0, b"t1", b"b"), Rules(), now),
        "",
        None,
    ),
    "idle_timeout": (lambda s, one, now: s.sweep([due(one)], {one.tenant_id: Rules(idle=1)}, now), "", None),
    "expired": (lambda s, one, now: s.sweep([due(one)], {}, now + 31 * DAY), "", None),
    "tenant_revoked": (cut_and_swept, "admin", None),
}


async def counted(store: SessionStore, tenant: str) -> Counter[tuple[str, int]]:
    """What happened to whom since the last time, of one tenant."""
    found: Counter[tuple[str, int]] = Counter()
    for count in await store.collect():
        if count.tenant_id == tenant:
            found[count.what, count.kind] += count.number
    return found


@pytest.mark.parametrize("reason", ENDS)
async def test_an_end_counts_down_what_the_creation_counted_up(
    store: SessionStore, tenant: str, now: int, reason: str
) -> None:
    end, by, limit = ENDS[reason]
    session = a_session(tenant, now, **AT_HOME)
    other = a_session(tenant, now + 20, user="u2", **ON_THE_ROAD)
    await store.create(session, DIGEST, Rules(), now)
    home, road = kind_of("desktop", "DE"), kind_of("mobile", "FR")
    assert await counted(store, tenant) == {("created", home): 1}
    await end(store, session, now + 10)
    await store.create(other, DIGEST, Rules(), now + 20)
    after = await counted(store, tenant)
    assert after[reason, home] == 1
    assert after["created", road] == 1
    assert (await store.recount()).living.get(tenant) == {road: 1}
    history = await store.history(tenant, session.id, Rules(), now + 20)
    assert history is not None
    assert (history.session.end_reason, history.ended_by, history.limit) == (reason, by, limit)


async def test_nothing_is_counted_twice(store: SessionStore, tenant: str, now: int) -> None:
    session = a_session(tenant, now)
    for _ in range(2):
        await store.create(session, DIGEST, Rules(), now)
    for _ in range(2):
        await store.revoke(tenant, session.id, "revoked", Rules(), now, "admin")
    kind = kind_of(None, None)
    assert await counted(store, tenant) == {("created", kind): 1, ("revoked", kind): 1}
    assert not await counted(store, tenant)


async def test_a_recount_takes_what_it_contains(store: SessionStore, tenant: str, now: int) -> None:
    sessions = [a_session(tenant, now, user=f"u{number}") for number in range(20)]
    for session in sessions:
        await store.create(session, DIGEST, Rules(), now)
    for session in sessions[:5]:
        await store.revoke(tenant, session.id, "revoked", Rules(), now)
    found = await store.recount()
    assert found.living[tenant] == {kind_of(None, None): 15}
    taken = Counter({count.what: count.number for count in found.taken if count.tenant_id == tenant})
    assert taken == {"created": 20, "revoked": 5}
    assert not await counted(store, tenant)


async def test_a_policy_ends_by_the_worker_and_the_first_end_stays(store: SessionStore, tenant: str, now: int) -> None:
    sessions = [a_session(tenant, now + number) for number in range(3)]
    for session in sessions:
        await store.create(session, DIGEST, Rules(), now)
    assert len(await store.evict(tenant, "u1", Rules(limit=1), now + 5)) == 2
    await store.revoke(tenant, sessions[0].id, "revoked", Rules(), now + 6, "admin")
    history = await store.history(tenant, sessions[0].id, Rules(), now + 7)
    assert history is not None
    assert (history.session.end_reason, history.ended_by, history.limit) == ("evicted", "worker", 1)


async def test_a_cut_off_that_nobody_has_recorded_yet_says_whose_it_is(
    store: SessionStore, tenant: str, now: int
) -> None:
    session = a_session(tenant, now)
    await store.create(session, DIGEST, Rules(), now)
    await store.cut_off(tenant, now + 1, "key:k1")
    await store.cut_off(tenant, now, "")
    history = await store.history(tenant, session.id, Rules(), now + 2)
    assert history is not None
    assert (history.session.end_reason, history.ended_by) == ("tenant_revoked", "key:k1")


async def test_a_life_is_remembered_as_it_was(store: SessionStore, tenant: str, now: int) -> None:
    session = a_session(tenant, now, **AT_HOME)
    await store.create(session, DIGEST, Rules(), now)
    fresh = await store.history(tenant, session.id, Rules(), now)
    assert fresh is not None
    assert (fresh.refreshed_at, fresh.changed_at, fresh.changed_by, fresh.ended_by) == (None, None, "", "")
    await store.rotate(a_rotation(session, b"t0", 0, b"t1", b"b"), Rules(), now + MINUTE)
    await store.update(tenant, session.id, {"role": "owner"}, Rules(), now + 2 * MINUTE, "key:k1")
    await store.update_user(tenant, "u1", {"role": "guest"}, Rules(), now + 3 * MINUTE, "admin")
    lived = await store.history(tenant, session.id, Rules(), now + 3 * MINUTE)
    assert lived is not None
    assert (lived.refreshed_at, lived.session.generation) == (now + MINUTE, 1)
    assert (lived.changed_at, lived.changed_by) == (now + 3 * MINUTE, "admin")
    assert await store.history("tnt_" + "0" * 26, session.id, Rules(), now) is None


async def test_a_sample_of_few_is_all_of_them_with_their_ranks(store: SessionStore, tenant: str, now: int) -> None:
    for number in range(30):
        one = a_session(tenant, now + number, user=f"u{number % 4}")
        await store.create(one, DIGEST, Rules(), now + number)
    ended = a_session(tenant, now, user="u9")
    await store.create(ended, DIGEST, Rules(), now)
    await store.revoke(tenant, ended.id, "revoked", Rules(), now)
    whole = await store.sample(tenant, 30)
    assert whole.active == len({one.session.id for one in whole.seen}) == 30
    assert Counter(one.above for one in whole.seen) == {rank: 4 for rank in range(7)} | {7: 2}
    newest = max(whole.seen, key=lambda one: one.session.last_active_at)
    assert (newest.above, newest.session.user_id) == (0, "u1")
    some = await store.sample(tenant, 10)
    assert (some.active, len({one.session.id for one in some.seen})) == (30, 10)
    ranks = {one.session.id: one.above for one in whole.seen}
    assert all(ranks[one.session.id] == one.above for one in some.seen)


async def test_every_session_is_as_likely_to_be_drawn(store: SessionStore, tenant: str, now: int) -> None:
    """One user has half of all sessions, in one shard; the others are alone in theirs."""
    for number in range(100):
        one = a_session(tenant, now, user="u1" if number % 2 else f"v{number}")
        await store.create(one, DIGEST, Rules(), now)
    drawn: Counter[str] = Counter()
    for _ in range(40):
        drawn.update(one.session.user_id for one in (await store.sample(tenant, 10)).seen)
    assert 140 < drawn["u1"] < 260  # of 400; six standard deviations to each side


async def test_what_is_too_large_for_one_act_is_counted_page_by_page(valkey_url: str, tenant: str, now: int) -> None:
    wire = await open_wire(valkey_url, 2_000)
    store = RedisSessionStore(wire)
    sessions = [
        a_session(tenant, now + number // 3, **(AT_HOME if number % 2 else ON_THE_ROAD)) for number in range(1_500)
    ]
    for first in range(0, len(sessions), 100):
        await asyncio.gather(
            *(store.create(one, DIGEST, Rules(), one.created_at) for one in sessions[first : first + 100])
        )
    for session in sessions[:300]:
        await store.revoke(tenant, session.id, "revoked", Rules(), now + 1_000)
    living = Counter({kind_of("desktop", "DE"): 600, kind_of("mobile", "FR"): 600})
    assert (await counting.recount(wire, 100)).living[tenant] == living
    assert (await counting.recount(wire, 10_000)).living[tenant] == living
    await wire.close()
