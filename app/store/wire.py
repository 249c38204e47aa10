"""What the store asks of a server, whether it is one node or a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from hashlib import sha1
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

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


async def open_wire(url: str, timeout_ms: int, *, primary_only: bool = True) -> Wire:
    """A wire to `redis:// rediss:// unix://`, or to a cluster with `redis+cluster://host:port,host:port`. A single
    server that is a replica is as good as away unless `primary_only` is false; in a cluster a replica sends readers on
    by itself."""
    from app.store.cluster import ClusterWire
    from app.store.node import SingleWire

    if "+cluster" in urlsplit(url).scheme:
        return await ClusterWire.open(url, timeout_ms)
    return SingleWire(url, timeout_ms, primary_only)
