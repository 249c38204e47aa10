"""`python -m tests.bench.bench_sweep`: ending sessions whose time has come.

Mass expiry: all sessions at once; how many one worker's sweep ends in a second, with events, how long another client of
Redis waits meanwhile, and how long Redis itself says that a script kept everybody waiting. Steady: deadlines spread
over seconds, a sweep every second as the worker does it; the delay from a deadline to its event.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from statistics import median

from app.embedded import Embedded
from app.model import SHARDS, Tenant
from app.runtime import now_ms
from app.store import keyspace
from tests.bench.bystander import Bystander
from tests.bench.environment import describe, percentile, quick
from tests.bench.figures import keep
from tests.bench.load import LOAD_CORE, SERVER_CORE, cpu_seconds, pin, redis_pid
from tests.bench.stock import Stock, bare_sessions, opened

ROUNDS, MASS = (1, 20_000) if quick() else (3, 100_000)
STEADY = 3_000 if quick() else 20_000
SPREAD_MS = 5_000


async def beside(server: Embedded, act: Awaitable[object]) -> tuple[list[float], float]:
    """What another client waited each time while `act` went on, in milliseconds, and how many seconds it took."""
    bystander = await asyncio.to_thread(Bystander, server.port)
    begun = time.perf_counter()
    await act
    took = time.perf_counter() - begun
    return await asyncio.to_thread(bystander.stop), took


async def mass(stock: Stock, tenant: Tenant, server: Embedded) -> list[str]:
    quiet, _ = await beside(server, asyncio.sleep(1))
    await stock.wire.call("", "CONFIG", "SET", "latency-tracking-info-percentiles", "100")
    rates: list[float] = []
    waits: list[float] = []
    busy: list[float] = []
    longest = 0.0
    for _ in range(ROUNDS):
        await bare_sessions(stock, tenant, MASS, 2, now_ms() - tenant.rules.duration - 1_000)
        await stock.wire.call("", "CONFIG", "RESETSTAT")
        cpu = cpu_seconds(redis_pid(server))
        waited, took = await beside(server, _all(stock))
        rates.append(MASS / took)
        busy.append((cpu_seconds(redis_pid(server)) - cpu) / took)
        waits += waited
        longest = max(longest, await _longest(stock))
    p50, p99, p999 = (percentile(waits, share) for share in (0.5, 0.99, 0.999))
    keep(per_s=median(rates), ping_p999_ms=p999, ping_most_ms=max(waits), script_most_ms=longest)
    spread = f"{min(rates):,.0f}-{max(rates):,.0f}"
    return [
        f"- {ROUNDS} × {MASS:,} sessions at once: {median(rates):,.0f}/s ({spread}); Redis busy {median(busy):.0%}",
        f"- another client's PING meanwhile, {len(waits):,} times: p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
        f"p99.9 {p999:.1f} ms, most {max(waits):.1f} ms; with nothing else going on: most {max(quiet):.1f} ms",
        f"- the longest command meanwhile, by Redis's own clock: {longest:.1f} ms",
    ]


async def _all(stock: Stock) -> None:
    ended = 0
    while more := await stock.runtime.upkeep.sweep(now_ms()):
        ended += more
    if ended < MASS:
        raise RuntimeError(f"the sweep ended {ended} of {MASS} sessions")


async def _longest(stock: Stock) -> float:
    """Milliseconds of the longest command since the last reset (Redis: `INFO latencystats`)."""
    told = (await stock.wire.call("", "INFO", "latencystats")).decode()
    return max(float(micros) for micros in re.findall(r"p100=([0-9.]+)", told)) / 1e3


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
    p50, p99 = percentile(delays, 0.5), percentile(delays, 0.99)
    keep(delay_p50_ms=p50, delay_p99_ms=p99)
    said = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, most {max(delays):.0f} ms"
    return [f"- steady: {len(delays):,} deadlines over {SPREAD_MS // 1_000} s, deadline to event: {said}"]


def _delay(entry: tuple[bytes, list[bytes]]) -> int:
    """Milliseconds between when the session ended and when the log says so."""
    fields = dict(zip(entry[1][::2], entry[1][1::2], strict=True))
    return int(entry[0].split(b"-")[0]) - int(fields[b"at"])


async def measure(server: Embedded) -> list[str]:
    async with opened(server.url) as stock:
        first, second = [await stock.runtime.tenants.create(name, now_ms()) for name in ("Mass", "Steady")]
        return [*await mass(stock, first, server), *await steady(stock, second)]


def main() -> list[str]:
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder)) as server:
        pin(redis_pid(server), LOAD_CORE)
        pin(0, SERVER_CORE)
        return [describe(), "", *asyncio.run(measure(server))]


if __name__ == "__main__":
    print("\n".join(main()))
