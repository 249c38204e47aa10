"""The feed: events as they happen, from one shared reader for all who listen in this process.

At least once: a listener catches up from its cursor, then follows. The cursor it is told moves with each full pass
over the log, so after a break it may meet events again (the same `id`) but never a hole.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec

from app.client.events import Event
from app.errors import CursorExpired, StoreUnavailable
from app.model import SHARDS
from app.store.doorbell import Doorbell
from app.store.log import EventLog, Position

_PASS_S: Final = 2.0
_RETRY_S: Final = 0.2
_WAITING: Final = 2_000
_ROUNDS: Final = 20


class EventPage(msgspec.Struct, frozen=True):
    events: list[Event]
    position: Position
    more: bool


class Listener:
    """A bounded queue of events, and of positions (a full pass is done up to there). `lost` ends it: too slow."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event | Position] = asyncio.Queue(_WAITING)
        self.lost = False

    def put(self, item: Event | Position) -> None:
        try:
            self.queue.put_nowait(item)
        except asyncio.QueueFull:
            self.lost = True


class Feed:
    """Reads Redis only while someone listens."""

    def __init__(self, log: EventLog, doorbell: Doorbell, retention_ms: int) -> None:
        self._log = log
        self._doorbell = doorbell
        self._retention = retention_ms
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        self._tasks: list[asyncio.Task[None]] = []
        self._next: list[str] = []
        self._rung: set[int] = set()
        self._wake = asyncio.Event()

    async def page(self, tenant_id: str, after: Position | None, limit: int) -> EventPage:
        """A tenant's events after a position, oldest first; `None` begins with the oldest that are kept.

        Raises `CursorExpired` if events may have been dropped since.
        """
        position = await self._checked(after)
        found: list[Event] = []
        for _ in range(_ROUNDS):
            batch = await self._log.read(position)
            mine = [(place, event) for place, event in batch.events if event.tenant_id == tenant_id]
            room = limit - len(found)
            found += [event for _, event in mine[:room]]
            if len(mine) > room:
                return EventPage(found, mine[room - 1][0], True)
            position = batch.position
            if not batch.more or len(found) == limit:
                return EventPage(found, position, batch.more)
        return EventPage(found, position, True)

    async def follow(self, tenant_id: str, after: Position | None) -> AsyncGenerator[Event | Position, None]:
        """Everything after a position (`None`: from now on), then what happens, for ever. A `Position` says that all
        up to it has been given; the caller may stop whenever it gets one. Ends when the listener is too slow.

        Raises `CursorExpired` before anything is given.
        """
        start = Position(await self._log.final(), SHARDS, 0) if after is None else await self._checked(after)
        async with self._listening(tenant_id) as listener:
            page = await self.page(tenant_id, start, _WAITING)
            while True:
                given = {event.id for event in page.events}
                for event in page.events:
                    yield event
                yield page.position
                if not page.more:
                    break
                page = await self.page(tenant_id, page.position, _WAITING)
            async for event in self._rest(tenant_id, page.position):
                given.add(event.id)
                yield event
            while not listener.lost:
                item = await listener.queue.get()
                if isinstance(item, Position):
                    given.clear()
                    if item > page.position:
                        yield item
                elif item.id not in given:
                    yield item

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _checked(self, after: Position | None) -> Position:
        """A position inside the retention. Raises `CursorExpired`."""
        oldest = await self._log.final() - self._retention
        if after is None:
            return Position(oldest, 0, 0)
        if after.ms < oldest:
            raise CursorExpired
        return after

    async def _rest(self, tenant_id: str, position: Position) -> AsyncGenerator[Event, None]:
        """What lies behind a final position but is not final yet; some of it also comes through the queue."""
        start = str(position.ms + 1)
        for found in await asyncio.gather(*(self._log.present(shard, start) for shard in range(SHARDS))):
            for _, event in found:
                if event.tenant_id == tenant_id:
                    yield event

    @asynccontextmanager
    async def _listening(self, tenant_id: str) -> AsyncIterator[Listener]:
        listener = Listener()
        self._listeners[tenant_id].add(listener)
        try:
            await self._begin()
            yield listener
        finally:
            self._listeners[tenant_id].discard(listener)
            if not self._listeners[tenant_id]:
                del self._listeners[tenant_id]
            if not self._listeners:
                await self.close()

    async def _begin(self) -> None:
        if self._tasks:
            return
        start = f"{await self._log.final() + 1}-0"
        if not self._tasks:
            self._next = [start] * SHARDS
            self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._listen())]

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
        final = await self._log.final()
        self._rung = set()
        await asyncio.gather(*(self._read_shard(shard) for shard in range(SHARDS)))
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.put(Position(final, SHARDS, 0))

    async def _read_shard(self, shard: int) -> None:
        for stream_id, event in await self._log.present(shard, self._next[shard]):
            self._next[shard] = f"({stream_id}"
            for listener in self._listeners.get(event.tenant_id, ()):
                listener.put(event)
