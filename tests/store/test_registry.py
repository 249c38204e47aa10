"""Tenants and the ring of signing keys are written only by who has read the newest; on one server and on a cluster."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from app.model import SealedKey, Tenant
from app.store import keyspace
from app.store.registry import RedisRegistry
from app.store.wire import Wire
from app.tenants import Tenants
from tests.oracle import OracleStore


@pytest.fixture
def registry(wire: Wire | None) -> RedisRegistry:
    assert wire is not None
    return RedisRegistry(wire)


def a_key(kid: str) -> SealedKey:
    return SealedKey(kid=kid, x="x", sealed=b"sealed", created_at=1, sign_from=1)


on_servers = pytest.mark.parametrize("wire", ["fakeredis", "valkey", "cluster"], indirect=True)


@on_servers
async def test_a_tenant_that_changed_meanwhile_is_not_written(registry: RedisRegistry, tenant: str) -> None:
    first = Tenant(id=tenant, name="Acme", created_at=1, version=1)
    assert await registry.put_tenant(first)
    assert not await registry.put_tenant(msgspec.structs.replace(first, name="again"))
    tries = [msgspec.structs.replace(first, name=f"name {number}", version=2) for number in range(10)]
    assert sum(await asyncio.gather(*(registry.put_tenant(one) for one in tries))) == 1
    assert not await registry.put_tenant(msgspec.structs.replace(first, version=4))
    found = await registry.tenant(tenant)
    assert found is not None and found.version == 2


@on_servers
async def test_a_page_of_tenants_passes_over_any_number_of_deleted_and_damaged_ones(
    registry: RedisRegistry, wire: Wire, tenant: str
) -> None:
    for number in range(250):
        left = Tenant(id=f"{tenant}{number:03}", name="", created_at=1, version=1, deleted_at=2 if number % 2 else None)
        await registry.put_tenant(left)
        if not number % 2:
            await wire.call(key := keyspace.tenant(left.id), "HSET", key, "record", "rubbish")
    last = Tenant(id=f"{tenant}999", name="Acme", created_at=1, version=1)
    await registry.put_tenant(last)
    assert (await Tenants(registry, OracleStore()).page(tenant, 1))[0] == last
    listed = await wire.call(keyspace.TENANTS, "ZRANGE", keyspace.TENANTS, f"[{tenant}", f"({tenant}A", "BYLEX")
    assert len(listed) == 251
    await wire.call(keyspace.TENANTS, "ZREM", keyspace.TENANTS, *listed)


@on_servers
async def test_changes_of_a_policy_by_many_at_once_all_stay(registry: RedisRegistry, now: int) -> None:
    admins = [Tenants(registry, OracleStore()) for _ in range(4)]
    tenant = await admins[0].create("Acme", now)
    changes: list[dict[str, Any]] = [
        {"idle_timeout": "1h"},
        {"max_sessions_per_user": 7},
        {"access_token_ttl": "5m"},
        {"on_limit": "reject"},
    ]
    await asyncio.gather(*(one.set_policy(tenant.id, change, now) for one, change in zip(admins, changes, strict=True)))
    policy = (await admins[0].get(tenant.id, now + 1_000)).policy
    assert (policy.idle_timeout_s, policy.max_sessions_per_user) == (3_600, 7)
    assert (policy.access_token_ttl_s, policy.on_limit) == (300, "reject")


@on_servers
async def test_a_change_that_another_process_has_made_holds_where_it_is_repeated(
    registry: RedisRegistry, now: int
) -> None:
    one, other = [Tenants(registry, OracleStore()) for _ in range(2)]
    tenant = await one.create("Acme", now)
    assert (await other.get(tenant.id, now)).policy.max_sessions_per_user != 1
    change = await one.set_policy(tenant.id, {"max_sessions_per_user": 1}, now)
    assert (await other.set_policy(tenant.id, {"max_sessions_per_user": 1}, now)).after == change.after
    assert await other.get(tenant.id, now) == change.after


@on_servers
async def test_a_ring_that_is_not_the_one_seen_is_not_replaced(registry: RedisRegistry, wire: Wire) -> None:
    await wire.call(keyspace.SIGNING_KEYS, "DEL", keyspace.SIGNING_KEYS)
    try:
        firsts = [registry.put_signing_keys([a_key(f"k{number}")], frozenset()) for number in range(10)]
        assert sum(await asyncio.gather(*firsts)) == 1
        (held,) = await registry.signing_keys()
        assert not await registry.put_signing_keys([a_key("evil")], frozenset({"another"}))
        assert not await registry.put_signing_keys([a_key("evil")], frozenset({held.kid, "another"}))
        assert await registry.put_signing_keys([held, a_key("next")], frozenset({held.kid}))
        assert not await registry.put_signing_keys([a_key("evil")], frozenset({held.kid}))
        assert await registry.put_signing_keys([a_key("next")], frozenset({held.kid, "next"}))
        assert [key.kid for key in await registry.signing_keys()] == ["next"]
    finally:
        await wire.call(keyspace.SIGNING_KEYS, "DEL", keyspace.SIGNING_KEYS)
