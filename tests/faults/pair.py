"""Two servers behind one address."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from redis import Redis

from app.embedded import Embedded
from tests.faults.proxy import Proxy
from tests.servers import command, wait_until


class Pair:
    """A primary and its replica behind a proxy. After `fail_over` the old primary follows nobody who answers: what it
    says is old, and stays so."""

    def __init__(self, folder: Path) -> None:
        self.old, self.new = Embedded(folder / "old").start(), Embedded(folder / "new").start()
        self.proxy = Proxy(self.old.port)

    async def __aenter__(self) -> Pair:
        await self.proxy.start()
        self.url = f"redis://127.0.0.1:{self.proxy.port}/0"
        command(self.new, "REPLICAOF", "127.0.0.1", self.old.port)
        await asyncio.to_thread(wait_until, self._level, "the replica to follow")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.proxy.stop()
        self.old.stop()
        self.new.stop()

    def fail_over(self) -> None:
        wait_until(self._level, "the replica to be level")
        command(self.new, "REPLICAOF", "NO", "ONE")
        command(self.old, "REPLICAOF", "127.0.0.1", 1)
        self.proxy.target = self.new.port

    def _level(self) -> bool:
        old, new = (_replication(server) for server in (self.old, self.new))
        linked = new.get("master_link_status") == "up"
        return linked and bool(new["master_repl_offset"] == old["master_repl_offset"])


def _replication(server: Embedded) -> dict[str, Any]:
    with Redis(port=server.port) as client:
        found: dict[str, Any] = client.info("replication")
        return found
