"""The due index is asked where it can have something to say, and nobody's turn is missed for that."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from app.embedded import Embedded
from app.model import SHARDS, Rules, shard_in
from app.store import keyspace
from app.store.base import Due, SessionStore, Touch
from app.store.due import AHEAD_MS
from app.store.redis import RedisSessionStore
from app.store.wire import Argument, Wire, open_wire
from tests.builders import a_session, all_due

DIGEST = b"d" * 16
IDLE = 5_000
RULES = Rules(idle=IDLE)


async def test_shards_in_which_nothing_is_due_are_left_alone(own_server: Embedded, tenant: str, now: int) -> None:
    wire = await open_wire(own_server.url, 10_000)
    store, session = RedisSessionStore(wire), a_session(tenant, now)
    await store.create(session, DIGEST, RULES, now)

    async def asked(at: int) -> tuple[int, list[str]]:
        before = await _ranges(wire)
        found = [due.session_id for due in await all_due(store, at)]
        return await _ranges(wire) - before, found

    assert await asked(now) == (SHARDS, [])
    assert await asked(now + 1) == await asked(now + AHEAD_MS - 1) == (0, [])
    assert await asked(now + AHEAD_MS) == (SHARDS, [])
    assert await asked(now + IDLE - 1) == (0, [])
    assert await asked(now + IDLE) == (1, [session.id])
    assert await asked(now + IDLE) == (1, [session.id])
    assert await asked(now - 1) == (SHARDS, [])
    await wire.close()


async def test_who_begins_after_a_reading_has_a_turn_in_time(store: SessionStore, tenant: str, now: int) -> None:
    await all_due(store, now)
    session = a_session(tenant, now + 1)
    await store.create(session, DIGEST, RULES, now + 1)
    assert session.id not in await _due(store, now + IDLE)
    assert session.id in await _due(store, now + 1 + IDLE)


async def test_a_deadline_that_comes_nearer_is_seen(store: SessionStore, tenant: str, now: int) -> None:
    """A walk settles the sessions of a tenant whose idle timeout has become shorter."""
    session = a_session(tenant, now)
    await store.create(session, DIGEST, Rules(), now)
    assert session.id not in await _due(store, now + 3_000)
    assert await store.sweep([Due(session.id, tenant, "u1")], {tenant: RULES}, now + 3_000) == 0
    assert session.id in await _due(store, now + IDLE)


async def test_no_more_than_an_eighth_of_the_shards_is_asked_at_a_time(own_server: Embedded, now: int) -> None:
    wire = await open_wire(own_server.url, 10_000)
    counting = Counting(wire)
    await RedisSessionStore(counting).due(now, 10)
    assert (counting.asked, counting.most_at_once) == (SHARDS, SHARDS // 8)
    await wire.close()


async def test_what_does_not_belong_in_a_shard_keeps_the_sweep_from_nobody(
    own_server: Embedded, tenant: str, now: int
) -> None:
    wire = await open_wire(own_server.url, 10_000)
    store, session = RedisSessionStore(wire), a_session(tenant, now)
    await store.create(session, DIGEST, RULES, now)
    shard, others = shard_in(session.id), (a_session(tenant, now, user=f"v{number}").id for number in range(1_000))
    another = next(sid for sid in others if shard_in(sid) != shard)
    await wire.call("", "ZADD", keyspace.due(shard), 1, "foo", 1, b"\xff" * 30, 1, another)
    assert await _due(store, now + IDLE) == [session.id]
    assert await wire.call("", "ZRANGE", keyspace.due(shard), 0, -1) == [session.id.encode()]
    await wire.close()


@pytest.mark.parametrize("wire", ["valkey"], indirect=True)
async def test_a_change_while_the_index_is_read_is_seen(wire: Wire, tenant: str, now: int) -> None:
    """Reads and writes have a connection each, so the older reply may be the later one."""
    session = a_session(tenant, now)
    late = LateReads(wire, keyspace.due(shard_in(session.id)))
    store = RedisSessionStore(late)
    await store.create(session, DIGEST, Rules(), now)
    reading = asyncio.create_task(_due(store, now + 3_000))
    await late.asked.wait()
    assert await store.sweep([Due(session.id, tenant, "u1")], {tenant: RULES}, now + 3_000) == 0
    late.go.set()
    assert session.id not in await reading
    assert session.id in await _due(store, now + IDLE)


async def test_a_living_session_whose_turn_came_has_the_next_in_time(
    store: SessionStore, tenant: str, now: int
) -> None:
    session = a_session(tenant, now)
    await store.create(session, DIGEST, RULES, now)
    await store.touch([Touch(session.id, tenant, "u1", now + 1_500)], {tenant: RULES}, now + 1_500)
    assert await store.sweep([Due(session.id, tenant, "u1")], {tenant: RULES}, now + IDLE) == 0
    assert session.id in await _due(store, now + 1_500 + IDLE)


class Seen:
    """A wire of which the single commands are looked at."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.server, self.batch, self.script = wire.server, wire.batch, wire.script
        self.each, self.scan, self.close = wire.each, wire.scan, wire.close


class Counting(Seen):
    """How many are under way."""

    asked = at_once = most_at_once = 0

    async def call(self, key: str, *command: Argument) -> Any:
        self.asked, self.at_once = self.asked + 1, self.at_once + 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        reply = await self._wire.call(key, *command)
        self.at_once -= 1
        return reply


class LateReads(Seen):
    """The replies about one sorted set arrive when told to."""

    def __init__(self, wire: Wire, key: str) -> None:
        super().__init__(wire)
        self._key = key
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def call(self, key: str, *command: Argument) -> Any:
        reply = await self._wire.call(key, *command)
        if command[:2] == ("ZRANGE", self._key):
            self.asked.set()
            await self.go.wait()
        return reply


async def _due(store: SessionStore, at: int) -> list[str]:
    return [due.session_id for due in await all_due(store, at)]


async def _ranges(wire: Wire) -> int:
    told = (await wire.call("", "INFO", "commandstats")).decode()
    found = re.search(r"cmdstat_zrange:calls=(\d+)", told)
    return int(found[1]) if found else 0
