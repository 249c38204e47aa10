"""`python -m tests.bench.bench_memory [sessions …]`: bytes of Redis for each session, everything included, and how
each kind of key is encoded; and bytes of its append-only file. Two sessions for each user, a user agent of 120
characters, the server as it comes."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import defaultdict
from collections.abc import Awaitable
from pathlib import Path
from statistics import mean

from app.embedded import Embedded
from app.model import Tenant
from app.runtime import now_ms
from app.sessions import Issued
from app.store.base import Touch
from tests.bench.environment import describe, quick
from tests.bench.figures import keep
from tests.bench.stock import Stock, bare_sessions, opened, sessions

COUNTS = (10_000, 50_000) if quick() else (10_000, 200_000, 1_000_000)
ON_DISK = 1_000 if quick() else 10_000
AT_GOAL = 50_000 if quick() else 200_000
"""Measured with long sorted sets in the compact encoding as well, as `compose.yaml` asks for."""
SAMPLED = 200
STAMPED_AT_ONCE = 100
"""About what a process that verifies 5,000 sessions a second sees in the moment for which it collects stamps."""


async def told(stock: Stock, part: str, name: str) -> int:
    """One number of `INFO`."""
    info = (await stock.wire.call("", "INFO", part)).decode()
    return int(next(line for line in info.splitlines() if line.startswith(f"{name}:")).partition(":")[2])


async def used(stock: Stock) -> int:
    return await told(stock, "memory", "used_memory")


async def kinds(stock: Stock, count: int) -> list[str]:
    """For each kind of key: how it is encoded, how many there are, and its share of one session's bytes."""
    found: dict[str, list[bytes]] = defaultdict(list)
    async for keys in stock.wire.scan("hj:{*"):
        for key in keys:
            found[key.decode().split(":")[2]].append(key)
    lines = ["| key | encoding | keys | bytes of one | bytes per session |", "|---|---|---|---|---|"]
    for kind, keys in sorted(found.items()):
        some = keys[:: max(1, len(keys) // SAMPLED)]
        replies = await asyncio.gather(
            *(
                stock.wire.batch(key.decode(), (("OBJECT", "ENCODING", key), ("MEMORY", "USAGE", key, "SAMPLES", "0")))
                for key in some
            )
        )
        encodings = " ".join(sorted({encoding.decode() for encoding, _ in replies}))
        each = mean(size for _, size in replies)
        lines.append(f"| {kind} | {encodings} | {len(keys):,} | {each:,.0f} | {each * len(keys) / count:.0f} |")
    return lines


async def measure(count: int, *options: str) -> list[str]:
    extra = ["--appendonly", "no", *options]
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder), extra=extra) as server:
        async with opened(server.url) as stock:
            tenant: Tenant = await stock.runtime.tenants.create("Bench", now_ms())
            before = await used(stock)
            await bare_sessions(stock, tenant, count, 2)
            each = (await used(stock) - before) / count
            keep(**{f"{'compact_' if options else ''}bytes_at_{count}": each})
            said = f"**{count:,} sessions: {each:.0f} bytes each** {' '.join(options)}"
            return ["", said, "", *await kinds(stock, count)]


async def stamp(stock: Stock, tenant: Tenant, made: list[Issued]) -> None:
    """Each session is seen in use once, a step after it was made, in batches as a busy process writes them."""
    now = now_ms() + tenant.rules.step(made[0].session) + 1_000
    for first in range(0, len(made), STAMPED_AT_ONCE):
        some = made[first : first + STAMPED_AT_ONCE]
        touches = [Touch(one.session.id, tenant.id, one.session.user_id, now) for one in some]
        if len(await stock.store.touch(touches, {tenant.id: tenant.rules}, now)) < len(some):
            raise RuntimeError("not every session was stamped")


async def disk() -> list[str]:
    """What the append-only file grows by for each operation, and what a session needs once it was rewritten."""
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder)) as server:
        async with opened(server.url) as stock:
            tenant, use = await stock.runtime.tenants.create("Bench", now_ms()), stock.runtime.sessions

            async def each(*acts: Awaitable[object]) -> float:
                before = await told(stock, "persistence", "aof_current_size")
                await asyncio.gather(*acts)
                return (await told(stock, "persistence", "aof_current_size") - before) / ON_DISK

            making = asyncio.ensure_future(sessions(stock, tenant, ON_DISK, 2))
            create, made = await each(making), making.result()
            refresh = await each(*(use.refresh(one.refresh_token or "", now_ms()) for one in made))
            stamped = await each(stamp(stock, tenant, made))
            await stock.wire.call("", "BGREWRITEAOF")
            while await told(stock, "persistence", "aof_rewrite_in_progress"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
            rewritten = await told(stock, "persistence", "aof_base_size") / ON_DISK
            revoke = await each(*(use.revoke(tenant, one.session.id, "revoked", now_ms()) for one in made))
    keep(aof_create=create, aof_refresh=refresh, aof_stamp=stamped, aof_revoke=revoke, aof_rewritten=rewritten)
    rows = {
        "a create": create,
        "a refresh": refresh,
        "an activity stamp": stamped,
        "a revocation": revoke,
        "a session, once the file is rewritten": rewritten,
    }
    lines = [f"| {name} | {size:,.0f} |" for name, size in rows.items()]
    return ["", "The append-only file:", "", "| | bytes |", "|---|---|", *lines]


def main(counts: tuple[int, ...] = COUNTS) -> list[str]:
    lines = [describe()]
    for count in counts:
        lines += asyncio.run(measure(count))
        if count == AT_GOAL:
            lines += asyncio.run(measure(count, "--zset-max-listpack-entries", "512"))
    return [*lines, *asyncio.run(disk())]


if __name__ == "__main__":
    print("\n".join(main(tuple(map(int, sys.argv[1:])) or COUNTS)))
