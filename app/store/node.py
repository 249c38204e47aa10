"""One server by two connections, one for reads and one for what writes, so that no read waits behind a write.

While a failover is under way a server holds writes back for as long as it takes and goes on answering reads (Redis:
CLIENT PAUSE WRITE, FAILOVER). On one connection replies come in the order of the commands, and all would wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from app.client.redis_address import RedisAddress
from app.store.connection import Connection
from app.store.resp import ReplyError
from app.store.wire import Argument, Command, Script

_SCANNED: Final = 500
_READS: Final = frozenset(
    "CLUSTER EXISTS GET HGET HGETALL HMGET HVALS INFO PING ROLE SCAN TIME TYPE XRANGE XREVRANGE "
    "ZCARD ZCOUNT ZMSCORE ZRANGE ZREVRANK ZSCAN ZSCORE".split()
)
"""What a server answers while it holds writes back."""


class Node:
    """Both connections lead to the same server: when one finds out that the address leads elsewhere now, or that the
    server has become a replica, the other is given up with it. So a write that was acknowledged is seen by every read
    that is asked for after that. `primary_only`: as for `Connection`."""

    def __init__(self, address: RedisAddress, timeout_ms: int, primary_only: bool = False) -> None:
        self._reads = Connection(address, timeout_ms, primary_only, lambda server: self._writes.follow(server))
        self._writes = Connection(address, timeout_ms, primary_only, self._writes_lead)

    @property
    def server(self) -> str:
        """As `Wire.server`."""
        return self._reads.peer.server

    @property
    def away(self) -> bool:
        """As `Connection.away`, and the other connection is not in use either."""
        return (self._reads.away or self._writes.away) and not (self._reads.connected or self._writes.connected)

    async def call(self, *command: Argument) -> Any:
        """As `Connection.call`."""
        return await self._for(command).call(*command)

    async def batch(self, commands: Sequence[Command]) -> list[Any]:
        """As `Connection.batch`; the first command decides for all. Nothing is asked for nothing."""
        return await self._for(commands[0]).batch(commands) if commands else []

    async def script(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        """As `Connection.script`."""
        return await self._for_writes.script(script, keys, args)

    async def asked(self, packed: bytes, count: int) -> list[Any]:
        """The replies to packed commands that must not be parted."""
        writes = self._for_writes
        await writes.call("PING")
        return await writes.send(packed, count)

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
        await self._reads.close()
        await self._writes.close()

    def _for(self, command: Command) -> Connection:
        return self._reads if command[0] in _READS else self._for_writes

    def _writes_lead(self, server: str) -> None:
        if not server or self._writes.peer.identified or self._reads.peer.identified:
            self._reads.follow(server)

    @property
    def _for_writes(self) -> Connection:
        """Without a run id (INFO is not permitted) nothing shows that two connections lead to one server: use one."""
        return self._writes if self._reads.peer.identified and self._writes.peer.identified else self._reads


class SingleWire:
    """The wire of a single server."""

    def __init__(self, address: RedisAddress, timeout_ms: int, primary_only: bool) -> None:
        self._node = Node(address, timeout_ms, primary_only)

    @property
    def server(self) -> str:
        return self._node.server

    async def call(self, key: str, *command: Argument) -> Any:
        return await self._node.call(*command)

    async def batch(self, key: str, commands: Sequence[Command]) -> list[Any]:
        replies = await self._node.batch(commands)
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise reply
        return replies

    async def script(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        return await self._node.script(script, keys, args)

    async def each(self, *command: Argument) -> list[Any]:
        return [await self._node.call(*command)]

    def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        return self._node.scan(pattern)

    async def close(self) -> None:
        await self._node.close()
