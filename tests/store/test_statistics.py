"""Statistics add up per tenant and for all, are forgotten in time, and a wrong number does not last."""

from __future__ import annotations

from collections import Counter

import pytest

from app.census import kind_of
from app.model import DAY, HOUR, MINUTE, SHARDS, Rules, shard_in
from app.store import keyspace
from app.store.base import Count
from app.store.hold import HOLD_MS
from app.store.redis import RedisSessionStore
from app.store.registry import RedisRegistry
from app.store.statistics import EVERYONE, Statistics
from app.store.wire import Wire
from app.tenants import Tenants
from app.upkeep import Upkeep
from tests.builders import a_session, a_tenant

DIGEST = b"d" * 16
HOME, ROAD = kind_of("desktop", "DE"), kind_of("mobile", "FR")
on_servers = pytest.mark.parametrize("wire", ["fakeredis", "valkey", "cluster"], indirect=True)


@pytest.fixture
def statistics(wire: Wire) -> Statistics:
    return Statistics(wire)


@pytest.fixture
def upkeep(store: RedisSessionStore, wire: Wire, statistics: Statistics) -> Upkeep:
    registry = RedisRegistry(wire)
    return Upkeep(store, registry, Tenants(registry, store), statistics)


@on_servers
async def test_minutes_and_hours_and_the_living_of_a_tenant_and_of_all(
    statistics: Statistics, tenant: str, now: int
) -> None:
    minute, hour = now // MINUTE, now // HOUR
    everyone = await statistics.living(EVERYONE)
    await statistics.add([Count(tenant, minute, "created", HOME, 5), Count(tenant, minute, "created", ROAD, 2)], now)
    await statistics.add([Count(tenant, minute, "revoked", HOME, 4), Count(tenant, minute, "revoked", ROAD, 2)], now)
    expected = {"created": 7, "revoked": 6}
    assert await statistics.by_minute(tenant, range(minute - 60, minute + 1)) == {
        (minute, what): number for what, number in expected.items()
    }
    assert await statistics.by_hour(tenant, range(hour, hour + 1)) == {
        (hour, what): number for what, number in expected.items()
    }
    assert await statistics.living(tenant) == {HOME: 1}
    assert (await statistics.living(EVERYONE))[HOME] == everyone[HOME] + 1


@on_servers
async def test_what_is_outside_the_times_asked_for_is_left_out(statistics: Statistics, tenant: str, now: int) -> None:
    hour = now // HOUR
    for ago in (0, 1, 26, 200):
        await statistics.add([Count(tenant, (hour - ago) * 60, "created", HOME, 1)], now)
    assert len(await statistics.by_hour(tenant, range(hour - 25, hour + 1))) == 2
    assert len(await statistics.by_hour(tenant, range(hour - 26, hour))) == 2
    assert await statistics.by_minute(tenant, range((hour - 27) * 60, (hour - 25) * 60)) == {}


@on_servers
async def test_every_series_is_forgotten_in_time(statistics: Statistics, wire: Wire, tenant: str, now: int) -> None:
    minute = now // MINUTE
    await statistics.add([Count(tenant, minute, "created", HOME, 1), Count(tenant, minute, "revoked", HOME, 1)], now)
    for key, most in (
        (keyspace.minutes(tenant, minute // 60), 2 * HOUR),
        (keyspace.hours(tenant, minute // 60 // 24), 9 * DAY),
    ):
        assert most - MINUTE < int(await wire.call(key, "PTTL", key)) <= most
    living = keyspace.living(tenant)
    assert await wire.call(living, "EXISTS", living) == 0, "of no living session nothing is kept"


@on_servers
async def test_counts_that_nobody_collects_stay_few(
    store: RedisSessionStore, wire: Wire, upkeep: Upkeep, statistics: Statistics, now: int
) -> None:
    tenant = a_tenant()
    first = a_session(tenant, now)
    key = keyspace.counts(shard_in(first.id))
    await wire.call(key, "HSET", key, *[part for n in range(1_000) for part in (f"{tenant} {n} x {n}", 1)])
    for ago in (0, 7, 14):
        await store.create(a_session(tenant, now - ago * MINUTE), DIGEST, Rules(), now - ago * MINUTE)
    fields = [name.decode() for name in await wire.call(key, "HKEYS", key)]
    made = [name for name in fields if name.startswith(f"{tenant} ") and " created " in name]
    assert len(made) <= 2, "an hour each, not a minute each"
    assert all(int(name.split(" ")[1]) % 60 == 0 for name in made)
    await wire.call(key, "HSET", key, *[part for n in range(9_999) for part in (f"{tenant} {n} x 0", 1)])
    waiting = await wire.call(key, "HLEN", key)
    await store.create(a_session(tenant, now + 2 * HOUR), DIGEST, Rules(), now + 2 * HOUR)
    assert await wire.call(key, "HLEN", key) == waiting
    await wire.call(key, "UNLINK", key)
    await upkeep.recount(now)
    assert await statistics.living(tenant) == {kind_of(None, None): 4}


@on_servers
async def test_a_wrong_number_is_found_said_and_mended(
    store: RedisSessionStore, upkeep: Upkeep, statistics: Statistics, tenant: str, now: int
) -> None:
    for number in range(10):
        session = a_session(tenant, now, user=f"u{number}", device_type="desktop", country="DE")
        await store.create(session, DIGEST, Rules(), now)
    assert await upkeep.recount(now) is not None
    assert await upkeep.recount(now) == 0
    assert await statistics.living(tenant) == {HOME: 10}
    await store.create(a_session(tenant, now, user="v", device_type="mobile", country="FR"), DIGEST, Rules(), now)
    assert await upkeep.recount(now) == 0, "what was not collected yet is no fault"
    await store.revoke(tenant, session.id, "revoked", Rules(), now)
    await store.collect()  # by a worker that is killed before it can add it up
    assert await statistics.living(tenant) == {HOME: 10, ROAD: 1}
    assert await upkeep.recount(now) == 1
    assert await statistics.living(tenant) == {HOME: 9, ROAD: 1}
    everyone = await statistics.living(EVERYONE)
    assert everyone[HOME] >= 9 and everyone[ROAD] >= 1


@pytest.mark.parametrize("wire", ["valkey"], indirect=True)
async def test_more_tenants_than_a_connection_takes_commands_at_a_time(
    statistics: Statistics, wire: Wire, tenant: str, now: int
) -> None:
    names = [f"{tenant}{number}" for number in range(3_500)]
    counts = [Count(name, now // MINUTE, what, HOME, 2) for name in names for what in ("created", "signed_out")]
    await statistics.add([*counts, *(Count(name, now // MINUTE, "created", ROAD, 1) for name in names)], now)
    hour = now // HOUR
    for name in (names[0], names[1_700], names[-1]):
        assert await statistics.living(name) == {ROAD: 1}
        happened = await statistics.by_hour(name, range(hour, hour + 1))
        assert happened == {(hour, "created"): 3, (hour, "signed_out"): 2}
        for key in (keyspace.hours(name, hour // 24), keyspace.minutes(name, hour)):
            assert await wire.call(key, "PTTL", key) > 0


@on_servers
async def test_a_damaged_key_begins_anew_and_costs_nobody_else_a_count(
    upkeep: Upkeep, statistics: Statistics, wire: Wire, tenant: str, now: int
) -> None:
    names = [f"{tenant}{number}" for number in range(40)]
    hour = keyspace.hours(names[0], now // DAY)
    await wire.call(hour, "SET", hour, "rubbish")
    living = [keyspace.living(name) for name in names[:2]]
    await wire.call(living[0], "SET", living[0], "rubbish")
    await wire.call(living[1], "HSET", living[1], HOME, "rubbish")
    await wire.call(living[1], "HSET", living[1], ROAD, 7)
    await statistics.add([Count(name, now // MINUTE, "created", HOME, 1) for name in names], now)
    assert [await statistics.living(name) for name in names] == [{HOME: 1}, {HOME: 1, ROAD: 7}, *[{HOME: 1}] * 38]
    assert await statistics.by_hour(names[0], range(now // HOUR, now // HOUR + 1)) == {(now // HOUR, "created"): 1}


@on_servers
async def test_the_living_are_counted_anew_where_their_number_cannot_be_read(
    store: RedisSessionStore, upkeep: Upkeep, statistics: Statistics, wire: Wire, tenant: str, now: int
) -> None:
    await store.create(a_session(tenant, now, device_type="desktop", country="DE"), DIGEST, Rules(), now)
    await upkeep.recount(now)
    key = keyspace.living(tenant)
    for damage in (("SET", key, "rubbish"), ("HSET", key, HOME, "rubbish"), ("HSET", key, "rubbish", 1)):
        await wire.batch(key, [("UNLINK", key), damage])
        assert await upkeep.recount(now) == 1
        assert await statistics.living(tenant) == {HOME: 1}


@on_servers
async def test_a_shard_whose_counts_cannot_be_read_costs_no_other_its_counts(
    store: RedisSessionStore, upkeep: Upkeep, statistics: Statistics, wire: Wire, now: int
) -> None:
    await upkeep.collect(now)
    names = [a_tenant() for _ in range(6)]
    first, *others = [a_session(name, now, device_type="desktop", country="DE") for name in names]
    for one in others:
        await store.create(one, DIGEST, Rules(), now)
    sound = [one.tenant_id for one in others if shard_in(one.id) != shard_in(first.id)]
    key = keyspace.counts(shard_in(first.id))
    index = keyspace.tenant_index(shard_in(first.id), first.tenant_id)
    await wire.batch(key, [("UNLINK", key), ("SET", key, "rubbish"), ("SET", index, "rubbish")])
    field = keyspace.counts(shard_in(others[0].id))
    if field != key:
        await wire.call(field, "HSET", field, "rubbish", "rubbish")
    assert await upkeep.collect(now)
    assert [await statistics.living(name) for name in sound] == [{HOME: 1}] * len(sound)
    await upkeep.recount(now)
    assert [await statistics.living(name) for name in sound] == [{HOME: 1}] * len(sound)
    await wire.batch(key, [("UNLINK", key), ("UNLINK", index)])


@on_servers
async def test_two_never_count_at_once(upkeep: Upkeep, statistics: Statistics, wire: Wire, now: int) -> None:
    async with statistics.alone() as alone:
        assert alone
        assert not await upkeep.collect(now)
        assert await upkeep.recount(now) is None
        assert 0 < int(await wire.call(keyspace.COUNTING, "PTTL", keyspace.COUNTING)) <= HOLD_MS
    assert await upkeep.collect(now)


@on_servers
async def test_how_late_the_sweep_is_is_put_down(
    store: RedisSessionStore, upkeep: Upkeep, statistics: Statistics, wire: Wire, tenant: str, now: int
) -> None:
    for shard in range(SHARDS):
        await wire.call(keyspace.due(shard), "UNLINK", keyspace.due(shard))
    session = a_session(tenant, now, life=MINUTE)
    await store.create(session, DIGEST, Rules(), now)
    await upkeep.sweep(now)
    assert (await statistics.worker()).lag == 0
    late = session.expires_at + 1_234
    await upkeep.beat(late)
    await upkeep.sweep(late)
    report = await statistics.worker()
    assert (report.lag, report.swept_at, report.seen_at) == (1_234, late, late)
    await upkeep.sweep(now + MINUTE + 2_000)
    assert (await statistics.worker()).lag == 0
    assert Counter(count.what for count in await store.collect() if count.tenant_id == tenant)["expired"] == 1


@on_servers
async def test_a_pass_that_only_buries_is_not_the_last(
    store: RedisSessionStore, upkeep: Upkeep, tenant: str, now: int
) -> None:
    """Behind very many tombstones of one shard others wait for their turn."""
    for _ in range(25):
        await store.create(a_session(tenant, now), DIGEST, Rules(), now)
    await store.revoke_user(tenant, "u1", "", "revoked", Rules(), now)
    while await upkeep.sweep(now + DAY - 1):
        pass
    passes = [await upkeep.sweep(now + DAY) for _ in range(4)]
    assert passes[:2] == [10, 10] and sum(passes) == 25
