"""`python -m tests.bench.bench_streams [streams]`: many open event streams on one process of the API.

Measured: the API's resident memory for each stream, and the time from the answer of a revocation to the event at each
stream of its tenant; first with 50 streams for each tenant, then with all streams of one tenant. 100 revocations each.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

import httpx

from app.embedded import Embedded
from tests.bench.environment import describe, percentile, quick
from tests.service import Api, Backend

STREAMS = 500 if quick() else 5_000
REVOCATIONS = 20 if quick() else 100
PER_TENANT = 50


class Reader:
    """One open stream, read as raw bytes: `arrived` has the time of each session id."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self.arrived: dict[bytes, float] = {}
        self.ready = asyncio.Event()

    async def open(self) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = ["GET /v1/events HTTP/1.1", "Host: x", f"Authorization: Bearer {self._key}", "Accept: text/event-stream"]
        self._writer.write("\r\n".join([*head, "", ""]).encode())
        self._task = asyncio.create_task(self._read(reader))
        await self.ready.wait()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            if line.startswith(b"event: heartbeat"):
                self.ready.set()
            elif b'"session_id":"' in line:
                self.arrived[line.split(b'"session_id":"', 1)[1][:30]] = time.monotonic()

    async def close(self) -> None:
        self._task.cancel()
        self._writer.transport.abort()
        await asyncio.gather(self._task, return_exceptions=True)


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4_096


async def measure(api: Api, backends: list[Backend], streams: int) -> str:
    before = resident(api.child.pid)
    readers: dict[str, list[Reader]] = {backend.tenant_id: [] for backend in backends}
    begun = time.monotonic()
    for first in range(0, streams, 100):
        opening = []
        for number in range(first, min(first + 100, streams)):
            backend = backends[number % len(backends)]
            reader = Reader(api.port, backend.key)
            readers[backend.tenant_id].append(reader)
            opening.append(reader.open())
        await asyncio.gather(*opening)
    opened = time.monotonic() - begun
    await asyncio.sleep(5)
    each = (resident(api.child.pid) - before) / streams
    delays: list[float] = []
    async with httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=30) as http:
        for number in range(REVOCATIONS):
            backend = backends[number % len(backends)]
            key = {"Authorization": f"Bearer {backend.key}"}
            made = await http.post("/v1/sessions", json={"user_id": f"u{number}"}, headers=key)
            sid = made.json()["session"]["id"]
            await http.delete(f"/v1/sessions/{sid}", headers=key)
            answered = time.monotonic()
            mine = readers[backend.tenant_id]
            async with asyncio.timeout(10):
                while any(sid.encode() not in reader.arrived for reader in mine):  # noqa: ASYNC110 - many events
                    await asyncio.sleep(0.2)
            delays += [max(0.0, reader.arrived[sid.encode()] - answered) for reader in mine]
    said = (
        f"- {streams} streams, {len(backends)} tenants: opened in {opened:.1f} s, {each / 1024:.1f} KiB each, "
        f"revoke -> event p50 {percentile(delays, 0.5) * 1e3:.1f} ms, p99 {percentile(delays, 0.99) * 1e3:.1f} ms, "
        f"most {max(delays) * 1e3:.1f} ms ({len(delays)} deliveries)"
    )
    await asyncio.gather(*(reader.close() for some in readers.values() for reader in some))
    await asyncio.sleep(1)
    return said


async def run(streams: int) -> list[str]:
    said = []
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder) / "valkey") as server:
        for tenants in (max(1, streams // PER_TENANT), 1):
            api = await asyncio.to_thread(Api, server.url)
            try:
                backends = [await asyncio.to_thread(api.tenant, f"T{number}") for number in range(tenants)]
                said.append(await measure(api, backends, streams))
            finally:
                api.stop(signal.SIGKILL)
    return said


def main(streams: int = STREAMS) -> list[str]:
    return [describe(), "", *asyncio.run(run(streams))]


if __name__ == "__main__":
    print("\n".join(main(int(sys.argv[1]) if len(sys.argv) > 1 else STREAMS)))
