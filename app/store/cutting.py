"""A tenant's cut-off: whatever was created up to a moment is dead at once, in every shard."""

from __future__ import annotations

import asyncio
from typing import Final

from app.census import KINDS
from app.errors import Unreadable
from app.model import DAY, SHARDS, SKEW_MS, base32, shard_of
from app.store import keyspace
from app.store.scripts import SCRIPTS
from app.store.wire import Wire

_AT_ONCE: Final = 2
"""How many tenants are cut off side by side; more would fill the connection for everybody."""


class CutOffs:
    """`retention_ms`: how long events are kept. A shard whose cut-offs cannot be read serves nobody until it is mended:
    it keeps the others from nothing, and the caller, who meets `Unreadable`, from taking the act for done."""

    def __init__(self, wire: Wire, retention_ms: int) -> None:
        self._wire = wire
        self._retention = retention_ms
        self._some = asyncio.Semaphore(_AT_ONCE)

    async def begin(self, tenant_id: str, now: int, by: str) -> int:
        """Also of sessions that a process began whose clock is ahead. How many sessions it concerns."""
        async with self._some:
            newest = await asyncio.gather(*(self._newest(shard, tenant_id, now) for shard in range(SHARDS)))
            return await self._cut(tenant_id, now, max(now, *newest), by)

    async def restore(self, tenant_id: str, before: int) -> int:
        async with self._some:
            return await self._cut(tenant_id, before, before, "")

    async def forget(self, tenant_id: str, shard: int, now: int) -> bool:
        """True if none is left to remember in a shard. Raises `Unreadable` while that cannot be told."""
        index = keyspace.tenant_index(shard, tenant_id)
        keys = [keyspace.cutoff(shard), index, keyspace.parked(index)]
        answer = await self._wire.script(SCRIPTS["uncut"], keys, [now, tenant_id])
        if answer < 0:
            raise Unreadable("the index was parked, and may not hold everyone again yet")
        return bool(answer)

    async def _newest(self, shard: int, tenant_id: str, now: int) -> int:
        """When the newest living session was created, 0 if there is none; the latest there may be, by the clock of any
        process, if the index cannot be read."""
        key = keyspace.tenant_index(shard, tenant_id)
        try:
            found = await self._wire.call(key, "ZRANGE", key, 0, 0, "REV", "WITHSCORES")
        except Unreadable:
            return now + SKEW_MS
        return max(0, int(float(found[1])) // KINDS) if found else 0

    async def _cut(self, tenant_id: str, now: int, before: int, by: str) -> int:
        """All shards have the same `before`, or the one event, which comes last, would end who has signed in since. It
        stands in the tenant's own shard, or in another if that one does not take it."""

        async def one(shard: int, announce: bool) -> int:
            keys = [keyspace.cutoff(shard), keyspace.tenant_index(shard, tenant_id)]
            keys += [keyspace.events(shard), keyspace.event_ids(shard, tenant_id)]
            not_after = -(-(before + DAY) // 1_000)
            args = [now, self._retention, tenant_id, base32(shard, 2), not_after, int(announce), by, before]
            count: int = await self._wire.script(SCRIPTS["cut_off"], keys, args)
            return count

        home = shard_of(tenant_id, "")
        others = [shard for shard in range(SHARDS) if shard != home]
        answers = await asyncio.gather(*(one(shard, False) for shard in others), return_exceptions=True)
        counts, damage = dict[int, int](), list[Unreadable]()
        for shard, answer in zip(others, answers, strict=True):
            if isinstance(answer, Unreadable):
                damage.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                counts[shard] = answer
        for shard in (home, *counts):
            try:
                counts[shard] = await one(shard, True)
                break
            except Unreadable as error:
                damage.append(error)
        if damage:
            raise damage[0]
        return sum(counts.values())
