"""The audit log of each tenant: one stream, appended to and never changed, of bounded length."""

from __future__ import annotations

from typing import Final

import msgspec

from app.store import keyspace
from app.store.wire import Script, Wire

KEPT: Final = 10_000
"""Entries of one log; the oldest go."""

_APPEND: Final = Script.of(
    "audit",
    """-- flags: allow-oom
-- Append an entry if the last one still is what was seen. KEYS log · ARGV id seen, entry, mac, how many to keep
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if (last[1] and last[1][1] or '') ~= ARGV[1] then return 0 end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', 'e', ARGV[2], 'm', ARGV[3])
return 1""",
)


class Kept(msgspec.Struct, frozen=True):
    """An entry as it lies in the log."""

    id: str
    entry: bytes
    mac: bytes


class AuditLog:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def append(self, name: str, after: str, entry: bytes, mac: bytes) -> bool:
        """Write behind the entry `after` (empty: as the first); False if others follow it already."""
        key = keyspace.audit(name)
        return bool(await self._wire.script(_APPEND, [key], [after, entry, mac, KEPT]))

    async def page(self, name: str, before: str | None, count: int) -> list[Kept]:
        """Newest first, those older than the entry `before`."""
        key = keyspace.audit(name)
        rows = await self._wire.call(key, "XREVRANGE", key, f"({before}" if before else "+", "-", "COUNT", count)
        return [Kept(row[0].decode(), row[1][1], row[1][3]) for row in rows]
