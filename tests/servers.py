"""Real servers for the tests: one Valkey, or a cluster of three masters, as child processes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from app.embedded import Embedded, free_port

SLOTS = 16_384


class Durable(Embedded):
    """What it acknowledges is on disk. With `everysec` a crash may cost what a busy disk has kept waiting for up to two
    seconds (Redis: "Diagnosing latency issues", AOF)."""

    def __init__(self, folder: Path, port: int | None = None, extra: Sequence[str] = ()) -> None:
        super().__init__(folder, port, [*extra, "--appendfsync", "always"])


class Cluster:
    """Primaries, three unless said otherwise, each with `replicas` replicas. They share the slots in equal parts."""

    def __init__(self, folder: Path, replicas: int = 0, primaries: int = 3) -> None:
        self._primaries, self._count = primaries, primaries * (1 + replicas)
        self.nodes = [Embedded(folder / f"node{i}", extra=_cluster_options()) for i in range(self._count)]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> Cluster:
        for node in self.nodes:
            node.start()
        for i, node in enumerate(self.nodes[: self._primaries]):
            first, last = SLOTS * i // self._primaries, SLOTS * (i + 1) // self._primaries - 1
            command(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
            command(node, "CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in self.nodes[1:]:
            bus = int(command(node, "CONFIG", "GET", "cluster-port")["cluster-port"])
            command(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        self.wait_whole()
        for i, node in enumerate(self.nodes[self._primaries :]):
            primary = command(self.nodes[i % self._primaries], "CLUSTER", "MYID")
            wait_until(lambda node=node, primary=primary: _follows(node, primary), "a replica to follow")  # type: ignore[misc]
        self.wait_whole()
        return self

    def wait_whole(self) -> None:
        for node in self.nodes:
            wait_until(lambda node=node: self._is_whole(node), "the cluster to be whole")  # type: ignore[misc]

    def _is_whole(self, node: Embedded) -> bool:
        info = command(node, "CLUSTER", "INFO")
        return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(self._count))

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def command(node: Embedded, *words: str | int) -> Any:
    """The node's decoded answer to one command, asked over a connection of its own."""
    with Redis(port=node.port, decode_responses=True) as client:
        return client.execute_command(" ".join(map(str, words[:2])), *words[2:])


def commands(node: Embedded) -> int:
    """How many commands it has run, but for those that every connection and every look begins with."""
    calls = re.findall(r"cmdstat_([\w|]+):calls=(\d+)", str(command(node, "INFO", "commandstats")))
    return sum(int(count) for name, count in calls if name not in ("info", "hello", "client|setinfo", "role", "time"))


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Return as soon as `holds()`; fail by name when it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)


async def until(holds: Callable[[], bool], seconds: float = 2.0) -> None:
    """The same of another's doing in this loop. Raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is awaited is another party's doing
            await asyncio.sleep(0.01)


def _cluster_options() -> list[str]:
    options = {"enabled": "yes", "port": str(free_port()), "node-timeout": "2000"}
    return [word for name, value in options.items() for word in (f"--cluster-{name}", value)]


def _follows(node: Embedded, primary: Any) -> bool:
    """Ask the node to follow; true once its link is up. The primary must have been heard of first."""
    try:
        command(node, "CLUSTER", "REPLICATE", primary)
    except ResponseError:
        return False
    return "master_link_status:up" in str(command(node, "INFO", "replication"))
