"""An open loop: each request is sent when its time has come, however late the earlier answers are, and its latency
counts from that time (no coordinated omission). Timers of event loops count in milliseconds, which is ten times what is
measured here; this one waits with select(2), which counts in microseconds."""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Sequence
from time import perf_counter

CONNECTIONS = 64
_PATIENCE_S = 60.0


class Line:
    """One connection with one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got, self._due = b"", 0.0

    def send(self, due: float, content: bytes) -> None:
        self._due = due
        self.socket.sendall(content)

    def latency(self) -> float | None:
        """Seconds since the request was due, once its answer is whole; read what is there before."""
        read = self.socket.recv(65_536)
        if not read:
            raise RuntimeError("the server closed a connection")
        self._got += read
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]):
            return None
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(self._got.decode())
        self._got = b""
        return perf_counter() - self._due


class OpenLoop:
    """`latencies`: of every request, in seconds. `late`: how long after its time each was noticed by this process,
    which is a part of its latency that is not the server's."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self._requests = requests
        self._lines = {line.socket.fileno(): line for line in (Line(port) for _ in range(CONNECTIONS))}
        self._free = [*self._lines.values()]
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._poll = select.epoll()
        for number in self._lines:
            self._poll.register(number, select.EPOLLIN)
        self.latencies: list[float] = []
        self.late: list[float] = []
        self.seconds = 0.0

    def run(self, rate: float, seconds: float, first: int = 0) -> OpenLoop:
        """Send `rate` a second, from the request numbered `first` on, and wait for every answer."""
        count, number, begun = int(rate * seconds), 0, perf_counter()
        while len(self.latencies) < count:
            while number < count and (late := perf_counter() - begun - number / rate) >= 0:
                self.late.append(late)
                due, content = begun + number / rate, self._requests[(first + number) % len(self._requests)]
                self._waiting.append((due, content))
                number += 1
            self._send()
            self._answers(begun + number / rate - perf_counter() if number < count else _PATIENCE_S)
        self.seconds = perf_counter() - begun
        self.close()
        return self

    def close(self) -> None:
        self._poll.close()
        for line in self._lines.values():
            line.socket.close()

    def _send(self) -> None:
        while self._waiting and self._free:
            self._free.pop().send(*self._waiting.popleft())

    def _answers(self, wait: float) -> None:
        """Take what has come, having waited for something to come, `wait` seconds at most."""
        if not select.select([self._poll], (), (), max(0.0, wait))[0] and wait >= _PATIENCE_S:
            raise TimeoutError("answers are missing")
        for number, _ in self._poll.poll(0):
            line = self._lines[number]
            if (latency := line.latency()) is not None:
                self.latencies.append(latency)
                self._free.append(line)
