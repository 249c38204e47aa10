"""`python -m tests.bench.bench_growth [sessions …]`: what an operation costs as the store grows (`cost.py` says how it
is measured). First with more and more sessions in the store, then with more and more sessions of one user; the stores
of different sizes stand side by side. This process has one core, the servers have the other.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from app.embedded import Embedded
from app.runtime import now_ms
from tests.bench.cost import NAMES, NEEDED, Costs, Place, compare, ratio, table
from tests.bench.environment import describe, quick
from tests.bench.figures import keep
from tests.bench.load import LOAD_CORE, SERVER_CORE, pin, redis_pid
from tests.bench.stock import bare_sessions, opened, sessions

TOTALS = (2_000, 20_000) if quick() else (10_000, 100_000, 1_000_000)
OF_ONE_USER = (1, 100, 2_000) if quick() else (1, 100, 10_000)
ROOM = NEEDED // 5
"""A user has 10,000 sessions at most; so many of them begin before as many end."""


async def of_size(total: int, folder: Path, stack: AsyncExitStack) -> Place:
    """A server of its own with `total` sessions of others, two of each user."""
    server = stack.enter_context(Embedded(folder / f"total{total}", extra=["--appendonly", "no"]))
    pin(redis_pid(server), LOAD_CORE)
    stock = await stack.enter_async_context(opened(server.url))
    filler = await stock.runtime.tenants.create("Filler", now_ms())
    await bare_sessions(stock, filler, total, 2)
    tenant = await stock.runtime.tenants.create("Bench", now_ms())
    return Place(f"{total:,}", stock, [server], tenant, await sessions(stock, tenant, NEEDED, 2))


async def of_users(folder: Path, stack: AsyncExitStack) -> list[Place]:
    """One server, on which each tenant's users have so many sessions."""
    server = stack.enter_context(Embedded(folder / "users", extra=["--appendonly", "no"]))
    pin(redis_pid(server), LOAD_CORE)
    stock, places = await stack.enter_async_context(opened(server.url)), []
    for count in OF_ONE_USER:
        tenant = await stock.runtime.tenants.create("Bench", now_ms())
        if count > NEEDED:
            await bare_sessions(stock, tenant, count - NEEDED - ROOM, count)
        made = await sessions(stock, tenant, NEEDED, count)
        places.append(Place(f"{count:,} of a user", stock, [server], tenant, made))
    return places


def note(seen: Costs) -> None:
    first, *more = (f"{total:,}" for total in TOTALS)
    for store in more:
        for name in NAMES:
            keep(**{f"{name}_at_{store}_of_{first}".replace(",", ""): ratio(seen, name, store, first)})


async def measure(totals: tuple[int, ...]) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        async with AsyncExitStack() as stack:
            by_total = await compare([await of_size(total, Path(name), stack) for total in totals])
        async with AsyncExitStack() as stack:
            by_user = await compare(await of_users(Path(name), stack))
    if totals == TOTALS:
        note(by_total)
    lines = ["With so many sessions in the store, two of each user (goal: ≤ 1.15 at 1,000,000):", "", *table(by_total)]
    return [*lines, "", "With so many sessions of one user:", "", *table(by_user)]


def main(totals: tuple[int, ...] = TOTALS) -> list[str]:
    pin(0, SERVER_CORE)
    return [describe(), "", *asyncio.run(measure(totals))]


if __name__ == "__main__":
    print("\n".join(main(tuple(map(int, sys.argv[1:])) or TOTALS)))
