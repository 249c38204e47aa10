"""`python -m tests.faults.pinger <port>`: another client of a server, in a process of its own.

It sends a PING every two milliseconds until its standard input ends, then says how long the slowest took.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import NamedTuple

from tests.faults.load import percentile
from tests.service import ROOT


class Pings(NamedTuple):
    """Milliseconds."""

    number: int
    p99: float
    longest: float


class Pinger:
    """`with Pinger(port) as pinger`; then `pinger.pings`."""

    def __init__(self, port: int) -> None:
        words = [sys.executable, "-m", "tests.faults.pinger", str(port)]
        self._child = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Pinger:
        assert self._child.stdout is not None
        self._child.stdout.readline()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        said, _ = self._child.communicate(timeout=10)
        self.pings = Pings(*json.loads(said))


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
