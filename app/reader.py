"""The one reader of the log for all who listen in this process: where it rang at once, everywhere every two seconds.

What it read lately lies in its window; each listener has a bounded queue. It reads only while somebody is here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final, NamedTuple

import msgspec

from app.client.events import Event
from app.errors import StoreUnavailable, Unreadable
from app.log import Lasting
from app.model import MINUTE, SHARDS
from app.store.doorbell import Doorbell
from app.store.log import Entry, EventLog, Position
from app.window import Window

_PASS_S: Final = 2.0
_RETRY_S: Final = 0.2
_WAITING: Final = 2_000
_REMEMBERED: Final = 50_000
_SHARDS_AT_ONCE: Final = 128
_TOLD_AT_ONCE: Final = 50
_TOLD_PAUSE_S: Final = 0.01
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


class Beat(msgspec.Struct):
    """All up to the bookmark has been given. `read_at`: when that was the present, in seconds of the loop's clock.
    `cursor`: the bookmark sealed, and `kids`: all signing keys at some moment since then, once for all who get the
    beat."""

    bookmark: Bookmark
    read_at: float
    cursor: str = ""
    kids: list[str] | None = None


class Listener:
    """A bounded queue. `lost` ends it: too slow."""

    def __init__(self) -> None:
        self.lost = False
        self._queue: asyncio.Queue[Entry | Beat] = asyncio.Queue(_WAITING)

    def put(self, item: Entry | Beat) -> None:
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            self.lost = True

    async def take(self) -> list[Entry | Beat]:
        """All that waits, at least one."""
        items = [await self._queue.get()]
        while not self._queue.empty():
            items.append(self._queue.get_nowait())
        return items


class Reader:
    """`final`: up to this millisecond everything has been read, and nothing can appear any more. `window` has it.

    `restore` is given the events that the log has lost though this process has read them.
    """

    def __init__(
        self,
        log: EventLog,
        doorbell: Doorbell,
        retention_ms: int,
        restore: Callable[[list[Event]], Awaitable[list[Event]]],
    ) -> None:
        self.window = Window(_REMEMBERED)
        self.final = 0
        self._log = log
        self._doorbell = doorbell
        self._retention = retention_ms
        self._restore = restore
        self._lost: dict[str, Event] = {}
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        self._seen: dict[str, Position] = {}
        self._guests = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._last: list[Position | None] = []
        self._start = self._server = ""
        self._read_at = 0.0
        self._ahead = 0.0
        self._late = 0
        self._rung: set[int] = set()
        self._wake = asyncio.Event()
        self._moving = asyncio.Lock()
        self._telling: asyncio.Task[None] | None = None

    @property
    def lag(self) -> int | None:
        """How late it read what it read last, or how long it has not been able to read at all: milliseconds. `None`
        while it does not read, because nobody follows."""
        if not self._tasks:
            return None
        overdue = asyncio.get_running_loop().time() - self._read_at - 2 * _PASS_S
        return max(self._late, round(overdue * 1_000))

    @asynccontextmanager
    async def here(self) -> AsyncIterator[None]:
        """While anyone is in here, it reads and the window is kept."""
        self._guests += 1
        try:
            async with self._moving:
                if not self._tasks:
                    await self._begin()
            yield
        finally:
            self._guests -= 1
            if not self._guests:
                await self.close()

    @contextmanager
    def listening(self, tenant_id: str) -> Iterator[Listener]:
        listener = Listener()
        self._listeners[tenant_id].add(listener)
        try:
            yield listener
        finally:
            self._listeners[tenant_id].discard(listener)
            if not self._listeners[tenant_id]:
                del self._listeners[tenant_id]

    def beat(self, tenant_id: str, after: Bookmark | None = None) -> Beat:
        """Up to the last full pass, or up to where the reader was before it."""
        place, seen = Position(self.final, SHARDS, 0), self._seen.get(tenant_id)
        event_id = seen.event_id if seen else after.seen if after else ""
        return Beat(Bookmark(place if after is None else max(place, after.position), event_id), self._read_at)

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        if self._telling is not None:
            tasks.append(self._telling)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin(self) -> None:
        self._read_at, self.final = asyncio.get_running_loop().time(), await self._log.final()
        self._ahead, self._late = self.final - self._read_at * 1_000, 0
        self.window.begin(self.final)
        self._seen.clear()
        self._last = [None] * SHARDS
        self._start = f"{self.final + 1}-0"
        self._tasks = [asyncio.create_task(self._for_ever(self._read))]
        self._hear()

    def _hear(self) -> None:
        """Listen anew: after a failover behind one address the old server keeps its connections, and is silent."""
        for listening in self._tasks[1:]:
            listening.cancel()
        self._server = self._log.server
        self._tasks = [self._tasks[0], asyncio.create_task(self._for_ever(self._listen))]

    async def _for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        """What nobody foresaw is logged, once a minute while it lasts, and begun again: followers wait for it."""
        fault = Lasting()
        while True:
            try:
                await work()
            except Exception:
                if times := fault.came(asyncio.get_running_loop().time()):
                    _log.exception("reading the log begins again; failures since this was last said: %d", times)
            await asyncio.sleep(_RETRY_S)

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
                    if self._log.server != self._server:
                        self._hear()
                    full_at = loop.time() + _PASS_S
                else:
                    rung, self._rung = self._rung, set()
                    await asyncio.gather(*(self._read_shard(shard) for shard in rung))
            except StoreUnavailable:
                await asyncio.sleep(_RETRY_S)
                full_at = loop.time()
                continue
            with suppress(TimeoutError):  # not by wait_for, which on Python 3.11 can lose a cancellation
                async with asyncio.timeout_at(full_at):
                    await self._wake.wait()
            self._wake.clear()

    async def _pass(self) -> None:
        begun, final = asyncio.get_running_loop().time(), await self._log.final()
        if self._lost:
            await self._carry_out([])
        self._ahead, self._rung = final - begun * 1_000, set()
        for first in range(0, SHARDS, _SHARDS_AT_ONCE):
            await asyncio.gather(*(self._read_shard(shard) for shard in range(first, first + _SHARDS_AT_ONCE)))
        self.final, self._read_at = max(final, self.final), begun
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        """Give everyone a beat, a few at a time: what happens meanwhile must not wait for thousands of them."""
        everyone = [(tenant_id, one) for tenant_id, some in self._listeners.items() for one in some]
        for first in range(0, len(everyone), _TOLD_AT_ONCE):
            beats: dict[str, Beat] = {}
            for tenant_id, listener in everyone[first : first + _TOLD_AT_ONCE]:
                if tenant_id not in beats:
                    beats[tenant_id] = self.beat(tenant_id)
                listener.put(beats[tenant_id])
            await asyncio.sleep(_TOLD_PAUSE_S)

    async def _read_shard(self, shard: int) -> None:
        """What is new in a shard. The entry that was read last is read again: its absence proves a loss, and then
        whatever was written since the loss may have an older id."""
        last = self._last[shard]
        try:
            rows = await self._log.present(shard, self._start if last is None else last.stream_id)
        except Unreadable as error:
            self._log.report_damage(shard, error)
            return
        if last is not None and rows and rows[0].position == last:
            rows = rows[1:]
        elif last is not None and last.ms > self.final - self._retention + MINUTE:
            rows = await self._after_a_loss(shard, last)
        if rows:
            self._late = max(0, round(asyncio.get_running_loop().time() * 1_000 + self._ahead) - rows[-1].position.ms)
        for entry in rows:
            self._last[shard] = self._seen[entry.tenant_id] = entry.position
            if self.window.add(entry):
                for listener in self._listeners.get(entry.tenant_id, ()):
                    listener.put(entry)

    async def _after_a_loss(self, shard: int, last: Position) -> list[Entry]:
        """What the shard still has of the last minute; what else is known of that time is restored."""
        since = last.ms - MINUTE
        rows = await self._log.present(shard, str(since))
        kept = {entry.position for entry in rows}
        lost = [entry.event for entry in self.window.of_shard(shard, since) if entry.position not in kept]
        _log.warning("state regression: the log of shard %d has lost %d events that were read", shard, len(lost))
        await self._carry_out(lost)
        self._last[shard] = None
        return rows

    async def _carry_out(self, lost: list[Event]) -> None:
        """Restore these, and what could not be restored before."""
        self._lost.update({event.id: event for event in lost})
        tried = [*self._lost.values()]
        left = await self._restore(tried)
        for event in tried:
            if event not in left:
                self._lost.pop(event.id, None)
