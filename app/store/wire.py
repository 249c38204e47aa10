"""What the store asks of a server, whether it is one node or a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from hashlib import sha1
from typing import Any, Protocol

import msgspec

from app.client.redis_address import RedisAddress, as_address
from app.errors import StoreUnavailable

Argument = str | bytes | int | float
Command = tuple[Argument, ...]


class Script(msgspec.Struct, frozen=True):
    """A Lua script and the digest that EVALSHA names it by (SHA-1 is Redis's choice, not a secret's keeper)."""

    name: str
    text: str
    sha: str

    @classmethod
    def of(cls, name: str, text: str) -> Script:
        return cls(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


class Wire(Protocol):
    """Commands that were asked for within one tick of the event loop travel in one write.

    Replies are bytes, integers, lists or `None`. Raises `StoreUnavailable` when the server does not answer in time
    or is in no state to serve; a write may then have happened and is never sent again by this layer.
    """

    @property
    def server(self) -> str:
        """The run id of the single server that was reached last, so that a failover is noticed elsewhere too. Empty for
        a cluster, whose nodes tell each other."""

    async def call(self, key: str, *command: Argument) -> Any:
        """One command; `key` decides the node of a cluster."""

    async def batch(self, key: str, commands: Sequence[Command]) -> list[Any]:
        """The replies to several commands on keys of one slot, which `key` names. One write and one wake-up, but no
        transaction: others' commands may run between them."""

    async def script(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        """Run a script by its digest, or by its text where the server does not know it; `keys[0]` decides the node."""

    async def each(self, *command: Argument) -> list[Any]:
        """One command on every primary."""

    def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """The keys of every primary that match, page by page (Redis: SCAN; a key may come twice)."""

    async def close(self) -> None: ...


class NotPermitted(StoreUnavailable):
    """The server refuses this command to this user (NOPERM)."""


async def open_wire(address: RedisAddress | str, timeout_ms: int, *, primary_only: bool = True) -> Wire:
    """A wire to a single server or a cluster. A single server that is a replica counts as unavailable unless
    `primary_only` is false; in a cluster a replica redirects readers by itself."""
    from app.store.cluster import ClusterWire
    from app.store.node import SingleWire

    address = as_address(address)
    if address.cluster:
        return await ClusterWire.open(address, timeout_ms)
    return SingleWire(address, timeout_ms, primary_only)
