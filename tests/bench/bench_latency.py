"""`python -m tests.bench.bench_latency`: how long a verification takes at half of what one process can carry, and near
its limit. Open loop: a request is sent when its time has come, however late the earlier answers are, and its latency
counts from that time (no coordinated omission)."""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop

from app.embedded import Embedded
from app.runtime import now_ms
from tests.bench.environment import describe, percentile, quick
from tests.bench.figures import keep
from tests.bench.load import LOAD_CORE, SERVER_CORE, fire, need_wrk, pin, redis_pid, request, stored
from tests.bench.stock import opened, sessions
from tests.service import Api

SHARES = (0.5, 0.8, 0.95)
SECONDS = 3 if quick() else 10
TOKENS = 5_000 if quick() else 20_000
CONNECTIONS = 64


class Line(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._got = pool, b""
        self.due = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._pool.free.append(self)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]):
            self._got = b""
            self._pool.answered(self)


class Pool:
    """Sends each request at its time, or as soon as a connection is free; `latencies` count from its time."""

    def __init__(self, requests: list[bytes], rate: float) -> None:
        self._requests, self._rate = requests, rate
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, bytes]] = deque()
        self.free: list[Line] = []
        self.latencies: list[float] = []

    async def run(self, port: int, seconds: float) -> None:
        for _ in range(CONNECTIONS):
            await self._loop.create_connection(lambda: Line(self), "127.0.0.1", port)
        lines, count = [*self.free], int(self._rate * seconds)
        begun = self._loop.time()
        for number in range(count):
            due = begun + number / self._rate
            if due > self._loop.time():
                await asyncio.sleep(due - self._loop.time())
            self._waiting.append((due, self._requests[number % len(self._requests)]))
            self._send()
        async with asyncio.timeout(60):
            while len(self.latencies) < count:  # noqa: ASYNC110 - many events
                await asyncio.sleep(0.01)
        for line in lines:
            line.transport.close()

    def answered(self, line: Line) -> None:
        self.latencies.append(self._loop.time() - line.due)
        self.free.append(line)
        self._send()

    def _send(self) -> None:
        while self._waiting and self.free:
            line = self.free.pop()
            line.due, content = self._waiting.popleft()
            line.transport.write(content)


async def measure(api: Api, redis_url: str, folder: Path) -> list[str]:
    async with opened(redis_url) as stock:
        tenant = await stock.runtime.tenants.create("Bench", now_ms())
        _, key = await stock.runtime.api_keys.create(tenant.id, "bench", now_ms())
        made = await sessions(stock, tenant, TOKENS, 2)
    requests = [request("POST", "/v1/sessions/verify", key, {"token": one.access_token}) for one in made]
    file = stored(requests, folder / "verify")
    await asyncio.to_thread(fire, api.port, file, max(3, TOKENS // 2_500))
    most = (await asyncio.to_thread(fire, api.port, file, SECONDS)).rate
    lines = [f"Saturated by wrk: {most:,.0f} verifications/s.", ""]
    lines += ["| load | verifications/s | p50 ms | p99 ms | p99.9 ms |", "|---|---|---|---|---|"]
    for share in SHARES:
        pool = Pool(requests, most * share)
        await pool.run(api.port, SECONDS)
        p50, p99, p999 = (percentile(pool.latencies, part) * 1e3 for part in (0.5, 0.99, 0.999))
        keep(**{f"p99_ms_at_{share:.0%}".strip("%"): p99})
        lines.append(f"| {share:.0%} | {most * share:,.0f} | {p50:.1f} | {p99:.1f} | {p999:.1f} |")
    return lines


def main() -> list[str]:
    need_wrk()
    pin(0, LOAD_CORE)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        server = stack.enter_context(Embedded(Path(folder) / "valkey"))
        pin(redis_pid(server), LOAD_CORE)
        api = Api(server.url)
        stack.callback(api.stop)
        pin(api.child.pid, SERVER_CORE)
        return [describe(), "", *uvloop.run(measure(api, server.url, Path(folder)))]


if __name__ == "__main__":
    print("\n".join(main()))
