"""`python -m tests.faults.pinger <port>`: another client of a server, in a process of its own.

It sends a PING every two milliseconds until its standard input ends, then says how long the slowest took.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import subprocess
import sys
import time
from typing import NamedTuple

from tests.faults.load import percentile
from tests.service import ROOT


class Pings(NamedTuple):
    """Milliseconds."""

    number: int
    p99: float
    longest: float


class Pinger:
    """`async with Pinger(port) as pinger`; then `pinger.pings`. The loop goes on: a test's proxy may run in it."""

    def __init__(self, port: int) -> None:
        words = [sys.executable, "-m", "tests.faults.pinger", str(port)]
        self._child = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    async def __aenter__(self) -> Pinger:
        assert self._child.stdout is not None
        await asyncio.to_thread(self._child.stdout.readline)
        return self

    async def __aexit__(self, *_: object) -> None:
        said = await asyncio.to_thread(self._child.communicate, timeout=10)
        self.pings = Pings(*json.loads(said[0]))


def main() -> None:
    took: list[float] = []
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as link:
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], 0.002)[0]:
            began = time.perf_counter()
            link.sendall(b"PING\r\n")
            link.recv(64)
            took.append((time.perf_counter() - began) * 1_000)
    print(json.dumps([len(took), percentile(took, 0.99), max(took)]))


if __name__ == "__main__":
    main()
