"""`python -m tests.bench.bench_sweep`: ending sessions whose time has come.

Mass expiry: all sessions at once; how many one worker's sweep ends in a second, with events; how long another client of
Redis waits meanwhile and what that is made of, beside the same client while Redis is idle and the cores are not; which
commands were slow. Redis has one core, the worker the other, and the bystander may have either, so it waits for one of
them. Steady: deadlines spread over seconds, a sweep every second as the worker does it; the delay from a deadline to
its event.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from app.embedded import Embedded
from app.model import SHARDS, Tenant
from app.runtime import now_ms
from app.store import keyspace
from tests.bench import stalls
from tests.bench.burn import burning
from tests.bench.bystander import Bystander, Wait
from tests.bench.environment import describe, percentile, quick, stolen
from tests.bench.figures import keep
from tests.bench.load import LOAD_CORE, SERVER_CORE, cpu_seconds, pin, redis_pid
from tests.bench.stock import Stock, bare_sessions, opened

ROUNDS, MASS = (2, 20_000) if quick() else (4, 100_000)
STEADY = 3_000 if quick() else 20_000
SPREAD_MS = 5_000
CONTROL_S = 2 if quick() else 5
CONTROLS: Final[dict[str, tuple[int, ...]]] = {
    "idle": (),
    "idle, the worker's core burnt": (SERVER_CORE,),
    "idle, both cores burnt": (SERVER_CORE, LOAD_CORE),
}


async def beside(server: Embedded, act: Awaitable[object]) -> tuple[list[Wait], float]:
    """What another client waited each time while `act` went on, and how many seconds it took."""
    bystander = await asyncio.to_thread(Bystander, server.port, redis_pid(server))
    begun = time.perf_counter()
    await act
    took = time.perf_counter() - begun
    return await asyncio.to_thread(bystander.stop), took


async def controls(server: Embedded) -> dict[str, list[Wait]]:
    """The same bystander while Redis has nothing to do, and other processes keep the cores as busy as they can."""
    seen = {}
    for name, cores in CONTROLS.items():
        with burning(cores):
            seen[name], _ = await beside(server, asyncio.sleep(CONTROL_S))
    return seen


class Round(msgspec.Struct, frozen=True):
    """One mass expiry: sessions per second, the busy part of Redis's core, what the bystander waited, what was slow."""

    rewriting: bool
    rate: float
    busy: float
    waits: list[Wait]
    commands: dict[str, list[float]]
    events: dict[str, float]


async def expire(tenant: Tenant, server: Embedded, rewriting: bool) -> Round:
    """`rewriting`: Redis begins to rewrite its file at the same moment, by a child that shares its core here. The store
    is a new one: one that has swept would not look for sessions that begin with their deadline behind them."""
    async with opened(server.url) as stock:
        await bare_sessions(stock, tenant, MASS, 2, now_ms() - tenant.rules.duration - 1_000)
        await stalls.listen(stock.wire)
        cpu = cpu_seconds(redis_pid(server))
        waits, took = await beside(server, _all(stock, rewriting))
        busy = (cpu_seconds(redis_pid(server)) - cpu) / took
        return Round(rewriting, MASS / took, busy, waits, *(await stalls.slow_things(stock.wire)))


async def mass(tenant: Tenant, server: Embedded) -> list[str]:
    idle = await controls(server)
    taken, begun = stolen(), time.perf_counter()
    rounds = [await expire(tenant, server, rewriting=number % 2 == 1) for number in range(ROUNDS)]
    host = (stolen() - taken) / (time.perf_counter() - begun)
    waits = [one for each in rounds for one in each.waits]
    rates, waited = [each.rate for each in rounds], [one.waited for one in waits]
    slow = stalls.together([each.commands for each in rounds])
    worst = max(waits, key=lambda one: one.waited)
    keep(per_s=median(rates), ping_p99_ms=percentile(waited, 0.99), ping_p999_ms=percentile(waited, 0.999))
    keep(
        ping_most_ms=worst.waited,
        ping_most_at_work_ms=worst.worked,
        script_most_ms=max(map(max, slow.values()), default=0),
    )
    seen = {
        "the sweep": [one for each in rounds if not each.rewriting for one in each.waits],
        "the sweep, and its file rewritten": [one for each in rounds if each.rewriting for one in each.waits],
    }
    rows = [stalls.row(name, some) for name, some in (seen | idle).items()]
    return [
        f"- {ROUNDS} × {MASS:,} sessions at once: {median(rates):,.0f}/s ({min(rates):,.0f}-{max(rates):,.0f}); "
        f"Redis busy {median(each.busy for each in rounds):.0%}; the host took {host:.0%} of a core",
        f"- commands of {stalls.SLOW_MS} ms or more, by Redis's own clock: {stalls.named(slow)}",
        f"- what else took so long in Redis: {stalls.most([each.events for each in rounds])}",
        f"- the longest waits of another client: {stalls.longest(waits)}",
        "",
        *stalls.table(rows),
        "",
    ]


async def _all(stock: Stock, rewriting: bool) -> None:
    settled = 0
    if rewriting:
        await stock.wire.call("", "BGREWRITEAOF")
    while more := await stock.runtime.upkeep.sweep(now_ms()):
        settled += more
    if settled < MASS:
        raise RuntimeError(f"{settled} of {MASS} sessions had their turn")


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
        await stock.wire.call("", "CONFIG", "SET", "auto-aof-rewrite-percentage", 0)
        first, second = [await stock.runtime.tenants.create(name, now_ms()) for name in ("Mass", "Steady")]
        return [*await mass(first, server), *await steady(stock, second)]


def main() -> list[str]:
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder)) as server:
        pin(redis_pid(server), LOAD_CORE)
        pin(0, SERVER_CORE)
        return [describe(), "", *asyncio.run(measure(server))]


if __name__ == "__main__":
    print("\n".join(main()))
