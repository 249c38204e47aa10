"""`python -m tests.bench.bystander PORT PID`: another client of Redis, process PID, which asks PING every millisecond
until its standard input ends; then it prints as JSON how long it waited each time and what Redis did meanwhile. A
process of its own, so that what it waits for is Redis and not the interpreter of who measures."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec


class Wait(msgspec.Struct, frozen=True):
    """One PING, in milliseconds. Of `waited` Redis was on a core for `worked` and stood in line for one for `queued`,
    and this client stood in line for one for `own`. In the rest Redis slept, for the disk or for want of work."""

    waited: float
    worked: float
    queued: float
    own: float

    @property
    def rest(self) -> float:
        return max(0.0, self.waited - self.worked - self.queued - self.own)


class Watched:
    """What a process has done so far, in seconds: on a core by its own clock (clock_getcpuclockid(3)), and ready but
    without one (/proc/PID/schedstat, of its main thread; none where the kernel does not count it)."""

    def __init__(self, pid: int) -> None:
        self._clock = (~pid << 3) | 2
        self._file = Path(f"/proc/{pid}/schedstat")
        self._counted = self._file.exists()

    def worked(self) -> float:
        return time.clock_gettime(self._clock)

    def queued(self) -> float:
        return int(self._file.read_text().split()[1]) / 1e9 if self._counted else 0.0


def watch(port: int, pid: int) -> list[Wait]:
    waits, redis, self = [], Watched(pid), Watched(os.getpid())
    with socket.create_connection(("127.0.0.1", port)) as connection:
        print("begun", flush=True)
        over = False
        while not over:
            worked, queued, own = redis.worked(), redis.queued(), self.queued()
            begun = time.perf_counter()
            connection.sendall(b"PING\r\n")
            connection.recv(64)
            waited = time.perf_counter() - begun
            spent = (redis.worked() - worked, redis.queued() - queued, self.queued() - own)
            waits.append(Wait(waited * 1e3, *(seconds * 1e3 for seconds in spent)))
            over = _ended(0.001)
    return waits


def _ended(seconds: float) -> bool:
    """Whether standard input has ended, having waited for that so long."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


class Bystander:
    """One in a process of its own, which has begun when this returns, and asks until `stop`."""

    def __init__(self, port: int, pid: int) -> None:
        words = [sys.executable, "-m", "tests.bench.bystander", str(port), str(pid)]
        self._child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        os.sched_setaffinity(self._child.pid, range(os.cpu_count() or 1))
        assert self._child.stdout is not None
        if self._child.stdout.readline() != "begun\n":
            raise RuntimeError("the bystander did not begin")

    def stop(self) -> list[Wait]:
        said, _ = self._child.communicate(timeout=30)
        return msgspec.json.decode(said, type=list[Wait])


if __name__ == "__main__":
    print(msgspec.json.encode(watch(*map(int, sys.argv[1:]))).decode())
