"""One tenant's events in the log of all: nothing is missed or doubled, and the events of others cost nothing."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterable

import pytest

from app.client.shards import index_member
from app.embedded import Embedded
from app.model import DAY, HOUR, SHARDS
from app.store import keyspace
from app.store.log import EventLog, Position
from app.store.tenant_log import TenantLog
from app.store.wire import Wire, open_wire
from tests.builders import a_tenant, announce
from tests.servers import commands

SHARDS_USED = (0, 1, 2, 700)
OLD = ("t", "session.revoked", "n")
REST = ("s", "s", "r", "revoked", "at", "1", "na", "2")


@pytest.fixture(params=["valkey", "cluster"])
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Wire]:
    opened = await open_wire(request.getfixturevalue(f"{request.param}_url"), 10_000)
    yield opened
    await opened.close()


@pytest.fixture
async def own_wire(own_server: Embedded) -> AsyncIterator[Wire]:
    opened = await open_wire(own_server.url, 10_000)
    yield opened
    await opened.close()


async def announce_as_before(wire: Wire, shard: int, tenant: str) -> None:
    """As the last version did: without an index."""
    key = keyspace.events(shard)
    await wire.call(key, "XADD", key, "*", *OLD, tenant, *REST)


async def settled(log: EventLog) -> int:
    """The last final millisecond, once everything that has been written is final."""
    await asyncio.sleep(0.005)
    return await log.final()


async def everything(log: EventLog, tenant: str, shards: Iterable[int]) -> list[Position]:
    """What a reading of the whole log of these shards finds."""
    entries = [entry for shard in shards for entry in await log.present(shard, "-")]
    return sorted(entry.position for entry in entries if entry.tenant_id == tenant)


async def paged(
    log: EventLog, tenant: str, after: Position, limit: int, until: int, anew: random.Random
) -> list[Position]:
    """What batches find, sometimes read on by the same object and sometimes by a new one from the position reached."""
    found: list[Position] = []
    reading = TenantLog(log, tenant, after, until)
    while True:
        batch = await reading.read(limit)
        assert len(batch.entries) <= limit
        found += [entry.position for entry in batch.entries]
        assert all(place <= batch.position for place in found), "the position is behind all that was given"
        if not batch.more:
            assert batch.position == max(after, Position(until, SHARDS, 0))
            return found
        if anew.random() < 0.3:
            reading = TenantLog(log, tenant, batch.position, until)


@pytest.mark.parametrize("seed", range(4))
async def test_batches_hold_what_a_reading_of_the_whole_log_finds(wire: Wire, seed: int) -> None:
    """Several tenants, shards and writers, of which some know no index."""
    chance, log = random.Random(seed), EventLog(wire)
    tenants = [a_tenant() for _ in range(3)]
    begun = await log.final()
    for _ in range(150):
        shard, tenant = chance.choice(SHARDS_USED), chance.choice(tenants)
        if chance.random() < (0.3 if seed % 2 else 0.03):
            await announce_as_before(wire, shard, tenant)
        else:
            await announce(wire, shard, tenant, chance.choice([1, 1, 3, 12, 120]))
    until = await settled(log)
    own = {tenant: await everything(log, tenant, SHARDS_USED) for tenant in tenants}
    every = sorted(place for places in own.values() for place in places)
    starts = [Position(begun, 0, 0), Position(until, 0, 0), *chance.sample(every, 8)]
    starts += [Position(place.ms, chance.randrange(SHARDS + 1), 0) for place in chance.sample(every, 4)]
    for start in starts:
        tenant, limit = chance.choice(tenants), chance.choice([7, 100, 500])
        found = await paged(log, tenant, start, limit, until, chance)
        assert found == [place for place in own[tenant] if start < place]


@pytest.mark.parametrize("between", [0, 1, 60, 120])
async def test_what_an_earlier_version_writes_between_is_not_missed(wire: Wire, between: int) -> None:
    """During a rolling upgrade, or after a step back; more than is read at once, and also as the last of all."""
    log, tenant, shard = EventLog(wire), a_tenant(), 5
    begun = await log.final()
    for last in (False, True):
        await announce(wire, shard, tenant, 3)
        for number in range(between):
            await announce_as_before(wire, shard, tenant if number % 2 else "tnt_other")
        if not last:
            await announce(wire, shard, tenant, 2)
    until = await settled(log)
    found = await paged(log, tenant, Position(begun, 0, 0), 100, until, random.Random(0))
    assert found == await everything(log, tenant, [shard])
    assert len(found) >= 8


async def cost(server: Embedded, log: EventLog, tenant: str, limit: int) -> tuple[int, int]:
    """How many events a reading from the beginning finds, and how many commands it takes."""
    await settled(log)
    before = commands(server)
    found, reading, more = 0, TenantLog(log, tenant, Position(1, 0, 0)), True
    while more:
        batch = await reading.read(limit)
        found, more = found + len(batch.entries), batch.more
    return found, commands(server) - before


async def test_the_events_of_others_cost_nothing(own_server: Embedded, own_wire: Wire) -> None:
    log, loud, quiet = EventLog(own_wire), a_tenant(), a_tenant()
    await announce(own_wire, 9, quiet)
    await announce(own_wire, 9, loud, 100)
    few = await cost(own_server, log, quiet, 100)
    for _ in range(300):
        await announce(own_wire, 9, loud, 100)
    await announce(own_wire, 9, quiet)
    many = await cost(own_server, log, quiet, 100)
    assert (few[0], many[0]) == (1, 2)
    assert few[1] <= SHARDS + 5
    assert many[1] <= few[1] + 1


async def test_a_reading_costs_in_proportion_to_what_it_finds(own_server: Embedded, own_wire: Wire) -> None:
    log, tenant = EventLog(own_wire), a_tenant()
    for shard in range(0, SHARDS, 64):
        await announce(own_wire, shard, tenant, 300)
    found, asked = await cost(own_server, log, tenant, 500)
    assert found == 4_800
    assert asked < SHARDS + 1.3 * found


async def test_an_index_holds_the_retention_and_then_goes(own_wire: Wire) -> None:
    tenant = a_tenant()
    key = keyspace.event_ids(3, tenant)
    await announce(own_wire, 3, tenant, 5)
    assert DAY < await own_wire.call(key, "PTTL", key) <= 2 * DAY
    [[first, _], *_] = await own_wire.call(keyspace.events(3), "XRANGE", keyspace.events(3), "-", "+")
    assert await settled(EventLog(own_wire)) > int(first.partition(b"-")[0])
    await announce(own_wire, 3, tenant, 1, retention=-5_000)
    assert await own_wire.call(key, "ZCARD", key) == 6, "of an hour more, for readers whose clocks differ"
    await announce(own_wire, 3, tenant, 1, retention=-HOUR - 5_000)
    assert await own_wire.call(key, "ZCARD", key) == 1


@pytest.mark.parametrize("healed", [False, True])
async def test_a_damaged_index_costs_time_and_no_event(wire: Wire, healed: bool) -> None:
    """Whether the tenant's next event has replaced it or not."""
    log, tenant, shard = EventLog(wire), a_tenant(), 6
    begun, key = await log.final(), keyspace.event_ids(shard, tenant)
    await announce(wire, shard, tenant, 3)
    await wire.call(key, "DEL", key)
    await wire.call(key, "SET", key, "no index")
    await announce(wire, shard, "tnt_other", 2)
    if healed:
        await announce(wire, shard, tenant, 2)
    until = await settled(log)
    found = await paged(log, tenant, Position(begun, 0, 0), 100, until, random.Random(0))
    assert found == await everything(log, tenant, [shard])
    assert len(found) == (5 if healed else 3)
    assert await wire.call(key, "TYPE", key) == (b"zset" if healed else b"string")
    await wire.call(key, "UNLINK", key)


async def test_a_damaged_shard_of_the_log_keeps_nobody_from_the_others(
    own_wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    log, tenant = EventLog(own_wire), a_tenant()
    for shard in (2, 3, 4):
        await announce(own_wire, shard, tenant)
    bad = keyspace.events(3)
    await own_wire.call(bad, "SET", bad, "no stream")
    await settled(log)
    batch = await TenantLog(log, tenant, Position(1, 0, 0)).read(10)
    assert [entry.position.shard for entry in batch.entries] == [2, 4]
    assert caplog.text.count("shard 3 cannot be read") == 1
    assert await log.holds("03-1-0"), "nothing is proved while it cannot be read"


def test_members_of_an_index_sort_as_places_do() -> None:
    places = [
        Position(1_700_000_000_000 + ms, 0, sequence) for ms in (0, 1) for sequence in (0, 9, 10, 99, 100, 2**64 - 1)
    ]
    members = [index_member(place.ms, place.sequence) for place in places]
    assert members == sorted(members)
    assert re.fullmatch(r"\d{13}t\d{20}", members[-1])
