"""One tenant's events in the log of all, at a cost that does not depend on the events of others.

Each shard has an index of every tenant's entries: a sorted set of their ids. An entry says in its field `x` behind
which id the indexes of its shard are complete up to itself. So the last entry in a range shows how to read the range:
by the index, or, where an earlier version has written without it, entry by entry.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import msgspec

from app.client.shards import index_member
from app.errors import Unreadable
from app.model import SHARDS
from app.store import keyspace
from app.store.log import Entry, EventLog, Position, fields_of

_SHARDS_AT_ONCE: Final = 64
"""Leave the connection and the loop to others after each of these."""
_SCANNED: Final = 50
_FEWEST_IDS: Final = 4
_MOST_IDS: Final = 500
_LAST_SEQUENCE: Final = (1 << 64) - 1
_STREAM_ID: Final = re.compile(rb"(\d{1,15})(?:-(\d{1,20}))?")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Batch(msgspec.Struct, frozen=True):
    """Entries in order, the position behind them, and whether more are already final."""

    entries: list[Entry]
    position: Position
    more: bool


class _Source(msgspec.Struct):
    """The unread part of one shard, which ends with the entry `last`. `found`: what of it has been found, up to
    `reached`; without the entry where only its id is known. The index is complete behind `indexed`; `None`: nowhere."""

    shard: int
    reached: Position
    last: Position
    indexed: Position | None
    found: deque[tuple[Position, Entry | None]] = msgspec.field(default_factory=deque)
    done: bool = False


class TenantLog:
    """A tenant's entries after a position that are final, up to the millisecond `until`, read part by part.

    A damaged shard is left out: what it held is lost, or comes back with later ids.
    """

    def __init__(self, log: EventLog, tenant_id: str, after: Position, until: int | None = None) -> None:
        self._log = log
        self._tenant_id = tenant_id
        self._position = after
        self._until = until
        self._sources: list[_Source] | None = None

    async def read(self, most: int) -> Batch:
        """The next entries, up to `most`. A batch may be empty though there is more."""
        if self._sources is None:
            self._sources = await self._open()
        sources = self._sources
        size = max(_FEWEST_IDS, min(_MOST_IDS, 2 * most // max(1, len(sources))))
        await _in_turns(lambda source: self._find(source, size), [one for one in sources if _is_low(one, size)])
        end = Position(self._end, SHARDS, 0)
        reached = min((source.reached for source in sources if not source.done), default=end)
        places = sorted(place for source in sources for place, _ in source.found if place <= reached)
        if len(places) > most:
            reached = places[most - 1]
        entries = await self._taken(reached)
        self._sources = [source for source in sources if source.found or not source.done]
        self._position = max(self._position, reached if self._sources else end)
        return Batch(entries, self._position, bool(self._sources))

    async def _open(self) -> list[_Source]:
        """The shards in which anything at all was written in the range."""
        final = await self._log.final()
        self._end = final if self._until is None else min(self._until, final)
        if self._end < self._position.ms:
            return []
        found = await _in_turns(self._source, range(SHARDS))
        return [source for source in found if source is not None]

    async def _source(self, shard: int) -> _Source | None:
        key, start = keyspace.events(shard), _start(shard, self._position)
        try:
            rows = await self._log.wire.call(key, "XREVRANGE", key, self._end, f"({start.stream_id}", "COUNT", 1)
        except Unreadable as error:
            self._log.report_damage(shard, error)
            return None
        if not rows:
            return None
        said = _STREAM_ID.fullmatch(fields_of(rows[0]).get(b"x", b""))
        indexed = Position(int(said[1]), shard, int(said[2] or 0)) if said else None
        return _Source(shard, start, Position.of(shard, rows[0][0]), indexed)

    async def _find(self, source: _Source, size: int) -> None:
        try:
            if source.indexed is not None and source.indexed <= source.reached:
                await self._find_by_index(source, size)
            else:
                await self._scan(source)
        except Unreadable as error:
            self._log.report_damage(source.shard, error)
            source.done = True

    async def _find_by_index(self, source: _Source, size: int) -> None:
        key = keyspace.event_ids(source.shard, self._tenant_id)
        first, last = f"({_member(source.reached)}", f"[{_member(source.last)}"
        try:
            members = await self._log.wire.call(key, "ZRANGE", key, first, last, "BYLEX", "LIMIT", 0, size)
        except Unreadable:  # the tenant's next event in the shard replaces it
            source.indexed = None
            return
        source.found.extend((_indexed_at(source.shard, member), None) for member in members)
        source.done = len(members) < size
        if members:
            source.reached = source.found[-1][0]

    async def _scan(self, source: _Source) -> None:
        """Read entry by entry up to where the index begins."""
        key, end = keyspace.events(source.shard), source.indexed or source.last
        first = f"({source.reached.stream_id}"
        rows = await self._log.wire.call(key, "XRANGE", key, first, end.stream_id, "COUNT", _SCANNED)
        own = self._tenant_id.encode()
        entries = [Entry.of(source.shard, row) for row in rows if fields_of(row).get(b"n") == own]
        source.found.extend((entry.position, entry) for entry in entries)
        if len(rows) == _SCANNED:
            source.reached = Position.of(source.shard, rows[-1][0])
        else:
            source.reached, source.done = end, source.indexed is None

    async def _taken(self, reached: Position) -> list[Entry]:
        """The entries found up to `reached`, in order, which the sources then hold no more."""
        entries: list[Entry] = []
        wanted: dict[int, list[Position]] = {}
        for source in self._sources or ():
            while source.found and source.found[0][0] <= reached:
                place, entry = source.found.popleft()
                if entry is None:
                    wanted.setdefault(source.shard, []).append(place)
                else:
                    entries.append(entry)
        for fetched in await _in_turns(lambda one: self._fetched(*one), [*wanted.items()]):
            entries += fetched
        return sorted(entries, key=lambda entry: entry.position)

    async def _fetched(self, shard: int, places: list[Position]) -> list[Entry]:
        """The entries at these places that are still there."""
        key = keyspace.events(shard)
        asked = [("XRANGE", key, place.stream_id, place.stream_id) for place in places]
        try:
            replies = await self._log.wire.batch(key, asked)
        except Unreadable as error:
            self._log.report_damage(shard, error)
            return []
        return [Entry.of(shard, row) for rows in replies for row in rows]


def _member(place: Position) -> str:
    return index_member(place.ms, place.sequence)


def _indexed_at(shard: int, member: bytes) -> Position:
    ms, _, sequence = re.split(rb"([a-t])", member)
    return Position(int(ms), shard, int(sequence))


def _start(shard: int, after: Position) -> Position:
    """The last place of one shard that is not behind `after`."""
    if shard == after.shard:
        return after
    ms = after.ms if shard < after.shard else after.ms - 1
    return Position(ms, shard, _LAST_SEQUENCE) if ms >= 0 else Position(0, shard, 0)


def _is_low(source: _Source, size: int) -> bool:
    return not source.done and len(source.found) < size // 2


async def _in_turns(work: Callable[[Item], Awaitable[Result]], items: Sequence[Item]) -> list[Result]:
    """The results of `work` on each item, a bounded number side by side."""
    found: list[Result] = []
    for first in range(0, len(items), _SHARDS_AT_ONCE):
        found += await asyncio.gather(*(work(item) for item in items[first : first + _SHARDS_AT_ONCE]))
        await asyncio.sleep(0)
    return found
