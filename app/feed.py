"""The feed: events as they happen, from one shared reader for all who listen in this process.

At least once: a listener catches up from its bookmark, then follows. The bookmark it is told moves with each full pass
over the log, so after a break it may meet events again (the same `id`) but never a hole. Where a hole cannot be ruled
out it is told so, and given everything that still matters.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from app.client.events import Event
from app.errors import CursorExpired, CursorLost
from app.model import MINUTE, SHARDS
from app.reader import Beat, Bookmark, Reader
from app.store.log import Entry, EventLog, Position
from app.store.tenant_log import Batch, TenantLog

_AT_ONCE: Final = 4
_PAUSE_S: Final = 0.2
_PATIENCE_S: Final = 0.25
_PART: Final = 500
_log = logging.getLogger(__name__)


class EventPage(msgspec.Struct, frozen=True):
    events: list[Event]
    bookmark: Bookmark
    more: bool


class Reset(msgspec.Struct):
    """What follows, up to the next beat, is everything that still matters. `reason` is `snapshot` if it was asked
    for, else the code of the gap."""

    reason: str
    frame: bytes = b""


Item = Entry | Beat | Reset


class Feed:
    """Pages of the log, and what follows on them."""

    def __init__(self, log: EventLog, retention_ms: int, reader: Reader) -> None:
        self._log = log
        self._retention = retention_ms
        self._reader = reader
        self._few = asyncio.Semaphore(_AT_ONCE)
        self._turns = WeakValueDictionary[str, asyncio.Lock]()
        self._reaching = asyncio.Lock()
        self._reaching_for = WeakValueDictionary[str, asyncio.Lock]()
        self._too_far = 0
        self._tenants_too_far: dict[str, int] = {}

    async def page(self, tenant_id: str, after: Bookmark | None, limit: int, since: int = 0) -> EventPage:
        """A tenant's events after a bookmark, oldest first; `None` begins with the oldest that are kept since `since`.

        A page that takes long ends early and may be empty although there is more: where an earlier version has written
        the log, the events of all tenants have to be read.

        Raises `CursorExpired` if events may have been dropped since, `CursorLost` if some are proved to be gone.
        """
        position, seen = await self._checked(after, since)
        log, found = TenantLog(self._log, tenant_id, position), list[Event]()
        clock = asyncio.get_running_loop().time
        end = clock() + _PATIENCE_S
        while True:
            async with self._turn(tenant_id):
                batch = await log.read(limit - len(found))
            found += [entry.event for entry in batch.entries]
            seen = found[-1].id if found else seen
            if not batch.more or len(found) == limit or clock() > end:
                return EventPage(found, Bookmark(batch.position, seen), batch.more)

    async def follow(
        self, tenant_id: str, after: Bookmark | None, snapshot: bool, relevant_from: int, now: int
    ) -> AsyncGenerator[Sequence[Item], None]:
        """Everything after a bookmark, or from now on; then what happens, for ever. The caller may stop whenever it
        gets a `Beat`. Ends when the listener is too slow.

        If it was asked for, and after a gap by itself, a `Reset` and a snapshot come first: all since `relevant_from`
        (ms) that still matters at `now`.
        """
        reason = "snapshot" if snapshot else None
        if after is not None:
            try:
                await self._checked(after)
            except (CursorExpired, CursorLost) as gap:
                reason, after = gap.code, None
        async with self._reader.here():
            if reason is not None:
                yield [Reset(reason)]
                place = Position(relevant_from, 0, 0)
            else:
                place = Position(self._reader.final, SHARDS, 0) if after is None else after.position
            async with aclosing(self._behind(tenant_id, place)) as parts:
                async for entries, reached in parts:
                    yield [entry for entry in entries if reason is None or _matters(entry, now)]
                    place = reached
            with self._reader.listening(tenant_id) as listener:
                recent = self._reader.window.after(tenant_id, place) if reason or after else []
                first = [entry for entry in recent if reason is None or _matters(entry, now)]
                yield [*first, self._reader.beat(tenant_id, after)]
                while not listener.lost:
                    yield await listener.take()

    async def close(self) -> None:
        await self._reader.close()

    async def _checked(self, after: Bookmark | None, since: int = 0) -> Bookmark:
        """A bookmark inside the retention, whose last event is still there."""
        oldest = await self._log.final() - self._retention
        if after is None:
            return Bookmark(Position(max(oldest, since), 0, 0))
        if after.position.ms < oldest:
            raise CursorExpired
        if after.seen and _ms_of(after.seen) > oldest + MINUTE and not await self._log.holds(after.seen):
            _log.warning("state regression: a reader has seen event %s, which the log has lost", after.seen)
            raise CursorLost
        return after

    async def _behind(self, tenant_id: str, place: Position) -> AsyncGenerator[tuple[list[Entry], Position], None]:
        """A tenant's entries behind a place, in bounded parts, each with the place it reaches; until, at this very
        moment, what is left is little and in the window."""
        while True:
            need = place.ms if place.shard == SHARDS else place.ms - 1
            floor = await self._floor_for(tenant_id, need)
            if floor > need:
                async with aclosing(self._from_log(tenant_id, place, max(floor, self._reader.final))) as parts:
                    async for batch in parts:
                        place = batch.position
                        yield batch.entries, place
            else:
                entries = self._reader.window.after(
                    tenant_id, place, Position(self._reader.final, SHARDS, 0), _PART + 1
                )
                if len(entries) <= _PART:
                    return
                del entries[_PART:]
                place = entries[-1].position
                yield entries, place

    async def _floor_for(self, tenant_id: str, need: int) -> int:
        """The tenant's floor in the window, lowered to `need` if that is possible: for all tenants if what lies between
        is little, else for this one. Done once for all who ask."""
        window = self._reader.window
        async with self._reaching:
            if need < window.floor_of(tenant_id) and need >= self._too_far:
                await self._reach_back(need)
        async with self._reaching_for.setdefault(tenant_id, asyncio.Lock()):
            if self._tenants_too_far.get(tenant_id, 0) <= need < window.floor_of(tenant_id):
                await self._reach_back_for(tenant_id, need)
        return window.floor_of(tenant_id)

    async def _reach_back(self, need: int) -> None:
        window = self._reader.window
        floor = window.floor
        if floor > await self._log.final():
            return
        older = await self._log.between(need, floor, min(window.room, window.most // 4))
        if older is None:
            self._too_far = need + MINUTE
        elif window.floor == floor:
            window.reach_back(need, older)

    async def _reach_back_for(self, tenant_id: str, need: int) -> None:
        window, older = self._reader.window, list[Entry]()
        floor = window.floor_of(tenant_id)
        async with aclosing(self._from_log(tenant_id, Position(need, SHARDS, 0), floor)) as parts:
            async for batch in parts:
                older += batch.entries
                if len(older) > window.most:
                    self._tenants_too_far[tenant_id] = need + MINUTE
                    return
        if batch.position.ms == floor == window.floor_of(tenant_id):
            window.reach_back_for(tenant_id, need, older)

    async def _from_log(self, tenant_id: str, place: Position, until: int) -> AsyncGenerator[Batch, None]:
        """What the window does not hold, in bounded parts; few tenants read so at once."""
        log = TenantLog(self._log, tenant_id, place, until)
        while True:
            async with self._turn(tenant_id), self._few:
                batch = await log.read(_PART)
                if batch.position == place:  # a clock of the store that is a little behind
                    await asyncio.sleep(_PAUSE_S)
            yield batch
            if not batch.more:
                return

    def _turn(self, tenant_id: str) -> asyncio.Lock:
        """A tenant has one read of the log at a time, however many of its streams and pages ask."""
        return self._turns.setdefault(tenant_id, asyncio.Lock())


def _matters(entry: Entry, now: int) -> bool:
    """Whether an access token that the event is about could still pass `exp`."""
    return entry.event.not_after * 1_000 > now


def _ms_of(event_id: str) -> int:
    return int(event_id[3:].partition("-")[0])
