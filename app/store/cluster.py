"""The wire of a cluster: one `Node` per primary, commands routed by the slot of their key.

`MOVED`, `ASK` and `TRYAGAIN` mean that a command has not run, so it is sent again, a bounded number of times
(Redis Cluster specification, "Redirection and resharding"). After a lost connection only the map is renewed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from redis.crc import key_slot

from app.client.redis_address import RedisAddress, as_address, host_port
from app.errors import StoreUnavailable
from app.store.connection import joined
from app.store.faults import FAULTS
from app.store.node import Node
from app.store.resp import ReplyError, packed
from app.store.wire import Argument, Command, Script

_REDIRECTS: Final = 16
_ASKING: Final = packed("ASKING")

Act = Callable[[Node], Awaitable[Any]]


class ClusterWire:
    server = ""

    def __init__(self, address: RedisAddress | str, timeout_ms: int) -> None:
        self._address = as_address(address)
        self._seeds = [host_port(host) for host in self._address.hosts]
        self._timeout = timeout_ms
        self._nodes: dict[str, Node] = {}
        self._slots: list[str] = []
        self._renewing: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(cls, address: RedisAddress | str, timeout_ms: int) -> ClusterWire:
        """A wire that learns the map with its first command, so that a process may start before the cluster."""
        return cls(address, timeout_ms)

    async def call(self, key: str, *command: Argument) -> Any:
        return await self._route(key, lambda node: node.call(*command), command)

    async def batch(self, key: str, commands: Sequence[Command]) -> list[Any]:
        """While a slot moves, each command that is sent elsewhere goes there alone: some keys may lie here still."""
        replies: list[Any] = await self._route(key, lambda node: node.batch(commands), ())
        return [
            await self.call(key, *command) if isinstance(reply, ReplyError) else reply
            for command, reply in zip(commands, replies, strict=True)
        ]

    async def script(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        packed = ("EVAL", script.text, len(keys), *keys, *args)
        return await self._route(keys[0], lambda node: node.script(script, keys, args), packed)

    async def each(self, *command: Argument) -> list[Any]:
        if not self._slots:
            await self._renew()
        try:
            return await asyncio.gather(*(self._node(name).call(*command) for name in sorted(set(self._slots))))
        except StoreUnavailable:
            self._renew_soon()
            raise

    async def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        if not self._slots:
            await self._renew()
        for name in sorted(set(self._slots)):
            async for keys in self._node(name).scan(pattern):
                yield keys

    async def close(self) -> None:
        self._closed = True
        if self._renewing is not None:
            self._renewing.cancel()
        await asyncio.gather(*(node.close() for node in self._nodes.values()))

    async def _route(self, key: str, act: Act, command: tuple[Any, ...]) -> Any:
        slot, taker = key_slot(key.encode()), ""
        for attempt in range(_REDIRECTS):
            if not self._slots:
                await self._renew()
            name, asking, taker = taker or self._slots[slot], bool(taker), ""
            try:
                return await (self._ask(name, command) if asking else act(self._node(name)))
            except StoreUnavailable:
                self._renew_soon()
                raise
            except ReplyError as error:
                word, _, rest = str(error).partition(" ")
                if word == "MOVED":
                    self._slots[slot] = _address(rest, name)
                    self._renew_soon()
                elif word == "ASK":
                    taker = _address(rest, name)
                elif word == "TRYAGAIN":
                    await asyncio.sleep(random.uniform(0.01, 0.02) * (attempt + 1))  # noqa: S311
                else:
                    raise
        raise StoreUnavailable("the cluster keeps moving this slot")

    async def _ask(self, name: str, command: tuple[Any, ...]) -> Any:
        """ASKING and the command in one write on the node that is taking the slot over."""
        _, reply = await self._node(name).asked(_ASKING + packed(*command), 2)
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def _node(self, name: str) -> Node:
        if self._closed:
            raise StoreUnavailable
        node = self._nodes.get(name)
        if node is None:
            host, _, port = name.rpartition(":")
            address = self._address.at(host.strip("[]"), int(port))
            node = self._nodes[name] = Node(address, self._timeout)
        return node

    def _renew_soon(self) -> None:
        if self._renewing is None and not self._closed:
            self._renewing = asyncio.create_task(self._learn())
            self._renewing.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _renew(self) -> None:
        self._renew_soon()
        if self._renewing is None:
            raise StoreUnavailable
        await joined(self._renewing)

    async def _learn(self) -> None:
        """Ask the nodes we know, then the seeds, for the map of slots."""
        try:
            for name in [*dict.fromkeys([*self._nodes, *self._seeds])]:
                try:
                    rows = await self._node(name).call("CLUSTER", "SLOTS")
                except (StoreUnavailable, ReplyError):
                    continue
                slots = _map_of(rows, name)
                if slots is not None:
                    self._slots = slots
                    FAULTS.worked(f"the store at {self._address.place}")
                    await self._forget()
                    return
            FAULTS.saw(f"the store at {self._address.place}", "no_slot_map")
            raise StoreUnavailable("no node of the cluster knows the whole map")
        finally:
            self._renewing = None

    async def _forget(self) -> None:
        """Close the nodes that serve no slot and cannot be reached: they would be tried for ever. One that is taking
        its first slot over is connected, so it stays."""
        serving = set(self._slots)
        gone = [name for name, node in self._nodes.items() if node.away and name not in serving]
        await asyncio.gather(*(self._nodes.pop(name).close() for name in gone))


def _address(redirect: str, asked: str) -> str:
    """`host:port` of `<slot> <host>:<port>`. An empty host means the host of the node that was asked."""
    host, _, port = redirect.split(" ")[1].rpartition(":")
    return _joined(host or asked.rpartition(":")[0], port)


def _joined(host: str, port: int | str) -> str:
    return host_port((host.strip("[]"), int(port)))


def _map_of(rows: list[Any], asked: str) -> list[str] | None:
    """Slot number → primary, or `None` while slots are missing. An empty host means the host of the node asked."""
    slots: list[str] = [""] * 16_384
    for first, last, primary, *_ in rows:
        host = primary[0].decode() if primary[0] else asked.rpartition(":")[0]
        slots[first : last + 1] = [_joined(host, primary[1])] * (last + 1 - first)
    return slots if all(slots) else None
