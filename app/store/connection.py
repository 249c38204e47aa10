"""One auto-pipelined connection: redis-py connects and shakes hands, then commands go out a tick at a time.

A command is sent at most once. When the connection is lost everything in flight fails with `StoreUnavailable`;
the next call connects again. A caller that is cancelled leaves its place in the queue, so that its command still
runs to its end and its reply is dropped.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import hiredis
import msgspec
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.connection import Connection as TcpConnection
from redis.exceptions import RedisError, ResponseError

from app.errors import StoreUnavailable
from app.store.wire import Argument, Command, Script

_IN_FLIGHT: Final = 20_000
_SCANNED: Final = 500
_ROUND_S: Final = 0.2
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


class ReplyError(ResponseError):
    """An error reply as the server sent it."""


class _Asked(msgspec.Struct, eq=False):
    """Commands that went out together, and what has come back so far. Error replies lie among the others;
    `refused` is one of them that means the server is in no state to serve."""

    future: asyncio.Future[list[Any]]
    until: float
    count: int
    replies: list[Any]
    refused: StoreUnavailable | None = None


class Connection:
    def __init__(self, url: str, timeout_ms: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout_ms / 1_000
        self._options: dict[str, Any] = {**parse_url(url), "socket_connect_timeout": self._timeout, "protocol": 2}
        self._class: type[AbstractConnection] = self._options.pop("connection_class", TcpConnection)
        self._writer: asyncio.StreamWriter | None = None
        self._replies: _Replies | None = None
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
        self._closed = False
        self._scripts: dict[str, Script] = {}
        self.shebang = False

    async def call(self, *command: Argument) -> Any:
        """The reply. Raises `StoreUnavailable`, or `ReplyError` for an error reply of another kind."""
        if self._writer is None:
            await self._connect()
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

    async def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """The keys of this server that match, page by page."""
        cursor = b"0"
        while True:
            cursor, keys = await self.call("SCAN", cursor, "MATCH", pattern, "COUNT", _SCANNED)
            if keys:
                yield keys
            if cursor == b"0":
                return

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
        if not self.shebang or not script.text.startswith(_OOM_FLAG):
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
        link = self._class(**self._options)
        try:
            async with asyncio.timeout(self._timeout):
                await link.connect()  # type: ignore[no-untyped-call]
                await link.send_command("INFO", "server")
                self.shebang = _major(await link.read_response()) >= 7
        except (RedisError, OSError, TimeoutError) as error:
            self._broken = True
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
        self._replies = _Replies(self._heard, self._answer, self._lost)
        writer.transport.set_protocol(self._replies)
        self._writer = writer
        self._broken = False
        self._watchdog = self._loop.call_later(_ROUND_S, self._watch)

    def _flush(self) -> None:
        data, self._unsent = b"".join(self._unsent), []
        if self._writer is not None:
            self._writer.write(data)

    def _heard(self) -> None:
        self._silent = False

    def _lost(self, replies: _Replies) -> None:
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
            if text.startswith(_AWAY):
                asked.refused = StoreUnavailable(text.split(" ", 1)[0])
        if len(asked.replies) < asked.count:
            return
        self._waiting.popleft()
        if asked.future.done():
            return
        if asked.refused is None:
            asked.future.set_result(asked.replies)
        else:
            asked.future.set_exception(asked.refused)

    def _watch(self) -> None:
        """One timer for all deadlines: who has waited longest decides. Past its deadline the connection is given up;
        still the first for the same reply after a whole round, the server has gone silent, and nobody else joins those
        who wait."""
        first = self._waiting[0] if self._waiting else None
        if first is not None and first.until < self._loop.time():
            self._broken = True
            self._drop("no answer in time")
        elif self._writer is not None:
            next_reply = None if first is None else (first, len(first.replies))
            self._silent = next_reply is not None and next_reply == self._first
            self._first = next_reply
            self._watchdog = self._loop.call_later(_ROUND_S, self._watch)

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


class _Replies(asyncio.Protocol):
    """What comes back on one open connection, until it ends. Nobody stands between the transport and the waiting."""

    def __init__(
        self, heard: Callable[[], None], answer: Callable[[Any], None], lost: Callable[[_Replies], None]
    ) -> None:
        self._parser = hiredis.Reader(replyError=ReplyError, protocolError=ReplyError)
        self._heard, self._answer, self._lost = heard, answer, lost
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._heard()
        try:
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not False:
                self._answer(reply)
        except (ReplyError, IndexError):  # not the protocol, or an answer to no question
            self._lost(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()
        self._lost(self)


async def joined(task: asyncio.Task[None]) -> None:
    """Wait for work that others wait for too. When it is cancelled from outside, the waiter is not: it is refused."""
    await asyncio.wait([task])
    if task.cancelled():
        raise StoreUnavailable
    task.result()


def packed(*command: Any) -> bytes:
    """A command in the wire format (RESP). Typed loosely: hiredis's stub names one type for all arguments."""
    data: bytes = hiredis.pack_command(command)
    return data


def _major(info: Any) -> int:
    """The major version in an INFO answer; 0 where there is none."""
    text = info.decode() if isinstance(info, bytes) else str(info)
    for line in text.splitlines():
        if line.startswith("redis_version:"):
            return int(line.split(":")[1].split(".")[0])
    return 0
