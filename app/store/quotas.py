"""What of a quota has been used, by all processes together: one number for each, one script, one slot."""

from __future__ import annotations

from typing import Final

from app.store import keyspace
from app.store.wire import Script, Wire

_SPEND: Final = Script.of(
    "spend",
    """-- flags: allow-oom
-- The generic cell rate algorithm (ITU-T I.371): a bucket is the time at which it will be full again.
-- KEYS bucket · ARGV microseconds that the calls take to come back · returns microseconds until the bucket is full
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + tonumber(ARGV[1])
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', string.format('%.0f', math.ceil((full - now) / 1000)))
return full - now""",
)


class QuotaLedger:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def spend(self, name: str, seconds: float) -> float:
        """Take what needs `seconds` to come back out of the bucket `name`; in how many seconds it will be full again.
        By the server's clock, so that processes whose clocks differ agree. Raises `StoreUnavailable`."""
        took = max(1, round(seconds * 1_000_000))
        left: int = await self._wire.script(_SPEND, [keyspace.quota(name)], [took])
        return left / 1_000_000
