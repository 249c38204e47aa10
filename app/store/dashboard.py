"""Who is signed in to the dashboard: one sealed record for each, found by a digest and gone with its TTL."""

from __future__ import annotations

from typing import Final

from app.store import keyspace
from app.store.essential import write_when_full
from app.store.wire import Wire

MAX_SIGNED_IN: Final = 20
"""Living records of one credential; the oldest go."""


class DashboardSessions:
    """`name`: the digest that a record lies under. `credential`: whose it is. Times in milliseconds."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def put(self, name: str, credential: str, record: bytes, now: int, idle: int, life: int) -> None:
        """A new record for `idle`, in the credential's index for `life`."""
        key, index = keyspace.dashboard(name), keyspace.dashboard_index(credential)
        await write_when_full(self._wire, key, "SET", record, "PX", idle)
        await write_when_full(self._wire, index, "ZADD", now, name)
        await self._wire.call(index, "PEXPIRE", index, life)
        names = [name.decode() for name in await self._wire.call(index, "ZRANGE", index, 0, -1)]
        if len(names) > MAX_SIGNED_IN:
            living = [name for name in names if await self._is_there(name, index)]
            for old in living[:-MAX_SIGNED_IN]:
                await self.drop(old, credential)

    async def get(self, name: str) -> bytes | None:
        key = keyspace.dashboard(name)
        record: bytes | None = await self._wire.call(key, "GET", key)
        return record

    async def keep(self, name: str, record: bytes, idle: int) -> None:
        """Write a record anew, for `idle` more. One that is gone stays gone."""
        key = keyspace.dashboard(name)
        await write_when_full(self._wire, key, "SET", record, "PX", idle, "XX")

    async def drop(self, name: str, credential: str) -> None:
        """Repeatable."""
        key, index = keyspace.dashboard(name), keyspace.dashboard_index(credential)
        await self._wire.call(key, "DEL", key)
        await self._wire.call(index, "ZREM", index, name)

    async def _is_there(self, name: str, index: str) -> bool:
        """A name whose record went with its TTL goes from the index."""
        key = keyspace.dashboard(name)
        there = bool(await self._wire.call(key, "EXISTS", key))
        if not there:
            await self._wire.call(index, "ZREM", index, name)
        return there
