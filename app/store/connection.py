"""One auto-pipelined connection: redis-py connects and shakes hands, then commands go out a tick at a time.

A command is sent at most once. When the connection is lost everything in flight fails with `StoreUnavailable`;
the next call connects again. A caller that is cancelled leaves its place in the queue, so that its command still
runs to its end and its reply is dropped.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError

from app.client.redis_address import RedisAddress, as_address
from app.errors import StoreUnavailable
from app.store.faults import FAULTS, cause_in_reply
from app.store.handshake import Peer, handshake_cause, link_to, refuse_replica, shake_hands
from app.store.resp import Replies, ReplyError, packed
from app.store.wire import Argument, Command, NotPermitted, Script

_IN_FLIGHT: Final = 20_000
_ROUND_S: Final = 0.2
_LATE_S: Final = 0.05
_ROLE_S: Final = 1.0
_RETRY_S: Final = (0.2, 0.4)
"""From, to: between tries to connect when nobody asks, so that the first who asks after an outage is served."""
_AWAY: Final = (
    "LOADING",
    "BUSY ",
    "READONLY",
    "MISCONF",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "NOREPLICAS",
    "OOM ",
    "NOAUTH",
    "NOPERM",
)
_STALE: Final = ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN")
_OOM_FLAG: Final = "-- flags: allow-oom\n"
_SHEBANG: Final = "#!lua flags=allow-oom\n"


class _Asked(msgspec.Struct, eq=False):
    """Commands that went out together, and what has come back so far. Error replies lie among the others;
    `refused` is one of them that means the server is in no state to serve."""

    future: asyncio.Future[list[Any]]
    until: float
    count: int
    replies: list[Any]
    refused: StoreUnavailable | None = None


class Connection:
    """`primary_only`: a server that has become a replica is left, for what it says may be old; looked at once a second.
    `leads` is told the run id of the server that a new connection leads to, and "" when a server was left so."""

    def __init__(
        self,
        address: RedisAddress | str,
        timeout_ms: int,
        primary_only: bool = False,
        leads: Callable[[str], None] = lambda server: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout_ms / 1_000
        self._address = as_address(address)
        self._place = f"the store at {self._address.place}"
        self._writer: asyncio.StreamWriter | None = None
        self._replies: Replies | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: deque[_Asked] = deque()
        self._in_flight = 0
        self._unsent: list[bytes] = []
        self._not_before = 0.0
        self._broken = False
        self._retry: asyncio.TimerHandle | None = None
        self._silent = False
        self._first: tuple[_Asked, int] | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._round_at = 0.0
        self._excused = False
        self._closed = False
        self._primary_only = primary_only
        self._leads = leads
        self._ask_role_at = 0.0
        self._scripts: dict[str, Script] = {}
        self.peer = Peer()

    @property
    def connected(self) -> bool:
        return self._writer is not None

    @property
    def away(self) -> bool:
        """Whether the last try to reach the server failed, so that nothing is in flight."""
        return self._broken and self._writer is None

    async def call(self, *command: Argument) -> Any:
        """The reply. Raises `StoreUnavailable`, or `ReplyError` for an error reply of another kind."""
        if self._writer is None:
            await self._connect()
        if command[0] == "INFO" and not self.peer.info_permitted:
            raise NotPermitted
        [reply] = await self.send(packed(*command))
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    async def batch(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to several commands, as they come: a `ReplyError` among them is not raised."""
        if self._writer is None:
            await self._connect()
        return await self.send(b"".join([packed(*command) for command in commands]), len(commands))

    def send(self, packed: bytes, count: int = 1) -> asyncio.Future[list[Any]]:
        """Queue `count` packed commands on an open connection; they leave at the end of this tick."""
        if self._writer is None or self._silent or self._in_flight >= _IN_FLIGHT:
            raise StoreUnavailable
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(packed)
        self._in_flight += count
        self._waiting.append(_Asked(future, self._loop.time() + self._timeout, count, []))
        return future

    async def script(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        """EVALSHA; a server that does not know the script has not run it, so its text may follow."""
        if self._writer is None:
            await self._connect()
        script = self._fitting(script)
        rest = (len(keys), *keys, *args)
        try:
            return await self.call("EVALSHA", script.sha, *rest)
        except ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await self.call("EVAL", script.text, *rest)

    def follow(self, server: str) -> None:
        """Give up a connection that leads to another server than this."""
        if self._writer is not None and self.peer.server != server:
            self._drop("the address leads to another server")

    async def close(self) -> None:
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        self._drop("closed")
        if self._replies is not None:
            await self._replies.ended.wait()

    def _fitting(self, script: Script) -> Script:
        """Servers from version 7 on take the flags of a script from its first line (Redis: "Eval scripts flags")."""
        if not self.peer.shebang or not script.text.startswith(_OOM_FLAG):
            return script
        known = self._scripts.get(script.sha)
        if known is None:
            known = self._scripts[script.sha] = Script.of(script.name, _SHEBANG + script.text)
        return known

    def _begin(self) -> None:
        if self._connecting is None and self._writer is None and not self._closed:
            self._connecting = asyncio.create_task(self._open())
            self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _connect(self) -> None:
        """Connect once for all who wait. After a failure nobody waits: each is refused at once (the breaker is open)
        while one of them or time has set off the next try, until a try succeeds."""
        if self._closed or self._loop.time() < self._not_before:
            raise StoreUnavailable
        self._begin()
        if self._broken or self._connecting is None:
            raise StoreUnavailable
        await joined(self._connecting)

    async def _open(self) -> None:
        link = link_to(self._address, self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                peer = await shake_hands(link, self._primary_only, lambda text: FAULTS.degraded(self._place, text))
        except (RedisError, OSError, TimeoutError, StoreUnavailable) as error:
            self._broken = True
            FAULTS.saw(self._place, await handshake_cause(self._address, error))
            if self._retry is not None:
                self._retry.cancel()
            self._not_before = self._loop.time() + random.uniform(0.05, 0.25)  # noqa: S311
            self._retry = self._loop.call_later(random.uniform(*_RETRY_S), self._begin)  # noqa: S311
            await link.disconnect(nowait=True)
            raise StoreUnavailable from error
        except asyncio.CancelledError:
            await link.disconnect(nowait=True)
            raise
        finally:
            self._connecting = None
        reader, writer = link._reader, link._writer
        link._reader = link._writer = None
        if reader is None or writer is None:
            raise StoreUnavailable
        if reader.at_eof() or writer.transport.is_closing():
            writer.transport.abort()
            raise StoreUnavailable
        self._replies = Replies(self._heard, self._answer, self._lost)
        writer.transport.set_protocol(self._replies)
        self._writer = writer
        self._broken = False
        self.peer = peer
        FAULTS.worked(self._place)
        self._ask_role_at = self._loop.time() + _ROLE_S
        self._leads(peer.server)
        self._next_round()

    def _flush(self) -> None:
        data, self._unsent = b"".join(self._unsent), []
        if self._writer is not None:
            self._writer.write(data)

    def _heard(self) -> None:
        self._silent = False

    def _lost(self, replies: Replies) -> None:
        if self._replies is replies:
            self._drop("the connection was lost")

    def _answer(self, reply: Any) -> None:
        asked = self._waiting[0]
        self._in_flight -= 1
        asked.replies.append(reply)
        if isinstance(reply, ReplyError):
            text = str(reply)
            if text.startswith(_STALE):
                self._loop.call_soon(self._drop, text)
            if text.startswith("READONLY"):
                self._loop.call_soon(self._leads, "")
            if text.startswith(_AWAY):
                FAULTS.saw(self._place, cause_in_reply(text), in_reply=True)
                kind = NotPermitted if text.startswith("NOPERM") else StoreUnavailable
                asked.refused = kind(text.split(" ", 1)[0])
        if len(asked.replies) < asked.count:
            return
        self._waiting.popleft()
        if asked.future.done():
            return
        if asked.refused is None:
            asked.future.set_result(asked.replies)
        else:
            asked.future.set_exception(asked.refused)

    def _next_round(self) -> None:
        self._round_at = self._loop.time() + _ROUND_S
        self._watchdog = self._loop.call_at(self._round_at, self._watch)

    def _watch(self) -> None:
        """One timer for all deadlines: who has waited longest decides. Past its deadline the connection is given up;
        still the first for the same reply after a whole round, the server has gone silent, and nobody else joins those
        who wait. A round that begins late decides nothing, but the next one does: this process itself stood still, and
        maybe the whole machine and the server with it."""
        late = self._loop.time() - self._round_at > _LATE_S
        self._excused = late and not self._excused
        first = self._waiting[0] if self._waiting else None
        if not self._excused and first is not None and first.until < self._loop.time():
            self._broken = True
            FAULTS.saw(self._place, "no_answer")
            self._drop("no answer in time")
        elif self._writer is not None:
            next_reply = None if first is None else (first, len(first.replies))
            if not self._excused:
                self._silent = next_reply is not None and next_reply == self._first
            if not self._silent:
                FAULTS.worked(self._place)
            self._first = next_reply
            if self._primary_only and not self._silent and self._loop.time() >= self._ask_role_at:
                self._ask_role()
            self._next_round()

    def _ask_role(self) -> None:
        """No read is refused for being asked of a replica, so a process that only reads has to ask."""
        self._ask_role_at = self._loop.time() + _ROLE_S
        if self.peer.role_command is not None:
            with suppress(StoreUnavailable):
                self.send(self.peer.role_command).add_done_callback(self._told_role)

    def _told_role(self, answer: asyncio.Future[list[Any]]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            return
        try:
            refuse_replica(answer.result()[0])
        except StoreUnavailable as error:
            FAULTS.saw(self._place, "replica")
            self._drop(str(error))
            self._leads("")

    def _drop(self, why: str) -> None:
        """Give the connection up; what was in flight may or may not have run."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._writer is not None:
            self._writer.transport.abort()
        self._writer, self._unsent = None, []
        self._silent, self._first = False, None
        waiting, self._waiting, self._in_flight = self._waiting, deque(), 0
        for asked in waiting:
            if not asked.future.done():
                asked.future.set_exception(StoreUnavailable(why))


async def joined(task: asyncio.Task[None]) -> None:
    """Wait for work that others wait for too. When it is cancelled from outside, the waiter is not: it is refused."""
    await asyncio.wait([task])
    if task.cancelled():
        raise StoreUnavailable
    task.result()
