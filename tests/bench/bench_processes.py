"""`python -m tests.bench.bench_processes`: does an answer cost more when more processes of the API share the work?

Two cores cannot show four times the rate, and this does not pretend to: all processes share one core, the load and
Redis have the other, each process has connections of its own. What shows is what would keep processes from adding up:
CPU time of the API and of Redis for one answer, and the commands and bytes that Redis has for it.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import msgspec
from redis import Redis

from app.embedded import Embedded
from app.runtime import now_ms
from tests.bench.environment import describe, quick
from tests.bench.figures import keep
from tests.bench.load import (
    LOAD_CORE,
    SERVER_CORE,
    fire,
    need_wrk,
    pin_all,
    process_seconds,
    redis_pid,
    request,
    stored,
)
from tests.bench.stock import opened, sessions, sign_in
from tests.service import Api

COUNTS = (1, 2, 4)
ROUNDS, SECONDS, TOKENS = (2, 1, 1_000) if quick() else (5, 2, 5_000)
ONCE_EACH = 9_000 * SECONDS
NAMES = ("verify", "list 20", "create", "refresh")


class Sample(msgspec.Struct, frozen=True):
    """Of one answer; CPU in microseconds, the API's of all processes together. `rate`: answers per second."""

    rate: float
    cpu: float
    redis: float
    commands: float
    bytes: float


class Bench:
    """The processes, and files of requests for each."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.server = stack.enter_context(Embedded(folder / "valkey"))
        self.redis = stack.enter_context(Redis(port=self.server.port))
        pin_all(redis_pid(self.server), LOAD_CORE)
        self.apis = [Api(self.server.url) for _ in range(max(COUNTS))]
        for api in self.apis:
            stack.callback(api.stop)
            pin_all(api.child.pid, SERVER_CORE)

    async def fire(self, name: str, count: int, once: bool = False) -> Sample:
        """The first `count` processes at once, each from a file of its own if `once`."""
        apis, before = self.apis[:count], self._now()
        files = [self.folder / (f"{name} {place}" if once else name) for place in range(count)]
        runs = (asyncio.to_thread(fire, api.port, file, SECONDS, once) for api, file in zip(apis, files, strict=True))
        answered = await asyncio.gather(*runs)
        total = sum(one.answers for one in answered)
        spent = [(after - then) / total for then, after in zip(before, self._now(), strict=True)]
        cpu, redis, commands, carried = spent
        return Sample(sum(one.rate for one in answered), cpu * 1e6, redis * 1e6, commands, carried)

    def _now(self) -> Sequence[float]:
        stats = self.redis.info("stats")
        cpu = sum(process_seconds(api.child.pid) for api in self.apis)
        carried = stats["total_net_input_bytes"] + stats["total_net_output_bytes"]
        return cpu, process_seconds(redis_pid(self.server)), stats["total_commands_processed"], carried


async def run(bench: Bench) -> dict[tuple[str, int], list[Sample]]:
    seen: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    async with opened(bench.server.url) as stock:
        tenant = await stock.runtime.tenants.create("Bench", now_ms())
        _, key = await stock.runtime.api_keys.create(tenant.id, "bench", now_ms())
        made = await sessions(stock, tenant, TOKENS, 20)
        tokens = random.sample([one.access_token for one in made], len(made))
        users = {one.session.user_id for one in made}
        verify = [request("POST", "/v1/sessions/verify", key, {"token": token}) for token in tokens]
        stored(verify, bench.folder / "verify")
        stored((request("GET", f"/v1/sessions?user_id={user}", key) for user in users), bench.folder / "list 20")
        said = [{"user_id": sign_in(number, 2).user_id, "role": "member"} for number in range(20_000)]
        stored((request("POST", "/v1/sessions", key, one) for one in said), bench.folder / "create")
        for api in bench.apis:  # each process checks each signature once
            await asyncio.to_thread(fire, api.port, bench.folder / "verify", max(1, TOKENS // 2_500))
        for _ in range(ROUNDS):
            for count in COUNTS:
                fresh = await sessions(stock, tenant, ONCE_EACH, 2)
                asked = [
                    request("POST", "/v1/sessions/refresh", body={"refresh_token": o.refresh_token}) for o in fresh
                ]
                for place in range(count):
                    stored(asked[place::count], bench.folder / f"refresh {place}")
                for name in NAMES:
                    seen[name, count].append(await bench.fire(name, count, once=name == "refresh"))
    return seen


def table(seen: dict[tuple[str, int], list[Sample]]) -> list[str]:
    lines = [
        "| operation | processes | answers/s on a core | API CPU µs | × 1 process | Redis CPU µs | commands | bytes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in NAMES:
        for count in COUNTS:
            row = [median(values) for values in zip(*map(msgspec.structs.astuple, seen[name, count]), strict=True)]
            rate, cpu, redis, commands, carried = row
            pairs = zip(seen[name, count], seen[name, COUNTS[0]], strict=True)
            ratio = median(one.cpu / alone.cpu for one, alone in pairs)
            keep(**{f"{name} with {count} of 1": ratio})
            said = f"{rate:,.0f} | {cpu:.0f} | {ratio:.2f} | {redis:.0f} | {commands:.1f} | {carried:,.0f}"
            lines.append(f"| {name} | {count} | {said} |")
    return lines


def main() -> list[str]:
    need_wrk()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bench = Bench(Path(folder), stack)
        lines = table(asyncio.run(run(bench)))
    return [describe(), "", f"{ROUNDS} rounds of {SECONDS} s each, all processes on one core.", "", *lines]


if __name__ == "__main__":
    print("\n".join(main()))
