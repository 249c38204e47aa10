"""A tenant's end, at the size of a real one: nothing of it works from then on, and in time nothing of it is left."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from app.client.redis_address import parse_address
from app.errors import InvalidApiKey, InvalidToken, TenantNotFound
from app.model import DAY, HOUR, MINUTE, Tenant, new_id
from app.runtime import Runtime, now_ms, open_runtime
from app.sessions import Issued, NewSession
from app.settings import Settings
from app.store import keyspace
from app.store.registry import RedisRegistry
from app.store.wire import Wire, open_wire
from tests.faults.fill import fill, schedule

MANY = 20_000


async def keys_of(wire: Wire, mark: str) -> set[str]:
    """The kinds of keys whose names hold `mark`."""
    return {key.decode().replace(mark, "…") async for page in wire.scan(f"*{mark}*") for key in page}


async def calls(wire: Wire, *names: str) -> list[int]:
    [stats] = await wire.each("INFO", "commandstats")
    counted = dict(re.findall(rb"cmdstat_(\w+):calls=(\d+)", stats))
    return [int(counted.get(name.encode(), 0)) for name in names]


@pytest.mark.slow
async def test_a_tenant_of_very_many_sessions_dies_at_once_and_is_cleared_away_in_steps(own_server: Any) -> None:
    clock = [now_ms()]
    settings = Settings(
        redis_url=parse_address(own_server.url),
        secret=b"s" * 40,
        admin_key="mk_live_" + "a" * 40,
        issuer="https://x.example",
    )
    async with open_runtime(settings, lambda: clock[0]) as runtime:
        now = clock[0]
        tenant, other = await runtime.tenants.create("Acme", now), await runtime.tenants.create("Other", now)
        issued, spared = await sign_in(runtime, tenant, now), await sign_in(runtime, other, now)
        _, key = await runtime.api_keys.create(tenant.id, "backend", now)
        schedule(own_server, fill(own_server, tenant.id, MANY // 5, 5, now, now + 30 * DAY), now + 30 * DAY)

        began = asyncio.get_running_loop().time()
        await runtime.tenants.delete(tenant.id, now)
        assert asyncio.get_running_loop().time() - began < 5
        with pytest.raises(InvalidToken):
            await runtime.sessions.authenticate(issued.access_token, now)
        assert not (await runtime.sessions.verify(tenant, now, session_id=issued.session.id)).valid
        with pytest.raises(InvalidApiKey):
            await runtime.api_keys.authenticate(key, now)
        with pytest.raises(TenantNotFound):
            await runtime.tenants.get(tenant.id, now)

        wire = await open_wire(own_server.url, 2_000)
        assert (await calls(wire, "flushall", "keys")) == [0, 0]
        [before] = await calls(wire, "evalsha")
        await walk(runtime, clock, 2 * MINUTE)
        [after] = await calls(wire, "evalsha")
        assert after - before >= MANY / 25, "never more than 25 sessions in one act"
        assert (await runtime.sessions.stats(tenant, clock[0])).active == 0
        await walk(runtime, clock, settings.retention_ms)
        await walk(runtime, clock, 2 * HOUR)

        left = await keys_of(wire, tenant.id) - {keyspace.tenant("…")}
        assert {kind.partition(":…")[0] for kind in left} <= {"hj:stats", "hj:minutes"}
        for key in (kind.replace("…", tenant.id) for kind in left):
            assert 0 < await wire.call(key, "PTTL", key) <= 9 * DAY
        buried = await runtime.registry.tenant(tenant.id)
        assert buried is not None and (buried.name, buried.deleted_at) == ("", now)
        assert tenant.id not in await runtime.registry.pending(clock[0] + 400 * DAY)
        assert [found.id for found in await runtime.tenants.page("", 10)] == [other.id]
        assert (await runtime.sessions.verify(other, now, session_id=spared.session.id)).valid
        await wire.close()


async def test_burying_takes_the_keys_and_may_be_done_again(valkey_url: str) -> None:
    wire = await open_wire(valkey_url, 2_000)
    registry = RedisRegistry(wire)
    async with open_runtime(
        Settings(redis_url=parse_address(valkey_url), secret=b"s" * 40, admin_key="a", issuer="b")
    ) as runtime:
        tenant = await runtime.tenants.create(new_id("name"), now_ms())
        made = [(await runtime.api_keys.create(tenant.id, "k", now_ms()))[0] for _ in range(3)]
        await runtime.registry.note_api_key_use(tenant.id, made[0].id, now_ms())
        await runtime.tenants.bury(tenant.id)
        assert len(await registry.api_keys(tenant.id)) == 3, "a living tenant is not buried"
        await runtime.tenants.delete(tenant.id, now_ms())
        for _ in range(2):
            await runtime.tenants.bury(tenant.id)
            assert await registry.api_key(made[0].id) is None
            assert await keys_of(wire, tenant.id) == {keyspace.tenant("…")}
        record = await wire.call(keyspace.tenant(tenant.id), "HGET", keyspace.tenant(tenant.id), "record")
        assert tenant.name.encode() not in record
    await wire.close()


async def sign_in(runtime: Runtime, tenant: Tenant, now: int) -> Issued:
    return await runtime.sessions.create(tenant, NewSession(user_id="u1"), now)


async def walk(runtime: Runtime, clock: list[int], time: int) -> None:
    """What the worker does in the ten seconds once so much time has passed."""
    clock[0] += time
    await runtime.upkeep.apply_policies(lambda: clock[0])
    for _ in range(10):
        await runtime.upkeep.sweep(clock[0])
    await runtime.upkeep.collect(clock[0])
