"""Answers kept for calls that may be repeated: one string each, gone by its TTL."""

from __future__ import annotations

from app.store import keyspace
from app.store.hold import Hold
from app.store.wire import Wire


class ReplayStore:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def claim(self, name: str, fingerprint: bytes) -> Hold:
        """What a call takes before it acts and turns into its answer afterwards."""
        return Hold(self._wire, keyspace.replay(name), fingerprint)

    async def get(self, name: str) -> bytes | None:
        """Raises `StoreUnavailable`."""
        key = keyspace.replay(name)
        value: bytes | None = await self._wire.call(key, "GET", key)
        return value
