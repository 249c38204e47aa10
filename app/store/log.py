"""The log: every shard's stream read as one sequence of events, in an order that a cursor can name.

Entries are ordered by (millisecond, shard, sequence). Stream ids come from the servers' clocks and only grow, so once
every primary's clock has passed a millisecond nothing can appear in it any more: up to there the order is final, and
a reader that goes on from a position misses nothing (Redis Streams, "Entry IDs").
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

import msgspec

from app.client.events import Event, event_of
from app.model import SHARDS, shard_of_event
from app.store import keyspace
from app.store.wire import Wire

_COUNT: Final = 500
_PER_SHARD: Final = 50
_BREATH: Final = 100
_SHARDS_AT_ONCE: Final = 16
"""Whoever reads the whole log leaves the connection and the loop to others after each of these."""


class Position(NamedTuple):
    """A place between entries: everything up to and including it has been read."""

    ms: int
    shard: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.ms}.{self.shard}.{self.sequence}"

    @property
    def stream_id(self) -> str:
        return f"{self.ms}-{self.sequence}"


class Batch(msgspec.Struct, frozen=True):
    """Events in order, the position behind them, and whether more are already final."""

    events: list[tuple[Position, Event]]
    position: Position
    more: bool


class EventLog:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    @property
    def server(self) -> str:
        """As `Wire.server`."""
        return self._wire.server

    async def final(self) -> int:
        """The last millisecond in which nothing can appear any more: before the slowest primary's clock."""
        clocks = await self._wire.each("TIME")
        return min(int(seconds) * 1_000 + int(micros) // 1_000 for seconds, micros in clocks) - 1

    async def read(self, after: Position, until: int | None = None, tenant_id: str | None = None) -> Batch:
        """What is final after a position, of one tenant or of all, up to the millisecond `until`; about 50 entries for
        each shard."""
        final = await self.final()
        until = final if until is None else min(until, final)
        if until < after.ms:
            return Batch([], after, False)
        reach, rows = until, list[tuple[Position, Any]]()
        for first in range(0, SHARDS, _SHARDS_AT_ONCE):
            shards = range(first, first + _SHARDS_AT_ONCE)
            for some, whole in await asyncio.gather(*(self._slice(shard, after, until) for shard in shards)):
                reach = reach if whole else min(reach, some[-1][0].ms - 1)
                rows += some if tenant_id is None else _of(tenant_id.encode(), some)
        events: list[tuple[Position, Event]] = []
        for number, (position, entry) in enumerate(sorted(row for row in rows if row[0].ms <= reach)):
            if number % _BREATH == 0:
                await asyncio.sleep(0)
            events.append((position, event_of(position.shard, entry)))
        return Batch(events, Position(reach, SHARDS, 0), reach < until)

    async def holds(self, event_id: str) -> bool:
        """Whether the log has this event."""
        key = keyspace.events(shard_of_event(event_id))
        stream_id = event_id.partition("-")[2]
        return bool(await self._wire.call(key, "XRANGE", key, stream_id, stream_id))

    async def present(self, shard: int, start: str) -> list[tuple[Position, Event]]:
        """Everything in one shard from a stream id on, final or not."""
        key = keyspace.events(shard)
        found: list[tuple[Position, Event]] = []
        while True:
            rows = await self._wire.call(key, "XRANGE", key, start, "+", "COUNT", _COUNT)
            found += [(_position(shard, row[0]), event_of(shard, row)) for row in rows]
            if len(rows) < _COUNT:
                return found
            start = f"({rows[-1][0].decode()}"

    async def _slice(self, shard: int, after: Position, last: int) -> tuple[list[tuple[Position, Any]], bool]:
        """One shard's entries behind a position up to the millisecond `last`, and whether that is all of them. If not,
        at least one millisecond is whole, so that a reader always gets on."""
        key, start = keyspace.events(shard), str(after.ms)
        found: list[tuple[Position, Any]] = []
        while True:
            rows = await self._wire.call(key, "XRANGE", key, start, last, "COUNT", _PER_SHARD)
            found += [(place, row) for row in rows if (place := _position(shard, row[0])) > after]
            if len(rows) < _PER_SHARD:
                return found, True
            if found and found[-1][0].ms > found[0][0].ms:
                return found, False
            start = f"({rows[-1][0].decode()}"


def _of(tenant_id: bytes, rows: list[tuple[Position, Any]]) -> list[tuple[Position, Any]]:
    return [row for row in rows if dict(zip(row[1][1][::2], row[1][1][1::2], strict=True))[b"n"] == tenant_id]


def _position(shard: int, stream_id: bytes) -> Position:
    ms, _, sequence = stream_id.partition(b"-")
    return Position(int(ms), shard, int(sequence))
