"""The feed: events as they happen, from one shared reader for all who listen in this process.

At least once: a listener catches up from its bookmark, then follows. The bookmark it is told moves with each full pass
over the log, so after a break it may meet events again (the same `id`) but never a hole. Where a hole cannot be ruled
out it is told so, and given everything that still matters.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import Final, NamedTuple

import msgspec

from app.client.events import Event
from app.errors import CursorExpired, CursorLost, StoreUnavailable
from app.model import MINUTE, SHARDS
from app.store.doorbell import Doorbell
from app.store.log import Batch, EventLog, Position
from app.window import Entry, Window

_PASS_S: Final = 2.0
_RETRY_S: Final = 0.2
_WAITING: Final = 2_000
_REMEMBERED: Final = 50_000
_AT_ONCE: Final = 4
_ROUNDS: Final = 20
_PART: Final = 500
_SHARDS_AT_ONCE: Final = 128
_log = logging.getLogger(__name__)


class Bookmark(NamedTuple):
    """A position, and the last event that its reader had been given by then: its absence proves a loss."""

    position: Position
    seen: str = ""

    def __str__(self) -> str:
        return f"{self.position}.{self.seen}"

    @classmethod
    def parse(cls, text: str) -> Bookmark:
        """The reverse of `str`."""
        ms, shard, sequence, *seen = text.split(".")
        return cls(Position(int(ms), int(shard), int(sequence)), "".join(seen))


class EventPage(msgspec.Struct, frozen=True):
    events: list[Event]
    bookmark: Bookmark
    more: bool


class Beat(msgspec.Struct):
    """All up to the bookmark has been given. `read_at`: when that was the present, in seconds of the loop's clock."""

    bookmark: Bookmark
    read_at: float
    frame: bytes = b""


class Reset(msgspec.Struct):
    """What follows, up to the next beat, is everything that still matters. `reason` is `snapshot` if it was asked
    for, else the code of the gap."""

    reason: str
    frame: bytes = b""


Item = Entry | Beat | Reset


class Listener:
    """A bounded queue. `lost` ends it: too slow."""

    def __init__(self) -> None:
        self.lost = False
        self._queue: asyncio.Queue[Item] = asyncio.Queue(_WAITING)

    def put(self, item: Item) -> None:
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            self.lost = True

    async def take(self) -> list[Item]:
        """All that waits, at least one."""
        items = [await self._queue.get()]
        while not self._queue.empty():
            items.append(self._queue.get_nowait())
        return items


class Feed:
    """Reads Redis only while someone follows."""

    def __init__(self, log: EventLog, doorbell: Doorbell, retention_ms: int) -> None:
        self._log = log
        self._doorbell = doorbell
        self._retention = retention_ms
        self._window = Window(_REMEMBERED)
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        self._seen: dict[str, str] = {}
        self._followers = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._last: list[Position | None] = []
        self._start = ""
        self._final = 0
        self._too_far = 0
        self._read_at = 0.0
        self._rung: set[int] = set()
        self._wake = asyncio.Event()
        self._reaching = asyncio.Lock()
        self._few = asyncio.Semaphore(_AT_ONCE)

    async def page(self, tenant_id: str, after: Bookmark | None, limit: int, since: int = 0) -> EventPage:
        """A tenant's events after a bookmark, oldest first; `None` begins with the oldest that are kept since `since`.

        Raises `CursorExpired` if events may have been dropped since, `CursorLost` if some are proved to be gone.
        """
        position, seen = await self._checked(after, since)
        found: list[Event] = []
        for _ in range(_ROUNDS):
            batch = await self._log.read(position)
            mine = [(place, event) for place, event in batch.events if event.tenant_id == tenant_id]
            room = limit - len(found)
            found += [event for _, event in mine[:room]]
            seen = found[-1].id if found else seen
            if len(mine) > room:
                return EventPage(found, Bookmark(mine[room - 1][0], seen), True)
            position = batch.position
            if not batch.more or len(found) == limit:
                return EventPage(found, Bookmark(position, seen), batch.more)
        return EventPage(found, Bookmark(position, seen), True)

    async def follow(
        self, tenant_id: str, after: Bookmark | None, relevant_from: int | None, now: int
    ) -> AsyncGenerator[list[Item], None]:
        """Everything after a bookmark, then what happens, for ever; the caller may stop whenever it gets a `Beat`.
        Ends when the listener is too slow.

        Without a bookmark: from now on, or with `relevant_from` (ms) first a snapshot, of all since then that still
        matters at `now`. After a gap a `Reset` and the snapshot come by themselves, since `relevant_from`.
        """
        reason = None if after is not None or relevant_from is None else "snapshot"
        if after is not None:
            try:
                await self._checked(after)
            except (CursorExpired, CursorLost) as gap:
                reason, after = gap.code, None
        async with self._reading():
            if reason is not None:
                yield [Reset(reason)]
                place = Position(now - MINUTE if relevant_from is None else relevant_from, 0, 0)
            else:
                place = Position(self._final, SHARDS, 0) if after is None else after.position
            async with aclosing(self._behind(tenant_id, place)) as parts:
                async for entries, reached in parts:
                    yield [entry for entry in entries if reason is None or _matters(entry, now)]
                    place = reached
            with self._listening(tenant_id) as listener:
                recent = self._window.after(tenant_id, place) if reason or after else []
                first = [entry for entry in recent if reason is None or _matters(entry, now)]
                yield [*first, self._beat(tenant_id, after)]
                while not listener.lost:
                    yield await listener.take()

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
            floor = await self._floor_for(need)
            if floor > need:
                batch = await self._read_few(place, floor)
                entries = [Entry(position, event) for position, event in batch.events if event.tenant_id == tenant_id]
                place = batch.position
            else:
                entries = self._window.after(tenant_id, place, Position(self._final, SHARDS, 0), _PART + 1)
                if len(entries) <= _PART:
                    return
                del entries[_PART:]
                place = entries[-1].position
            yield entries, place

    async def _read_few(self, place: Position, until: int) -> Batch:
        """From the log itself, what the window cannot hold; few do so at once."""
        async with self._few:
            batch = await self._log.read(place, until)
            if batch.position == place:  # a clock of the store that is a little behind
                await asyncio.sleep(_RETRY_S)
            return batch

    async def _floor_for(self, need: int) -> int:
        """The window's floor, lowered to `need` if what lies between fits in; done once for all who ask."""
        async with self._reaching:
            floor, older, place = self._window.floor, list[Entry](), Position(need, SHARDS, 0)
            while self._too_far < need and place.ms < floor:
                batch = await self._log.read(place, floor)
                older += [Entry(position, event) for position, event in batch.events]
                if len(older) > self._window.room:
                    self._too_far = need
                if self._too_far == need or self._window.floor != floor or batch.position == place:
                    break
                place = batch.position
            else:
                if self._too_far < need < floor:
                    self._window.reach_back(need, older)
            return self._window.floor

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        """While anyone is in here, the shared reader runs and the window is kept."""
        self._followers += 1
        try:
            async with self._reaching:
                if not self._tasks:
                    await self._begin()
            yield
        finally:
            self._followers -= 1
            if not self._followers:
                await self.close()

    async def _begin(self) -> None:
        self._read_at, self._final = asyncio.get_running_loop().time(), await self._log.final()
        self._window.begin(self._final)
        self._seen.clear()
        self._too_far = 0
        self._last = [None] * SHARDS
        self._start = f"{self._final + 1}-0"
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._listen())]

    @contextmanager
    def _listening(self, tenant_id: str) -> Iterator[Listener]:
        listener = Listener()
        self._listeners[tenant_id].add(listener)
        try:
            yield listener
        finally:
            self._listeners[tenant_id].discard(listener)
            if not self._listeners[tenant_id]:
                del self._listeners[tenant_id]

    def _beat(self, tenant_id: str, after: Bookmark | None = None) -> Beat:
        """Up to the last full pass, or up to where the reader was before it."""
        place = Position(self._final, SHARDS, 0)
        if after is None:
            return Beat(Bookmark(place, self._seen.get(tenant_id, "")), self._read_at)
        return Beat(Bookmark(max(place, after.position), self._seen.get(tenant_id, after.seen)), self._read_at)

    async def _listen(self) -> None:
        async for shard in self._doorbell.rings():
            self._rung.add(shard)
            self._wake.set()

    async def _read(self) -> None:
        """Read where it rang, at once; read everywhere, every two seconds. A fault loses nothing: positions stay."""
        loop = asyncio.get_running_loop()
        full_at = loop.time()
        while True:
            try:
                if loop.time() >= full_at:
                    await self._pass()
                    full_at = loop.time() + _PASS_S
                else:
                    rung, self._rung = self._rung, set()
                    await asyncio.gather(*(self._read_shard(shard) for shard in rung))
            except StoreUnavailable:
                await asyncio.sleep(_RETRY_S)
                full_at = loop.time()
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(0.0, full_at - loop.time()))
            self._wake.clear()

    async def _pass(self) -> None:
        begun, final = asyncio.get_running_loop().time(), await self._log.final()
        self._rung = set()
        for first in range(0, SHARDS, _SHARDS_AT_ONCE):
            await asyncio.gather(*(self._read_shard(shard) for shard in range(first, first + _SHARDS_AT_ONCE)))
        self._final, self._read_at = max(final, self._final), begun
        for tenant_id, listeners in self._listeners.items():
            beat = self._beat(tenant_id)
            for listener in listeners:
                listener.put(beat)

    async def _read_shard(self, shard: int) -> None:
        """What is new in a shard. The entry that was read last is read again: its absence proves a loss, and then
        whatever was written since the loss may have an older id."""
        last = self._last[shard]
        rows = await self._log.present(shard, self._start if last is None else last.stream_id)
        if last is not None and rows and rows[0][0] == last:
            rows = rows[1:]
        elif last is not None and last.ms > self._final - self._retention + MINUTE:
            _log.warning("state regression: the log of shard %d has lost what was after %d", shard, last.ms)
            self._last[shard] = None
            rows = await self._log.present(shard, str(last.ms - MINUTE))
        for position, event in rows:
            self._last[shard] = position
            self._seen[event.tenant_id] = event.id
            entry = Entry(position, event)
            if self._window.add(entry):
                for listener in self._listeners.get(event.tenant_id, ()):
                    listener.put(entry)


def _matters(entry: Entry, now: int) -> bool:
    """Whether an access token that the event is about could still pass `exp`."""
    return entry.event.not_after * 1_000 > now


def _ms_of(event_id: str) -> int:
    return int(event_id[3:].partition("-")[0])
