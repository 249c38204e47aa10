"""`python -m tests.bench.bystander PORT`: another client of Redis, which asks PING every millisecond until its standard
input ends; then it prints how long it waited each time, in milliseconds, as JSON. A process of its own, so that what it
waits for is Redis and not the interpreter of who measures."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time


def watch(port: int) -> list[float]:
    waits = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        print("begun", flush=True)
        over = False
        while not over:
            begun = time.perf_counter()
            connection.sendall(b"PING\r\n")
            connection.recv(64)
            waits.append((time.perf_counter() - begun) * 1e3)
            over = _ended(0.001)
    return waits


def _ended(seconds: float) -> bool:
    """Whether standard input has ended, having waited for that so long."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


class Bystander:
    """One in a process of its own, which has begun when this returns, and asks until `stop`."""

    def __init__(self, port: int) -> None:
        words = [sys.executable, "-m", "tests.bench.bystander", str(port)]
        self._child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        os.sched_setaffinity(self._child.pid, range(os.cpu_count() or 1))
        assert self._child.stdout is not None
        if self._child.stdout.readline() != "begun\n":
            raise RuntimeError("the bystander did not begin")

    def stop(self) -> list[float]:
        said, _ = self._child.communicate(timeout=30)
        waits: list[float] = json.loads(said)
        return waits


if __name__ == "__main__":
    print(json.dumps(watch(int(sys.argv[1]))))
