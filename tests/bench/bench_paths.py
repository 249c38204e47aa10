"""`python -m tests.bench.bench_paths`: the hot paths over HTTP against bare Starlette, alternating in one run.

The server has one core for itself; the load and Redis have another. Two figures for each: answers per second, and the
CPU time of the server for one answer. The ratios are of CPU time, which what else the machine does disturbs least.
`OTHER=<folder>` measures another checkout of this project in the same run (before and after a change).
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.embedded import Embedded, dies_with_parent, free_port
from app.model import Tenant
from app.runtime import now_ms
from app.sessions import Issued
from tests.bench.environment import describe, quick
from tests.bench.figures import keep, name_of
from tests.bench.load import (
    CONNECTIONS,
    LOAD_CORE,
    SERVER_CORE,
    cpu_seconds,
    fire,
    need_wrk,
    pin,
    redis_pid,
    request,
    stored,
)
from tests.bench.stock import Stock, living, opened, sessions, sign_in
from tests.service import ROOT, Api

ROUNDS, SECONDS = (3, 1) if quick() else (5, 2)
VERIFIED, STAMPED, LISTED = 10_000, 50_000, 10_000
IDLE = "15m"
"""The idle timeout of those whose every verification is stamped: a step is longer than a run, shorter than a round."""
ONCE_EACH = 12_000 * SECONDS
GOALS = {"verify": 0.9, "create": 0.4, "refresh": 0.4, "list 20": 0.6}
BARE = "Starlette, JSON"
GET = "redis-benchmark, GET"
GETS, KEYS = 100_000, 10_000


class Sample(msgspec.Struct, frozen=True):
    """One run: answers per second, and microseconds of CPU for one answer, of the server and of Redis."""

    rate: float
    cpu: float
    redis: float


class Bench:
    """What is measured: real processes on their cores, and the files of requests for each round."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.server = stack.enter_context(Embedded(folder / "valkey"))
        pin(redis_pid(self.server), LOAD_CORE)
        self.apis = {"": self._api(stack)}
        if other := os.environ.get("OTHER"):
            self.apis[" (other)"] = self._api(stack, PYTHONPATH=other, PYTHONSAFEPATH="1")
        self.reference = free_port()
        self.bare = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.reference", str(self.reference), self.server.url],
            cwd=ROOT,
            preexec_fn=dies_with_parent(9),  # type: ignore[arg-type]
        )
        stack.callback(self.bare.kill)
        pin(self.bare.pid, SERVER_CORE)
        self.samples: dict[str, list[Sample]] = defaultdict(list)

    def _api(self, stack: ExitStack, **env: str) -> Api:
        api = Api(self.server.url, **env)
        stack.callback(api.stop)
        pin(api.child.pid, SERVER_CORE)
        return api

    def measure(self, name: str, pid: int, port: int, file: Path, once: bool = False) -> None:
        redis = redis_pid(self.server)
        before = cpu_seconds(pid), cpu_seconds(redis)
        answered = fire(port, file, SECONDS, once)
        after = cpu_seconds(pid), cpu_seconds(redis)
        cpu, of_redis = ((b - a) / answered.answers * 1e6 for a, b in zip(before, after, strict=True))
        self.samples[name].append(Sample(answered.rate, cpu, of_redis))

    def references(self) -> None:
        for name, one in (
            (BARE, request("GET", "/json")),
            ("Starlette, JSON read and answered", request("POST", "/json", body={"token": "x" * 700})),
            ("Starlette, JSON of our size with our headers", request("GET", "/large")),
        ):
            self.measure(name, self.bare.pid, self.reference, stored([one], self.folder / "reference"))
        if shutil.which("redis-benchmark") is not None:
            self.bare_get()
        keys = [request("GET", f"/redis?key=key:{number:012d}") for number in range(KEYS)]
        file = stored(keys, self.folder / "reference")
        self.measure("Starlette + one GET by redis-py", self.bare.pid, self.reference, file)

    def bare_get(self) -> None:
        """GET by `redis-benchmark`, which has the server's core; of keys that it makes before the first round."""
        redis = redis_pid(self.server)
        if GET not in self.samples:
            self._redis_benchmark("set")
        before = cpu_seconds(redis)
        rate = self._redis_benchmark("get")
        self.samples[GET].append(Sample(rate, 0, (cpu_seconds(redis) - before) / GETS * 1e6))

    def _redis_benchmark(self, command: str) -> float:
        """Commands per second, one at a time on each of 32 connections."""
        words = ["redis-benchmark", "-p", self.server.port, "-t", command, "-n", GETS, "-r", KEYS, "-d", 100]
        ran = subprocess.run(
            [*map(str, words), "-c", str(CONNECTIONS), "--csv"],
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: pin(0, SERVER_CORE),
        )
        return float(ran.stdout.splitlines()[-1].split(",")[1].strip('"'))


async def run(bench: Bench) -> None:
    async with opened(bench.server.url) as stock:
        tenant, key = await _tenant(stock)
        verify = [_verify(key, one) for one in await sessions(stock, tenant, VERIFIED, 2)]
        stored(random.sample(verify, len(verify)), bench.folder / "verify")
        await _stamped(stock, bench)
        await sessions(stock, await _lists(stock, bench), LISTED, 20)
        once = await sessions(stock, tenant, ROUNDS * len(bench.apis) * ONCE_EACH, 2)
        slices = iter([once[first : first + ONCE_EACH] for first in range(0, len(once), ONCE_EACH)])
        for api in bench.apis.values():
            await _check(api, key, once[0].access_token)
            await asyncio.to_thread(fire, api.port, bench.folder / "verify, stamped", STAMPED // 2_500)
        for _ in range(ROUNDS):
            await asyncio.to_thread(bench.references)
            for name, api in bench.apis.items():
                await _round(bench, stock, name, api, next(slices), key)


async def _round(bench: Bench, stock: Stock, name: str, api: Api, fresh: list[Issued], key: str) -> None:
    """Every path once, on one process."""

    async def measure(path: str, requests: list[bytes] | None = None, once: bool = False) -> None:
        file = bench.folder / path
        if requests is not None:
            stored(requests, file)
        await asyncio.to_thread(bench.measure, path + name, api.child.pid, api.port, file, once)

    await asyncio.to_thread(fire, api.port, bench.folder / "verify", VERIFIED // 2_500)  # the next needs no stamp
    await measure("verify")
    await measure("verify, stamped")
    await measure("verify, first sight", [_verify(key, one) for one in fresh], True)
    refresh = [request("POST", "/v1/sessions/refresh", body={"refresh_token": one.refresh_token}) for one in fresh]
    await measure("refresh", refresh, True)
    await measure("list 20")
    tenant, key = await _tenant(stock)
    await measure("create", [_create(key, number) for number in range(ONCE_EACH)])
    ids = await living(stock, tenant)
    await measure("revoke", [request("DELETE", f"/v1/sessions/{sid}", key) for sid in ids])


def _verify(key: str, issued: Issued) -> bytes:
    return request("POST", "/v1/sessions/verify", key, {"token": issued.access_token})


def _create(key: str, number: int) -> bytes:
    said = msgspec.structs.asdict(sign_in(number, 2))
    return request("POST", "/v1/sessions", key, {name: value for name, value in said.items() if value is not None})


async def _stamped(stock: Stock, bench: Bench) -> None:
    """Requests that verify sessions whose activity is due to be written each time: no session comes twice in a run."""
    tenant, key = await _tenant(stock)
    tenant = (await stock.runtime.tenants.set_policy(tenant.id, {"idle_timeout": IDLE}, now_ms())).after
    verify = [_verify(key, one) for one in await sessions(stock, tenant, STAMPED, 2)]
    stored(random.sample(verify, len(verify)), bench.folder / "verify, stamped")


async def _lists(stock: Stock, bench: Bench) -> Tenant:
    """A tenant whose users have 20 sessions each, and the requests that list them."""
    tenant, key = await _tenant(stock)
    paths = [f"/v1/sessions?user_id={sign_in(number, 20).user_id}" for number in range(0, LISTED, 20)]
    stored((request("GET", path, key) for path in paths), bench.folder / "list 20")
    return tenant


async def _tenant(stock: Stock) -> tuple[Tenant, str]:
    tenant = await stock.runtime.tenants.create("Bench", now_ms())
    return tenant, (await stock.runtime.api_keys.create(tenant.id, "bench", now_ms()))[1]


async def _check(api: Api, key: str, token: str) -> None:
    """The load must be of good requests: a refused one is cheap."""
    async with httpx.AsyncClient(base_url=api.url, headers={"Authorization": f"Bearer {key}"}) as http:
        answer = (await http.post("/v1/sessions/verify", json={"token": token})).json()
    if not answer["valid"]:
        raise RuntimeError(answer)


def crypto() -> Iterator[tuple[str, float]]:
    """Microseconds of a bare Ed25519 signature and of its verification, of a message as long as a token."""
    pin(0, SERVER_CORE)
    key, message = Ed25519PrivateKey.generate(), b"m" * 600
    signature, public = key.sign(message), key.public_key()
    for name, act in (
        ("Ed25519 sign", lambda: key.sign(message)),
        ("Ed25519 verify", lambda: public.verify(signature, message)),
    ):
        times = []
        for _ in range(9):
            begun = time.process_time()
            for _ in range(500):
                act()
            times.append((time.process_time() - begun) / 500 * 1e6)
        yield name, median(times)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))


def table(bench: Bench) -> list[str]:
    """Medians, the spread of the rates, and the ratio to the bare route with the goal."""
    lines = [
        "| | answers/s (lowest-highest) | server CPU µs | Redis CPU µs | × bare Starlette | goal |",
        "|---|---|---|---|---|---|",
    ]
    bare = median(sample.cpu for sample in bench.samples[BARE])
    for name, samples in bench.samples.items():
        rates = sorted(sample.rate for sample in samples)
        cpu, redis = median(s.cpu for s in samples), median(s.redis for s in samples)
        goal = f"≥ {GOALS[name]}" if name in GOALS else ""
        figure = name_of(name)
        keep(**{f"{figure}_per_s": median(rates), f"{figure}_lowest": rates[0], f"{figure}_highest": rates[-1]})
        keep(
            **{f"{figure}_cpu_us": cpu, f"{figure}_redis_us": redis}
            | ({f"{figure}_of_bare": bare / cpu} if cpu else {})
        )
        server = f"{cpu:.1f} | {redis:.1f} | {bare / cpu:.2f}" if cpu else f"| {redis:.1f} | "
        lines.append(f"| {name} | {median(rates):,.0f} ({rates[0]:,.0f}-{rates[-1]:,.0f}) | {server} | {goal} |")
    return lines


def main() -> list[str]:
    need_wrk()
    pin(0, LOAD_CORE)
    lines = [
        describe(),
        "",
        f"{ROUNDS} rounds of {SECONDS} s each, {VERIFIED:,} tokens to verify, {STAMPED:,} stamped.",
        "",
    ]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bench = Bench(Path(folder), stack)
        asyncio.run(run(bench))
        lines += [*table(bench), ""]
    for name, each in crypto():
        keep(**{f"{name_of(name)}_us": each})
        lines += [f"- {name}: {each:.0f} µs"]
    return lines


if __name__ == "__main__":
    print("\n".join(main()))
