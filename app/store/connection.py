"""One auto-pipelined connection: redis-py connects and shakes hands, then commands go out a tick at a time.

A command is sent at most once. When the connection is lost everything in flight fails with `StoreUnavailable`;
the next call connects again. A caller that is cancelled leaves its place in the queue, so that its command still
runs to its end and its reply is dropped.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

import hiredis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.connection import Connection as TcpConnection
from redis.exceptions import RedisError, ResponseError

from app.errors import StoreUnavailable
from app.store.wire import Argument, Script

_IN_FLIGHT: Final = 20_000
_CHUNK: Final = 1 << 16
_SCANNED: Final = 500
_ROUND_S: Final = 0.2
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


class Connection:
    def __init__(self, url: str, timeout_ms: int) -> None:
        self._timeout = timeout_ms / 1_000
        self._options: dict[str, Any] = {**parse_url(url), "socket_connect_timeout": self._timeout, "protocol": 2}
        self._class: type[AbstractConnection] = self._options.pop("connection_class", TcpConnection)
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._unsent: list[bytes] = []
        self._not_before = 0.0
        self._broken = False
        self._silent = False
        self._first: object = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._closed = False
        self._scripts: dict[str, Script] = {}
        self.shebang = False

    async def call(self, *command: Argument) -> Any:
        """The reply. Raises `StoreUnavailable`, or `ReplyError` for an error reply of another kind."""
        if self._writer is None:
            await self._connect()
        return await self.send(packed(*command))

    def send(self, packed: bytes) -> asyncio.Future[Any]:
        """Queue one packed command on an open connection; it leaves at the end of this tick."""
        if self._writer is None or self._silent or len(self._waiting) >= _IN_FLIGHT:
            raise StoreUnavailable
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if not self._unsent:
            loop.call_soon(self._flush)
        self._unsent.append(packed)
        self._waiting.append((future, loop.time() + self._timeout))
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
        if self._connecting is not None:
            self._connecting.cancel()
        reading, self._reading = self._reading, None
        self._drop("closed")
        if reading is not None:
            await asyncio.gather(reading, return_exceptions=True)

    def _fitting(self, script: Script) -> Script:
        """Servers from version 7 on take the flags of a script from its first line (Redis: "Eval scripts flags")."""
        if not self.shebang or not script.text.startswith(_OOM_FLAG):
            return script
        known = self._scripts.get(script.sha)
        if known is None:
            known = self._scripts[script.sha] = Script.of(script.name, _SHEBANG + script.text)
        return known

    async def _connect(self) -> None:
        """Connect once for all who wait. After a failure nobody waits: each is refused at once (the breaker is open)
        while one of them has set off the next try, until a try succeeds."""
        if self._closed or asyncio.get_running_loop().time() < self._not_before:
            raise StoreUnavailable
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._open())
            self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
        if self._broken:
            raise StoreUnavailable
        await joined(self._connecting)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        link = self._class(**self._options)
        try:
            async with asyncio.timeout(self._timeout):
                await link.connect()  # type: ignore[no-untyped-call]
                await link.send_command("INFO", "server")
                self.shebang = _major(await link.read_response()) >= 7
        except (RedisError, OSError, TimeoutError) as error:
            self._broken = True
            self._not_before = loop.time() + random.uniform(0.05, 0.25)  # noqa: S311
            await link.disconnect(nowait=True)
            raise StoreUnavailable from error
        except asyncio.CancelledError:
            await link.disconnect(nowait=True)
            raise
        finally:
            self._connecting = None
        reader, self._writer = link._reader, link._writer
        if reader is None or self._writer is None:
            raise StoreUnavailable
        link._reader = link._writer = None
        self._broken = False
        self._reading = asyncio.create_task(self._read(reader, self._writer))
        self._watchdog = loop.call_later(_ROUND_S, self._watch)

    def _flush(self) -> None:
        data, self._unsent = b"".join(self._unsent), []
        if self._writer is not None:
            self._writer.write(data)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader(replyError=ReplyError, protocolError=ReplyError)
        try:
            while data := await reader.read(_CHUNK):
                self._silent = False
                parser.feed(data)
                while (reply := parser.gets()) is not False:
                    self._answer(reply)
        except (OSError, ReplyError, IndexError):
            pass
        if self._writer is writer:
            self._drop("the connection was lost")

    def _answer(self, reply: Any) -> None:
        future, _ = self._waiting.popleft()
        if isinstance(reply, ReplyError):
            text = str(reply)
            if text.startswith(_STALE):
                asyncio.get_running_loop().call_soon(self._drop, text)
            reply = StoreUnavailable(text.split(" ", 1)[0]) if text.startswith(_AWAY) else reply
            if not future.done():
                future.set_exception(reply)
        elif not future.done():
            future.set_result(reply)

    def _watch(self) -> None:
        """One timer for all deadlines: who has waited longest decides. Past its deadline the connection is given up;
        still the first after a whole round, the server has gone silent, and nobody else joins those who wait."""
        loop = asyncio.get_running_loop()
        first = self._waiting[0] if self._waiting else None
        if first is not None and first[1] < loop.time():
            self._broken = True
            self._drop("no answer in time")
        elif self._writer is not None:
            self._silent = first is not None and first is self._first
            self._first = first
            self._watchdog = loop.call_later(_ROUND_S, self._watch)

    def _drop(self, why: str) -> None:
        """Give the connection up; what was in flight may or may not have run."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._writer is not None:
            self._writer.transport.abort()
        self._writer, self._unsent = None, []
        self._silent, self._first = False, None
        waiting, self._waiting = self._waiting, deque()
        for future, _ in waiting:
            if not future.done():
                future.set_exception(StoreUnavailable(why))


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


class SingleWire:
    """The wire of a single server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def call(self, key: str, *command: Argument) -> Any:
        return await self._connection.call(*command)

    async def script(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        return await self._connection.script(script, keys, args)

    async def each(self, *command: Argument) -> list[Any]:
        return [await self._connection.call(*command)]

    def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        return self._connection.scan(pattern)

    async def close(self) -> None:
        await self._connection.close()


def _major(info: Any) -> int:
    """The major version in an INFO answer; 0 where there is none."""
    text = info.decode() if isinstance(info, bytes) else str(info)
    for line in text.splitlines():
        if line.startswith("redis_version:"):
            return int(line.split(":")[1].split(".")[0])
    return 0
