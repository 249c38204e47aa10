"""`python -m tests.bench.bench_latency`: how long a verification takes at half of what one process can carry, near its
limit, and at it. Open loop (`openloop.py`). Every round asks wrk what the process carries now, then offers shares of
that in another order each time; what warms up before is thrown away. Two columns say what is not the server's doing:
how much of a core the host of this machine took meanwhile, and how late the generator, which shares a core with
Redis, noticed that a request was due, which is a part of its latency."""

from __future__ import annotations

import asyncio
import random
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from app.embedded import Embedded
from app.runtime import now_ms
from tests.bench.burn import burning
from tests.bench.environment import describe, percentile, quick, stolen
from tests.bench.figures import keep, name_of
from tests.bench.load import LOAD_CORE, SERVER_CORE, cpu_seconds, fire, need_wrk, pin, redis_pid, request, stored
from tests.bench.openloop import CONNECTIONS, OpenLoop
from tests.bench.stock import opened, sessions
from tests.service import Api

AWAKE: Final = "50%, no core sleeps"
"""A control: half load leaves cores idle, and a virtual core that sleeps has to be given back by the host."""
SHARES: Final = {"50%": 0.5, "80%": 0.8, "95%": 0.95, "100%": 1.0, AWAKE: 0.5}
ROUNDS, SECONDS, TOKENS = (2, 2, 5_000) if quick() else (7, 5, 20_000)
WARM_S: Final = 2 if quick() else 5


class Run(msgspec.Struct, frozen=True):
    """One share in one round: requests per second, latencies in milliseconds, the busy part of the server's core."""

    offered: float
    answered: float
    p50: float
    p99: float
    p999: float
    late: float
    busy: float
    stolen: float


async def prepared(redis_url: str) -> list[bytes]:
    async with opened(redis_url) as stock:
        tenant = await stock.runtime.tenants.create("Bench", now_ms())
        _, key = await stock.runtime.api_keys.create(tenant.id, "bench", now_ms())
        made = await sessions(stock, tenant, TOKENS, 2)
    return [request("POST", "/v1/sessions/verify", key, {"token": one.access_token}) for one in made]


def offer(api: Api, requests: list[bytes], rate: float, seconds: float) -> Run:
    stolen_before, busy_before = stolen(), cpu_seconds(api.child.pid)
    loop = OpenLoop(api.port, requests).run(rate, seconds, random.randrange(len(requests)))
    busy = (cpu_seconds(api.child.pid) - busy_before) / loop.seconds
    p50, p99, p999 = (percentile(loop.latencies, share) * 1e3 for share in (0.5, 0.99, 0.999))
    answered, late = len(loop.latencies) / loop.seconds, percentile(loop.late, 0.99) * 1e3
    return Run(rate, answered, p50, p99, p999, late, busy, (stolen() - stolen_before) / loop.seconds)


def measure(api: Api, requests: list[bytes], folder: Path) -> list[str]:
    file = stored(requests, folder / "verify")
    fire(api.port, file, max(3, TOKENS // 2_500))
    offer(api, requests, fire(api.port, file, WARM_S).rate / 2, WARM_S)
    carried: list[float] = []
    runs: dict[str, list[Run]] = {name: [] for name in SHARES}
    for _ in range(ROUNDS):
        carried.append(fire(api.port, file, WARM_S).rate)
        for name in random.sample([*SHARES], len(SHARES)):
            with burning((SERVER_CORE, LOAD_CORE) if name == AWAKE else (), idly=True):
                runs[name].append(offer(api, requests, carried[-1] * SHARES[name], SECONDS))
    said = f"Saturated by wrk: {median(carried):,.0f} verifications/s ({min(carried):,.0f}-{max(carried):,.0f})."
    rounds = f"{ROUNDS} rounds of {SECONDS} s for each load, {CONNECTIONS} connections; medians (lowest-highest)."
    return [f"{said} {rounds}", "", *table(runs)]


def table(runs: dict[str, list[Run]]) -> list[str]:
    head = "load | offered/s | answered/s | p50 ms | p99 ms | p99.9 ms | API busy | host took | generator late, p99 ms"
    lines = [f"| {head} |", "|---|---|---|---|---|---|---|---|---|"]
    for name, some in runs.items():
        keep(**{f"p{part}_ms_at_{name_of(name)}": _median(some, f"p{part}") for part in ("50", "99", "999")})
        times = " | ".join(_spread(some, part) for part in ("p50", "p99", "p999"))
        counts = f"{_median(some, 'offered'):,.0f} | {_median(some, 'answered'):,.0f}"
        shares = f"{_median(some, 'busy'):.0%} | {_median(some, 'stolen'):.0%}"
        lines.append(f"| {name} | {counts} | {times} | {shares} | {_median(some, 'late'):.2f} |")
    return lines


def _median(runs: list[Run], name: str) -> float:
    return median(float(getattr(run, name)) for run in runs)


def _spread(runs: list[Run], name: str) -> str:
    seen = [float(getattr(run, name)) for run in runs]
    return f"{median(seen):.2f} ({min(seen):.2f}-{max(seen):.2f})"


def main() -> list[str]:
    need_wrk()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        server = stack.enter_context(Embedded(Path(folder) / "valkey"))
        pin(redis_pid(server), LOAD_CORE)
        api = Api(server.url)
        stack.callback(api.stop)
        pin(api.child.pid, SERVER_CORE)
        pin(0, LOAD_CORE)
        requests = asyncio.run(prepared(server.url))
        return [describe(), "", *measure(api, requests, Path(folder))]


if __name__ == "__main__":
    print("\n".join(main()))
