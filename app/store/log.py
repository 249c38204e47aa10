"""The event log: every shard's stream read as one sequence of events, in an order that a cursor can name.

Entries are ordered by (millisecond, shard, sequence). Stream ids come from the servers' clocks and only grow, so once
every primary's clock has passed a millisecond nothing can appear in it any more: up to there the order is final, and
a reader that goes on from a position misses nothing (Redis Streams, "Entry IDs").
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, NamedTuple

import msgspec

from app.client.events import Event, event_of
from app.client.shards import base32
from app.errors import Unreadable
from app.log import Lasting
from app.model import SHARDS, shard_of_event
from app.store import keyspace
from app.store.wire import Wire

_COUNT: Final = 500
_SHARDS_AT_ONCE: Final = 64
"""Leave the connection and the loop to others after each of these."""
_log: Final = logging.getLogger(__name__)


class Position(NamedTuple):
    """A place between entries: everything up to and including it has been read."""

    ms: int
    shard: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.ms}.{self.shard}.{self.sequence}"

    @classmethod
    def of(cls, shard: int, stream_id: bytes) -> Position:
        ms, _, sequence = stream_id.partition(b"-")
        return cls(int(ms), shard, int(sequence))

    @property
    def stream_id(self) -> str:
        return f"{self.ms}-{self.sequence}"

    @property
    def event_id(self) -> str:
        """The id of the event there."""
        return f"{base32(self.shard, 2)}-{self.stream_id}"


class Entry(msgspec.Struct):
    """An entry of the log. Its event is decoded when it is first asked for: most entries are of tenants whom nobody
    follows. `body` is the packed entry until then. `frame` is the event as it is sent, made once for all streams."""

    position: Position
    body: bytes | Event
    tenant_id: str = ""
    frame: bytes = b""

    def __post_init__(self) -> None:
        if not self.tenant_id:
            self.tenant_id = self.event.tenant_id

    @classmethod
    def of(cls, shard: int, row: list[Any]) -> Entry:
        """Raises `KeyError` for an entry that names no tenant."""
        return cls(Position.of(shard, row[0]), msgspec.msgpack.encode(row), fields_of(row)[b"n"].decode())

    @property
    def event(self) -> Event:
        if isinstance(self.body, bytes):
            self.body = event_of(self.position.shard, msgspec.msgpack.decode(self.body))
        return self.body


class EventLog:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._damaged = Lasting()

    @property
    def server(self) -> str:
        """As `Wire.server`."""
        return self.wire.server

    async def final(self) -> int:
        """The last millisecond in which nothing can appear any more: before the slowest primary's clock."""
        clocks = await self.wire.each("TIME")
        return min(int(seconds) * 1_000 + int(micros) // 1_000 for seconds, micros in clocks) - 1

    async def holds(self, event_id: str) -> bool:
        """Whether the log has this event; also true while that cannot be read."""
        key = keyspace.events(shard_of_event(event_id))
        stream_id = event_id.partition("-")[2]
        try:
            return bool(await self.wire.call(key, "XRANGE", key, stream_id, stream_id))
        except Unreadable as error:
            self.report_damage(shard_of_event(event_id), error)
            return True

    async def present(self, shard: int, start: str) -> list[Entry]:
        """Everything in one shard from a stream id on, final or not."""
        key = keyspace.events(shard)
        found: list[Entry] = []
        while True:
            rows = await self.wire.call(key, "XRANGE", key, start, "+", "COUNT", _COUNT)
            found += [Entry.of(shard, row) for row in rows]
            if len(rows) < _COUNT:
                return found
            start = f"({rows[-1][0].decode()}"

    async def between(self, after: int, until: int, most: int) -> list[Entry] | None:
        """The entries of all tenants behind the millisecond `after` up to `until`; `None` if more than `most`."""
        found: list[Entry] = []
        for first in range(0, SHARDS, _SHARDS_AT_ONCE):
            shards = range(first, first + _SHARDS_AT_ONCE)
            for entries in await asyncio.gather(*(self._between(shard, after, until, most) for shard in shards)):
                found += entries
            if len(found) > most:
                return None
        return found

    async def _between(self, shard: int, after: int, until: int, most: int) -> list[Entry]:
        """The same of one shard, and not many more than `most`."""
        key, start = keyspace.events(shard), str(after + 1)
        found: list[Entry] = []
        while len(found) <= most:
            try:
                rows = await self.wire.call(key, "XRANGE", key, start, until, "COUNT", _COUNT)
            except Unreadable as error:
                self.report_damage(shard, error)
                break
            found += [Entry.of(shard, row) for row in rows if b"n" in fields_of(row)]
            if len(rows) < _COUNT:
                break
            start = f"({rows[-1][0].decode()}"
        return found

    def report_damage(self, shard: int, error: Unreadable) -> None:
        """Log that a shard's part of the log is damaged, at most once a minute."""
        if self._damaged.came(asyncio.get_running_loop().time()):
            _log.error("the log of shard %d cannot be read, nor written (%s)", shard, error)


def fields_of(row: list[Any]) -> dict[bytes, bytes]:
    """The fields of an entry as the server sent it."""
    return dict(zip(row[1][::2], row[1][1::2], strict=True))
