"""What the server itself forgets, and when: every key of a session and of a user is bounded."""

from __future__ import annotations

import pytest

from app.model import DAY, MINUTE, Rules, shard_in
from app.store import keyspace
from app.store.base import Due
from app.store.redis import RedisSessionStore
from app.store.wire import Wire
from tests.builders import a_session

DIGEST = b"d" * 16
KEPT = 7 * DAY

on_servers = pytest.mark.parametrize("wire", ["fakeredis", "valkey", "cluster"], indirect=True)


async def left(wire: Wire, key: str) -> int:
    """How long the server keeps a key, ms; -1 for ever, -2 not at all."""
    return int(await wire.call(key, "PTTL", key))


@on_servers
async def test_a_record_and_its_user_outlive_the_longest_session_by_a_week(
    store: RedisSessionStore, wire: Wire, tenant: str, now: int
) -> None:
    long, short = a_session(tenant, now), a_session(tenant, now, life=MINUTE)
    for session in (long, short):
        await store.create(session, DIGEST, Rules(), now)
    shard = shard_in(long.id)
    for key, life in (
        (keyspace.session(shard, long.id), 30 * DAY),
        (keyspace.session(shard, short.id), MINUTE),
        (keyspace.user(shard, tenant, "u1"), 30 * DAY),
    ):
        assert life + KEPT - MINUTE < await left(wire, key) <= life + KEPT


@on_servers
async def test_tombstones_go_a_week_after_their_retention(
    store: RedisSessionStore, wire: Wire, tenant: str, now: int
) -> None:
    session = a_session(tenant, now)
    await store.create(session, DIGEST, Rules(), now)
    await store.revoke(tenant, session.id, "revoked", Rules(), now)
    ended = keyspace.ended(shard_in(session.id), tenant, "u1")
    assert DAY + KEPT - MINUTE < await left(wire, ended) <= DAY + KEPT
    assert await left(wire, keyspace.user(shard_in(session.id), tenant, "u1")) == -2


@on_servers
async def test_a_cut_off_is_forgotten_once_what_it_ended_is_recorded(
    store: RedisSessionStore, wire: Wire, tenant: str, now: int
) -> None:
    session = a_session(tenant, now)
    shard = shard_in(session.id)
    await store.create(session, DIGEST, Rules(), now)
    await store.cut_off(tenant, now)
    assert not await store.uncut(tenant, shard, now + 2 * MINUTE)
    dead = await store.get(tenant, session.id, Rules(), now + 2 * MINUTE)
    assert dead is not None and dead.end_reason == "tenant_revoked"
    await store.sweep([Due(session.id, tenant, "u1")], {tenant: Rules()}, now + 1)
    assert not await store.uncut(tenant, shard, now + MINUTE - 1)
    assert await store.uncut(tenant, shard, now + MINUTE)
    cutoff = keyspace.cutoff(shard)
    assert await wire.call(cutoff, "HGET", cutoff, tenant) is None
