"""`python -m tests.bench.bench_growth [sessions …]`: what an operation costs as the store grows.

For each operation, one after the other and nothing beside: round trips, commands that Redis ran (those inside scripts
included), bytes to and from it, and CPU time of this process and of Redis. First with more and more sessions in the
store, then with more and more sessions of one user.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import process_time

import msgspec

from app.embedded import Embedded
from app.model import Tenant
from app.runtime import now_ms
from app.sessions import Issued
from tests.bench.environment import describe, quick
from tests.bench.load import cpu_seconds, redis_pid
from tests.bench.stock import Stock, bare_sessions, opened, sessions, sign_in

TOTALS = (10_000, 50_000) if quick() else (10_000, 100_000, 1_000_000)
OF_ONE_USER = (100, 1_000) if quick() else (100, 10_000)
OPERATIONS = 500 if quick() else 2_000
TITLES = ("store", "operation", "round trips", "commands", "bytes to", "bytes from", "CPU µs", "Redis CPU µs")


class Cost(msgspec.Struct, frozen=True):
    """Of one operation."""

    trips: float
    commands: float
    sent: float
    received: float
    cpu: float
    redis: float

    def row(self, store: str, name: str) -> str:
        numbers = f"{self.trips:.1f} | {self.commands:.1f} | {self.sent:,.0f} | {self.received:,.0f}"
        return f"| {store} | {name} | {numbers} | {self.cpu:.0f} | {self.redis:.0f} |"


async def counters(stock: Stock) -> tuple[int, int, int, int]:
    """Reads, commands, bytes in and bytes out of the server so far."""
    text = (await stock.wire.call("", "INFO", "stats")).decode()
    lines = dict(line.split(":") for line in text.splitlines() if ":" in line)
    names = ("total_reads_processed", "total_commands_processed", "total_net_input_bytes", "total_net_output_bytes")
    reads, commands, sent, received = (int(lines[name]) for name in names)
    return reads, commands, sent, received


async def cost(stock: Stock, pid: int, act: Callable[[int], Awaitable[object]], count: int) -> Cost:
    """The mean of `count` calls. What asking for the counters costs itself is less than one call in a hundred."""
    await act(0)
    before, mine, redis = await counters(stock), process_time(), cpu_seconds(pid)
    for number in range(1, count + 1):
        await act(number)
    mine, redis = process_time() - mine, cpu_seconds(pid) - redis
    spent = [(after - then) / count for then, after in zip(before, await counters(stock), strict=True)]
    return Cost(spent[0], spent[1], spent[2], spent[3], mine / count * 1e6, redis / count * 1e6)


async def operations(stock: Stock, pid: int, tenant: Tenant, made: list[Issued], store: str) -> list[str]:
    """The rows of all operations, each on one session of `made` after the other."""
    use = stock.runtime.sessions

    async def create(number: int) -> object:
        return await use.create(tenant, sign_in(900_000_000 + number, 1), now_ms())

    async def verify(number: int) -> object:
        return await use.verify(tenant, now_ms(), token=made[number].access_token)

    async def refresh(number: int) -> object:
        return await use.refresh(made[number].refresh_token or "", now_ms())

    async def page(number: int) -> object:
        return await use.page(tenant, now_ms(), user_id=made[number].session.user_id)

    async def revoke(number: int) -> object:
        return await use.revoke(tenant, made[number].session.id, "revoked", now_ms())

    for number in range(len(made)):
        await verify(number)  # the first one pays for the signature
    acts = (create, verify, refresh, page, revoke)
    return [(await cost(stock, pid, act, len(made) - 1)).row(store, act.__name__) for act in acts]


async def measure(totals: tuple[int, ...]) -> list[str]:
    lines = [f"| {' | '.join(TITLES)} |", "|---" * len(TITLES) + "|"]
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder), extra=["--appendonly", "no"]) as server:
        pid = redis_pid(server)
        async with opened(server.url) as stock:
            filler, here = await stock.runtime.tenants.create("Filler", now_ms()), 0
            for total in totals:
                await bare_sessions(stock, filler, total - here, 2)
                tenant, here = await stock.runtime.tenants.create("Bench", now_ms()), total
                made = await sessions(stock, tenant, OPERATIONS, 2)
                lines += await operations(stock, pid, tenant, made, f"{total:,} sessions")
            for count in OF_ONE_USER:
                tenant = await stock.runtime.tenants.create("Bench", now_ms())
                await bare_sessions(stock, tenant, max(0, count - 100), count)
                made = await sessions(stock, tenant, 100, count)
                lines += await operations(stock, pid, tenant, made, f"{count:,} of one user")
    return lines


def main(totals: tuple[int, ...] = TOTALS) -> list[str]:
    return [describe(), "", *asyncio.run(measure(totals))]


if __name__ == "__main__":
    print("\n".join(main(tuple(map(int, sys.argv[1:])) or TOTALS)))
