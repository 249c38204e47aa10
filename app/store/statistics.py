"""What happened and what lives, added up for each tenant and for all together. All of it is small and bounded: a hash
for each hour with its minutes, one for each day with its hours, one of the living by kind (`app.census`).
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from app.model import DAY, HOUR, MINUTE
from app.store import keyspace
from app.store.base import Count
from app.store.essential import write_when_full
from app.store.hold import Hold
from app.store.wire import Script, Wire

EVERYONE: Final = "all"
"""In place of a tenant's id: the whole deployment."""

_MINUTES_KEPT: Final = 2 * HOUR
_HOURS_KEPT: Final = 9 * DAY
_AT_ONCE: Final = 64
_FIELDS: Final = 500
"""Of a hash that are added to in one act: well below a millisecond."""

_ADD: Final = Script.of(
    "add",
    """-- flags: allow-oom
-- Add to the fields of a hash. What is no hash, and a field that is no number, begins anew; fields that come to 0 go.
-- KEYS hash · ARGV TTL in ms (0: none), field, number …
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end
for i = 2, #ARGV, 2 do
  local sum = redis.pcall('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
  if type(sum) ~= 'number' then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  elseif sum == 0 then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end""",
)

Happened = dict[tuple[int, str], int]
"""How often what, by the number of a minute or hour since the epoch."""


class WorkerReport(msgspec.Struct, frozen=True):
    """When a worker was last alive, last looked at what was due, and last collected what the scripts count; `lag`: how
    late it then was with the sessions that were due. Milliseconds."""

    seen_at: int | None = None
    swept_at: int | None = None
    collected_at: int | None = None
    lag: int = 0


class Statistics:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Nobody else collects or counts anew meanwhile; False while another does."""
        hold = Hold(self._wire, keyspace.COUNTING)
        if not await hold.take():
            yield False
            return
        async with hold.kept():
            try:
                yield True
            finally:
                await hold.drop()

    async def add(self, counts: list[Count], now: int) -> None:
        """Put what was collected to the minutes of the last two hours, the hours of eight days, and the living. It is
        nowhere else any more: where one key does not take its part, the others get theirs before the error is raised.
        """
        numbers: dict[str, Counter[str]] = defaultdict(Counter)
        living: dict[str, Counter[int]] = defaultdict(Counter)
        for count in counts:
            for name in (count.tenant_id, EVERYONE):
                hour = count.minute // 60
                numbers[keyspace.hours(name, hour // 24)][f"{hour} {count.what}"] += count.number
                if count.minute * MINUTE > now - _MINUTES_KEPT:
                    numbers[keyspace.minutes(name, hour)][f"{count.minute} {count.what}"] += count.number
                living[name][count.kind] += count.number if count.what == "created" else -count.number
        parts = [(key, _kept(key), part) for key, sums in numbers.items() for part in _parts(sums)]
        parts += [(keyspace.living(name), 0, part) for name, sums in living.items() for part in _parts(sums)]
        failed: list[BaseException] = []
        for first in range(0, len(parts), _AT_ONCE):
            done = await asyncio.gather(
                *(self._wire.script(_ADD, [key], [kept, *part]) for key, kept, part in parts[first : first + _AT_ONCE]),
                return_exceptions=True,
            )
            failed += [error for error in done if isinstance(error, BaseException)]
        if failed:
            raise failed[0]

    async def living(self, name: str) -> Counter[int]:
        """How many sessions live, by kind; as of the last collection. Fields that say nothing are passed over."""
        key = keyspace.living(name)
        pairs = [(kind, number) for kind, number in await self._pairs(key) if kind.isdecimal() and number.isdecimal()]
        return Counter({int(kind): int(number) for kind, number in pairs if int(number) > 0})

    async def put_living(self, name: str, living: Counter[int]) -> None:
        key = keyspace.living(name)
        flat = [part for pair in living.items() for part in pair]
        await self._wire.call(key, "UNLINK", key)
        if flat:
            await write_when_full(self._wire, key, "HSET", *flat)

    async def by_minute(self, name: str, minutes: range) -> Happened:
        """Kept for two hours."""
        hours = range(minutes.start // 60, (minutes.stop - 1) // 60 + 1)
        return await self._happened([keyspace.minutes(name, hour) for hour in hours], minutes)

    async def by_hour(self, name: str, hours: range) -> Happened:
        """Kept for eight days."""
        days = range(hours.start // 24, (hours.stop - 1) // 24 + 1)
        return await self._happened([keyspace.hours(name, day) for day in days], hours)

    async def _happened(self, keys: list[str], times: range) -> Happened:
        found: Happened = {}
        for pairs in await asyncio.gather(*(self._pairs(key) for key in keys)):
            for field, number in pairs:
                time, _, what = field.partition(" ")
                if time.isdecimal() and int(time) in times and number.isdecimal():
                    found[int(time), what] = int(number)
        return found

    async def note_worker(self, **at: int) -> None:
        """Put down some of `WorkerReport`."""
        flat = [part for pair in at.items() for part in pair]
        await write_when_full(self._wire, keyspace.WORKER, "HSET", *flat)

    async def worker(self) -> WorkerReport:
        said: dict[str, Any] = {name: int(number) for name, number in await self._pairs(keyspace.WORKER)}
        return WorkerReport(**said)

    async def _pairs(self, key: str) -> list[tuple[str, str]]:
        flat = await self._wire.call(key, "HGETALL", key)
        return [(name.decode(), value.decode()) for name, value in zip(flat[::2], flat[1::2], strict=True)]


def _parts(sums: Counter[Any]) -> Iterator[list[Any]]:
    """Field, number … of so many fields at a time."""
    flat = [part for pair in sums.items() for part in pair]
    for first in range(0, len(flat), 2 * _FIELDS):
        yield flat[first : first + 2 * _FIELDS]


def _kept(key: str) -> int:
    return _HOURS_KEPT if key.startswith("hj:stats:") else _MINUTES_KEPT
