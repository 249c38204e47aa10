"""`Registry` on Redis: tenants, API keys, signing keys. Each tenant and key is one small hash or string."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Final

import msgspec

from app.errors import ApiKeyNotFound, Conflict, Unreadable, WritesRefused
from app.log import Lasting
from app.model import SHARDS, ApiKey, SealedKey, Tenant
from app.store import keyspace
from app.store.essential import check_writes, write_when_full
from app.store.wire import Script, Wire

_MARKS: Final = 1_000
_ATTEMPTS: Final = 10
_AT_ONCE: Final = 100
_OF_A_TENANT: Final = (keyspace.tenant_api_keys, keyspace.api_key_uses, keyspace.living)
_log: Final = logging.getLogger(__name__)
_encode: Final = msgspec.msgpack.Encoder().encode

_PUT_TENANT: Final = Script.of(
    "put_tenant",
    """-- flags: allow-oom
-- Write a tenant if nobody else did since it was read. Also when memory is full: a policy or a deletion may end access.
-- KEYS tenant · ARGV seen version, new version, record
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if version ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'record', ARGV[3])
return 1""",
)
_REPLACE: Final = Script.of(
    "replace",
    """-- flags: allow-oom
-- Write a string if it still is what was seen. KEYS string · ARGV seen, new
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1""",
)
_PUT_KEYS: Final = Script.of(
    "put_keys",
    """-- flags: allow-oom
-- Replace the ring of signing keys if it still is what was seen. KEYS keys · ARGV how many, seen…, kid record…
local seen = tonumber(ARGV[1])
if redis.call('HLEN', KEYS[1]) ~= seen then return 0 end
for i = 2, 1 + seen do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 then return 0 end
end
redis.call('DEL', KEYS[1])
if #ARGV > 1 + seen then redis.call('HSET', KEYS[1], unpack(ARGV, 2 + seen)) end
return 1""",
)


class RedisRegistry:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._refused, self._refusing = Lasting(), False
        self._tenant = msgspec.msgpack.Decoder(Tenant).decode
        self._key = msgspec.msgpack.Decoder(ApiKey).decode
        self._sealed = msgspec.msgpack.Decoder(SealedKey).decode

    async def put_tenant(self, tenant: Tenant) -> bool:
        key = keyspace.tenant(tenant.id)
        if tenant.version == 1:
            await self._wire.call(keyspace.TENANTS, "ZADD", keyspace.TENANTS, 0, tenant.id)
        args = [tenant.version - 1, tenant.version, _encode(tenant)]
        return bool(await self._wire.script(_PUT_TENANT, [key], args))

    async def tenant(self, tenant_id: str) -> Tenant | None:
        key = keyspace.tenant(tenant_id)
        record = await self._wire.call(key, "HGET", key, "record")
        try:
            return None if record is None else self._tenant(record)
        except (msgspec.DecodeError, ValueError) as error:
            raise Unreadable(f"the record of {tenant_id}: {error}") from None

    async def tenants(self, after: str = "") -> AsyncGenerator[Tenant, None]:
        key, low = keyspace.TENANTS, f"({after}" if after else "-"
        while rows := await self._wire.call(key, "ZRANGE", key, low, "+", "BYLEX", "LIMIT", 0, _AT_ONCE):
            ids = [row.decode() for row in rows]
            for tenant in await asyncio.gather(*map(self._readable, ids)):
                if tenant is not None:
                    yield tenant
            low = f"({ids[-1]}"

    async def _readable(self, tenant_id: str) -> Tenant | None:
        """One that cannot be read hides no other."""
        try:
            return await self.tenant(tenant_id)
        except Unreadable as error:
            _log.error("tenant %s is left out (%s)", tenant_id, error)
            return None

    async def bury_tenant(self, tenant: Tenant) -> bool:
        index, uses, living = (name(tenant.id) for name in _OF_A_TENANT)
        while ids := await self._wire.call(index, "ZRANGE", index, 0, _AT_ONCE - 1):
            keys = [keyspace.api_key(key_id.decode()) for key_id in ids]
            await asyncio.gather(*(self._wire.call(key, "DEL", key) for key in keys))
            await self._wire.call(index, "ZREM", index, *ids)
        await self._wire.call(uses, "DEL", uses)
        await self._wire.call(living, "DEL", living)
        events = [keyspace.event_ids(shard, tenant.id) for shard in range(SHARDS)]
        for first in range(0, SHARDS, _AT_ONCE):
            await asyncio.gather(*(self._wire.call(key, "UNLINK", key) for key in events[first : first + _AT_ONCE]))
        await self._wire.call(keyspace.TENANTS, "ZREM", keyspace.TENANTS, tenant.id)
        return await self.put_tenant(tenant)

    async def put_api_key(self, key: ApiKey) -> None:
        index, own = keyspace.tenant_api_keys(key.tenant_id), keyspace.api_key(key.id)
        await self._wire.call(index, "ZADD", index, key.created_at, key.id)
        await self._wire.call(own, "SET", own, _encode(key))

    async def api_key(self, key_id: str) -> ApiKey | None:
        own = keyspace.api_key(key_id)
        record = await self._wire.call(own, "GET", own)
        return None if record is None else self._key(record)

    async def api_keys(self, tenant_id: str) -> list[ApiKey]:
        index = keyspace.tenant_api_keys(tenant_id)
        ids = await self._wire.call(index, "ZRANGE", index, 0, -1)
        found = await asyncio.gather(*(self.api_key(key_id.decode()) for key_id in ids))
        return [key for key in found if key is not None]

    async def change_api_key(self, key_id: str, change: Callable[[ApiKey], ApiKey]) -> None:
        own = keyspace.api_key(key_id)
        for _ in range(_ATTEMPTS):
            seen = await self._wire.call(own, "GET", own)
            if seen is None:
                raise ApiKeyNotFound
            if await self._wire.script(_REPLACE, [own], [seen, _encode(change(self._key(seen)))]):
                return
        raise Conflict

    async def note_api_key_use(self, tenant_id: str, key_id: str, at: int) -> None:
        key = keyspace.api_key_uses(tenant_id)
        await self._wire.call(key, "HSET", key, key_id, at)

    async def api_key_uses(self, tenant_id: str) -> dict[str, int]:
        key = keyspace.api_key_uses(tenant_id)
        flat = await self._wire.call(key, "HGETALL", key)
        return {key_id.decode(): int(at) for key_id, at in zip(flat[::2], flat[1::2], strict=True)}

    async def signing_keys(self) -> list[SealedKey]:
        rows = await self._wire.call(keyspace.SIGNING_KEYS, "HVALS", keyspace.SIGNING_KEYS)
        return [self._sealed(row) for row in rows]

    async def put_signing_keys(self, keys: list[SealedKey], seen: frozenset[str]) -> bool:
        args: list[str | bytes | int] = [len(seen), *seen]
        for key in keys:
            args += [key.kid, _encode(key)]
        return bool(await self._wire.script(_PUT_KEYS, [keyspace.SIGNING_KEYS], args))

    async def mark_pending(self, tenant_id: str, at: int) -> None:
        mark = f"{tenant_id} {secrets.token_hex(8)}"
        await write_when_full(self._wire, keyspace.PENDING, "ZADD", at, mark)

    async def pending(self, now: int) -> dict[str, list[str]]:
        key = keyspace.PENDING
        found: dict[str, list[str]] = {}
        for mark in await self._wire.call(key, "ZRANGE", key, "-inf", now, "BYSCORE", "LIMIT", 0, _MARKS):
            found.setdefault(mark.decode().split(" ")[0], []).append(mark.decode())
        return found

    async def clear_pending(self, marks: list[str]) -> None:
        await self._wire.call(keyspace.PENDING, "ZREM", keyspace.PENDING, *marks)

    async def add_repaired(self, damages: Counter[str]) -> None:
        key = keyspace.REPAIRED
        await asyncio.gather(*(write_when_full(self._wire, key, "HINCRBY", *found) for found in damages.items()))

    async def repaired(self) -> dict[str, int]:
        flat = await self._wire.call(keyspace.REPAIRED, "HGETALL", keyspace.REPAIRED)
        return {name.decode(): int(count) for name, count in zip(flat[::2], flat[1::2], strict=True)}

    async def check(self) -> None:
        try:
            await check_writes(self._wire)
        except WritesRefused as error:
            if self._refused.came(asyncio.get_running_loop().time()):
                _log.error("%s; sign-ins are refused, ending and verifying sessions goes on", error.detail)
            self._refusing = True
            raise
        if self._refusing:
            _log.warning("the store takes writes again")
            self._refused, self._refusing = Lasting(), False

    async def clock(self) -> int:
        seconds, micros = await self._wire.call(keyspace.TENANTS, "TIME")
        return int(seconds) * 1_000 + int(micros) // 1_000
