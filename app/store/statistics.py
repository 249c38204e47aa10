"""What happened and what lives, added up for each tenant and for all together. All of it is small and bounded: a hash
for each hour with its minutes, one for each day with its hours, one of the living by kind (`app.census`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import msgspec

from app.errors import Unreadable
from app.model import DAY, HOUR, MINUTE
from app.store import keyspace
from app.store.base import Count
from app.store.hold import Hold
from app.store.wire import Command, Wire

EVERYONE: Final = "all"
"""In place of a tenant's id: the whole deployment."""

_MINUTES_KEPT: Final = 2 * HOUR
_HOURS_KEPT: Final = 9 * DAY
_KEYS_AT_ONCE: Final = 8
"""Of up to two thousand fields each: more commands than a connection takes at a time would be refused, and lost."""
_log: Final = logging.getLogger(__name__)

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
        A key that is not what it should be is begun anew; the nightly recount puts the living right.
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
        acts: list[Callable[[], Awaitable[None]]]
        acts = [partial(self._increase, key, sums) for key, sums in numbers.items()]
        acts += [partial(self._change, keyspace.living(name), sums) for name, sums in living.items()]
        failed: list[BaseException] = []
        for first in range(0, len(acts), _KEYS_AT_ONCE):
            some = acts[first : first + _KEYS_AT_ONCE]
            done = await asyncio.gather(*(act() for act in some), return_exceptions=True)
            failed += [error for error in done if error is not None]
        if failed:
            raise failed[0]

    async def _increase(self, key: str, sums: Counter[str]) -> None:
        kept = _HOURS_KEPT if key.startswith("hj:stats:") else _MINUTES_KEPT
        await self._written(key, [*(("HINCRBY", key, *pair) for pair in sums.items()), ("PEXPIRE", key, kept)])

    async def _change(self, key: str, sums: Counter[int]) -> None:
        left = await self._written(key, [("HINCRBY", key, *pair) for pair in sums.items()])
        if gone := [kind for kind, number in zip(sums, left, strict=True) if number == 0]:
            await self._wire.call(key, "HDEL", key, *gone)

    async def _written(self, key: str, commands: list[Command]) -> list[Any]:
        try:
            return await self._wire.batch(key, commands)
        except Unreadable as error:
            _log.error("the statistics in %s cannot be read (%s) and begin anew", key, error)
            return (await self._wire.batch(key, [("UNLINK", key), *commands]))[1:]

    async def living(self, name: str) -> Counter[int]:
        """How many sessions live, by kind; as of the last collection."""
        key = keyspace.living(name)
        return Counter({int(kind): int(number) for kind, number in await self._pairs(key) if int(number) > 0})

    async def put_living(self, name: str, living: Counter[int]) -> None:
        key = keyspace.living(name)
        flat = [part for pair in living.items() for part in pair]
        commands: list[Command] = [("UNLINK", key)]
        await self._wire.batch(key, [*commands, ("HSET", key, *flat)] if flat else commands)

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
                time, what = field.split(" ")
                if int(time) in times:
                    found[int(time), what] = int(number)
        return found

    async def note_worker(self, **at: int) -> None:
        """Put down some of `WorkerReport`."""
        flat = [part for pair in at.items() for part in pair]
        await self._wire.call(keyspace.WORKER, "HSET", keyspace.WORKER, *flat)

    async def worker(self) -> WorkerReport:
        said: dict[str, Any] = {name: int(number) for name, number in await self._pairs(keyspace.WORKER)}
        return WorkerReport(**said)

    async def _pairs(self, key: str) -> list[tuple[str, str]]:
        flat = await self._wire.call(key, "HGETALL", key)
        return [(name.decode(), value.decode()) for name, value in zip(flat[::2], flat[1::2], strict=True)]
