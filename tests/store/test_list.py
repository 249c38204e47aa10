"""Pages of sessions: whole, in order, without holes or repeats, and truthful about what has ended."""

from __future__ import annotations

import asyncio

import pytest

from app.embedded import Embedded
from app.model import MINUTE, Rules, shard_of
from app.store.base import SessionStore
from app.store.redis import RedisSessionStore
from app.store.wire import open_wire
from tests.builders import a_session

DIGEST = b"d" * 16
EVERY = frozenset({"active", "revoked", "expired"})
ACTIVE = frozenset({"active"})


async def test_pages_of_a_user_and_of_a_tenant(store: SessionStore, tenant: str, now: int) -> None:
    sessions = [a_session(tenant, now + step // 3, user=f"u{step % 2}") for step in range(23)]
    for session in sessions:
        await store.create(session, DIGEST, Rules(), session.created_at)
    for number in range(0, 23, 4):
        await store.revoke(tenant, sessions[number].id, "revoked", Rules(), now + 100)

    async def walk(user: str | None, statuses: frozenset[str]) -> list[str]:
        return await _walk(store, tenant, user, statuses, 3, now + 200)

    active = [s for number, s in enumerate(sessions) if number % 4]
    newest = sorted((s.id for s in sessions), reverse=True)
    assert await walk(None, EVERY) == newest
    assert await walk(None, ACTIVE) == sorted((s.id for s in active), reverse=True)
    assert await walk("u1", EVERY) == sorted((s.id for s in sessions if s.user_id == "u1"), reverse=True)
    assert await walk("u0", ACTIVE) == sorted((s.id for s in active if s.user_id == "u0"), reverse=True)


async def test_what_time_has_ended_is_listed_as_ended_without_a_sweep(
    store: SessionStore, tenant: str, now: int
) -> None:
    short, long = a_session(tenant, now, life=MINUTE), a_session(tenant, now)
    for session in (short, long):
        await store.create(session, DIGEST, Rules(), now)
    at = now + MINUTE
    for listed, statuses in ((long, ACTIVE), (short, frozenset({"expired"}))):
        mine = await store.list_user(tenant, "u1", statuses, 10, None, Rules(), at)
        everyone = await store.list_tenant(tenant, statuses, 10, None, Rules(), at)
        assert [s.id for s in mine.sessions] == [s.id for s in everyone.sessions] == [listed.id]


async def test_no_session_is_passed_over_among_those_of_one_millisecond(
    store: SessionStore, tenant: str, now: int
) -> None:
    """There the tenant's index is in the order of devices and countries."""
    devices = ("desktop", "mobile", "tablet", "tv", "wearable", "bot")
    sessions = [a_session(tenant, now, device_type=devices[n % 6], country=("US", "DE")[n % 2]) for n in range(12)]
    for session in sessions:
        await store.create(session, DIGEST, Rules(), now)
    for session in sessions[::3]:
        await store.revoke(tenant, session.id, "revoked", Rules(), now + 1)
    newest = sorted((session.id for session in sessions), reverse=True)
    for user in (None, "u1"):
        assert await _walk(store, tenant, user, EVERY, 2, now + 2) == newest
        living = [sid for sid in newest if sid not in {session.id for session in sessions[::3]}]
        assert await _walk(store, tenant, user, ACTIVE, 2, now + 2) == living


@pytest.mark.parametrize("newer", [-1_000, 1_000])
async def test_pages_of_a_user_with_many_sessions(store: SessionStore, tenant: str, now: int, newer: int) -> None:
    """Among the sessions of others in the same shard, older or newer ones."""
    home = shard_of(tenant, "u1")
    other = next(f"v{number}" for number in range(100_000) if shard_of(tenant, f"v{number}") == home)
    mine = [a_session(tenant, now + number // 2) for number in range(160)]
    others = [a_session(tenant, now + newer + number, other) for number in range(200)]
    await asyncio.gather(*(store.create(s, DIGEST, Rules(), s.created_at) for s in (*mine, *others)))
    for session in mine[::40]:
        await store.revoke(tenant, session.id, "revoked", Rules(), now + 2_000)
    newest = sorted((session.id for session in mine), reverse=True)
    ended = {session.id for session in mine[::40]}
    assert await _walk(store, tenant, "u1", EVERY, 50, now + 3_000) == newest
    assert await _walk(store, tenant, "u1", ACTIVE, 50, now + 3_000) == [sid for sid in newest if sid not in ended]


async def test_a_page_reads_no_more_sessions_than_it_holds_though_a_millisecond_holds_more(
    own_server: Embedded, tenant: str, now: int
) -> None:
    wire = await open_wire(own_server.url, 10_000)
    store = RedisSessionStore(wire)
    sessions = [a_session(tenant, now) for _ in range(400)]
    await asyncio.gather(*(store.create(one, DIGEST, Rules(), now) for one in sessions))
    await wire.each("CONFIG", "RESETSTAT")
    page = await store.list_user(tenant, "u1", ACTIVE, 20, None, Rules(), now)
    assert [one.id for one in page.sessions] == sorted((one.id for one in sessions), reverse=True)[:20] and page.more
    (info,) = await wire.each("INFO", "commandstats")
    assert b"cmdstat_hgetall:calls=21," in info
    await wire.close()


async def test_a_walk_over_a_tenant_passes_over_nobody(store: SessionStore, tenant: str, now: int) -> None:
    """As the worker's after a change of policy: more sessions in a millisecond than it takes at once, and fewer."""
    shard = shard_of(tenant, "u1")
    kinds = [("desktop", "US"), ("mobile", "DE"), ("bot", None)]
    sessions = [
        a_session(tenant, now + max(0, n - 30) // 3, device_type=device, country=country)
        for n in range(60)
        for device, country in kinds
    ]
    await asyncio.gather(*(store.create(s, DIGEST, Rules(), s.created_at) for s in sessions))
    for limit in (4, 7, 100):
        walked, after = list[str](), ""
        while members := await store.tenant_members(tenant, shard, after, limit):
            walked += [member.session_id for member in members]
            after = walked[-1]
        assert walked == sorted(session.id for session in sessions)


async def _walk(
    store: SessionStore, tenant: str, user: str | None, statuses: frozenset[str], limit: int, now: int
) -> list[str]:
    """The ids of all pages."""
    before, seen = None, list[str]()
    while True:
        if user is None:
            page = await store.list_tenant(tenant, statuses, limit, before, Rules(), now)
        else:
            page = await store.list_user(tenant, user, statuses, limit, before, Rules(), now)
        seen += [session.id for session in page.sessions]
        before = page.next_before
        if not page.more:
            return seen
