"""`python -m tests.bench.bench_sweep`: ending sessions whose time has come.

Mass expiry: all sessions at once; how many one worker's sweep ends in a second, with events, and how long another
client of Redis waits meanwhile. Steady: deadlines spread over seconds, a sweep every second as the worker does it; the
delay from a deadline to its event.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from pathlib import Path

from redis import Redis

from app.embedded import Embedded
from app.model import SHARDS, Tenant
from app.runtime import now_ms
from app.store import keyspace
from tests.bench.environment import describe, percentile, quick
from tests.bench.load import LOAD_CORE, SERVER_CORE, pin, redis_pid
from tests.bench.stock import Stock, bare_sessions, opened

MASS = 20_000 if quick() else 200_000
STEADY = 5_000 if quick() else 20_000
SPREAD_MS = 5_000


class Bystander(threading.Thread):
    """Another client, which does nothing but PING."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._redis = Redis(port=port)
        self._over = threading.Event()
        self.waits: list[float] = []

    def run(self) -> None:
        while not self._over.is_set():
            begun = time.perf_counter()
            self._redis.ping()
            self.waits.append((time.perf_counter() - begun) * 1e3)
            time.sleep(0.001)

    def stop(self) -> list[float]:
        self._over.set()
        self.join()
        self._redis.close()
        return self.waits


async def mass(stock: Stock, tenant: Tenant, port: int) -> list[str]:
    long_ago = now_ms() - tenant.rules.duration - 1_000
    await bare_sessions(stock, tenant, MASS, 2, long_ago)
    bystander = Bystander(port)
    bystander.start()
    begun, ended = time.perf_counter(), 0
    while more := await stock.runtime.upkeep.sweep(now_ms()):
        ended += more
    took = time.perf_counter() - begun
    waits = await asyncio.to_thread(bystander.stop)
    waited = f"p99 {percentile(waits, 0.99):.1f} ms, most {max(waits):.1f} ms"
    return [f"- mass expiry: {ended:,} sessions at {ended / took:,.0f}/s; another client's PING: {waited}"]


async def steady(stock: Stock, tenant: Tenant) -> list[str]:
    begun, each = now_ms() - tenant.rules.duration + 5_000, STEADY // 100
    for part in range(100):
        await bare_sessions(stock, tenant, each, 2, begun + part * SPREAD_MS // 100, part * each)
    if now_ms() - tenant.rules.duration > begun:
        raise RuntimeError("the machine is too slow for this: the first deadlines have passed already")
    while now_ms() - tenant.rules.duration < begun + SPREAD_MS + 1_000:
        while await stock.runtime.upkeep.sweep(now_ms()):
            pass
        await asyncio.sleep(1)
    keys = [keyspace.events(shard) for shard in range(SHARDS)]
    rows = await asyncio.gather(*(stock.wire.call(key, "XRANGE", key, "-", "+") for key in keys))
    delays = [float(_delay(entry)) for row in rows for entry in row if tenant.id.encode() in entry[1]]
    halves = f"p50 {percentile(delays, 0.5):.0f} ms, p99 {percentile(delays, 0.99):.0f} ms, most {max(delays):.0f} ms"
    return [f"- steady: {len(delays):,} deadlines over {SPREAD_MS // 1_000} s, deadline to event: {halves}"]


def _delay(entry: tuple[bytes, list[bytes]]) -> int:
    """Milliseconds between when the session ended and when the log says so."""
    fields = dict(zip(entry[1][::2], entry[1][1::2], strict=True))
    return int(entry[0].split(b"-")[0]) - int(fields[b"at"])


async def measure(server: Embedded) -> list[str]:
    async with opened(server.url) as stock:
        first, second = [await stock.runtime.tenants.create(name, now_ms()) for name in ("Mass", "Steady")]
        return [*await mass(stock, first, server.port), *await steady(stock, second)]


def main() -> list[str]:
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder)) as server:
        pin(redis_pid(server), LOAD_CORE)
        pin(0, SERVER_CORE)
        return [describe(), "", *asyncio.run(measure(server))]


if __name__ == "__main__":
    print("\n".join(main()))
