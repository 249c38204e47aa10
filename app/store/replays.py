"""Answers kept for calls that may be repeated: one string each, gone by its TTL."""

from __future__ import annotations

from app.store import keyspace
from app.store.wire import Wire


class ReplayStore:
    """Every method may raise `StoreUnavailable`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def claim(self, name: str, value: bytes, for_ms: int) -> bool:
        """Write what begins a call, unless there is something; whether it was written."""
        key = keyspace.replay(name)
        return await self._wire.call(key, "SET", key, value, "PX", for_ms, "NX") is not None

    async def get(self, name: str) -> bytes | None:
        key = keyspace.replay(name)
        value: bytes | None = await self._wire.call(key, "GET", key)
        return value

    async def put(self, name: str, value: bytes, for_ms: int) -> None:
        key = keyspace.replay(name)
        await self._wire.call(key, "SET", key, value, "PX", for_ms)

    async def drop(self, name: str) -> None:
        key = keyspace.replay(name)
        await self._wire.call(key, "DEL", key)
