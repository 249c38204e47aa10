"""`python -m tests.bench.bench_cluster`: what an operation costs on a cluster of one, three and six primaries, side by
side (`cost.py` says how it is measured). All of them share a core here, so that more nodes carry no more; what shows is
that an operation does not ask more of a larger cluster: as many round trips, commands and bytes.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from app.runtime import now_ms
from tests.bench.cost import NAMES, NEEDED, Place, compare, ratio, table
from tests.bench.environment import describe
from tests.bench.figures import keep
from tests.bench.load import LOAD_CORE, SERVER_CORE, pin, redis_pid
from tests.bench.stock import opened, sessions
from tests.servers import Cluster

NODES = (1, 3, 6)


async def of_nodes(count: int, folder: Path, stack: AsyncExitStack) -> Place:
    cluster = stack.enter_context(Cluster(folder / f"of{count}", primaries=count))
    for node in cluster.nodes:
        pin(redis_pid(node), LOAD_CORE)
    stock = await stack.enter_async_context(opened(cluster.url))
    tenant = await stock.runtime.tenants.create("Bench", now_ms())
    made = await sessions(stock, tenant, NEEDED, 2)
    return Place(f"{count} node{'s' * (count > 1)}", stock, cluster.nodes, tenant, made)


async def measure() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            seen = await compare([await of_nodes(count, Path(folder), stack) for count in NODES])
    first, *_, last = seen
    for name in NAMES:
        keep(**{f"{name}_at_6_nodes_of_1": ratio(seen, name, last, first)})
    return [*table(seen)]


def main() -> list[str]:
    pin(0, SERVER_CORE)
    return [describe(), "", *asyncio.run(measure())]


if __name__ == "__main__":
    print("\n".join(main()))
