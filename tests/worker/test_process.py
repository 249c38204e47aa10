"""The worker as a process: arq for real, killed for real."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis

from app.client.events import PATTERN
from app.client.redis_address import parse_address
from app.embedded import Embedded, free_port
from app.errors import StoreUnavailable
from app.model import SHARDS, Rules, Session, new_session_id
from app.runtime import Runtime, now_ms, open_runtime
from app.sessions import NewSession
from app.settings import Settings
from app.store import keyspace
from app.store.redis import RedisSessionStore
from app.store.wire import Wire, open_wire
from tests.servers import wait_until
from tests.service import Process, environment
from worker.main import QUEUE, queue_settings

SECRET = b"a secret of forty characters for testing"


@pytest.fixture(params=["single", "cluster"])
def addresses(request: pytest.FixtureRequest, own_server: Embedded) -> tuple[str, str]:
    """Where sessions live, and where arq's queue does."""
    url: str = own_server.url if request.param == "single" else request.getfixturevalue("cluster_url")
    return url, own_server.url


@pytest.fixture
def redis_url(addresses: tuple[str, str]) -> str:
    return addresses[0]


@pytest.fixture
async def runtime(redis_url: str) -> AsyncIterator[Runtime]:
    settings = Settings(
        redis_url=parse_address(redis_url), secret=SECRET, admin_key="mk_live_" + "a" * 40, issuer="https://x.example"
    )
    async with open_runtime(settings) as opened:
        yield opened


@pytest.fixture
def worker(addresses: tuple[str, str]) -> Iterator[Process]:
    process = start(addresses)
    yield process
    process.stop(signal.SIGKILL)


def start(addresses: tuple[str, str]) -> Process:
    env = environment(addresses[0], ARQ_REDIS_URL=addresses[1])
    return Process("worker.main", env)


async def ends(wire: Wire, tenant_id: str) -> Counter[str]:
    """How many end events each session of a tenant has in the logs."""
    keys = [keyspace.events(shard) for shard in range(SHARDS)]
    found: Counter[str] = Counter()
    for rows in await asyncio.gather(*(wire.call(key, "XRANGE", key, "-", "+") for key in keys)):
        for _, flat in rows:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            if fields[b"n"].decode() == tenant_id and b"r" in fields:
                found[fields[b"s"].decode()] += 1
    return found


async def fill(wire: Wire, tenant_id: str, count: int, life: int) -> None:
    """Sessions of many users that all expire `life` ms after now."""
    store, now = RedisSessionStore(wire), now_ms()
    for first in range(0, count, 1_000):
        sessions = [
            Session(
                id=new_session_id(tenant_id, f"usr_{number // 2}", now),
                tenant_id=tenant_id,
                user_id=f"usr_{number // 2}",
                expires_at=now + life,
                last_active_at=now,
            )
            for number in range(first, min(count, first + 1_000))
        ]
        await asyncio.gather(*(store.create(session, b"d" * 16, Rules(), now) for session in sessions))


async def until(wire: Wire, tenant_id: str, count: int, seconds: float) -> Counter[str]:
    deadline = time.monotonic() + seconds
    found: Counter[str] = Counter()
    while time.monotonic() < deadline:
        found = await ends(wire, tenant_id)
        if len(found) >= count:
            break
        await asyncio.sleep(0.2)
    return found


async def test_idle_and_expired_sessions_get_their_event_within_two_seconds(
    runtime: Runtime, redis_url: str, worker: Process
) -> None:
    tenant = await runtime.tenants.create("Acme", now_ms())
    tenant = (await runtime.tenants.set_policy(tenant.id, {"idle_timeout": "5s"}, now_ms())).after
    idle = (await runtime.sessions.create(tenant, NewSession(user_id="usr_idle"), now_ms())).session.id
    wire = await open_wire(redis_url, 5_000)
    client = Redis.from_url(redis_url.replace("+cluster", "").split(",")[0])
    listener = client.pubsub()
    await listener.psubscribe(PATTERN)
    other = await runtime.tenants.create("Other", now_ms())
    await fill(wire, other.id, 3, 3_000)
    assert set((await until(wire, other.id, 3, 5)).values()) == {1}
    assert await until(wire, tenant.id, 1, 5) == {idle: 1}
    heard: list[str] = []
    while (message := await listener.get_message(timeout=1)) is not None:
        event = json.loads(message["data"]) if message["type"] == "pmessage" else {}
        heard += [event["reason"]] if event.get("tenant_id") in (tenant.id, other.id) else []
    assert sorted(heard) == ["expired", "expired", "expired", "idle_timeout"]
    await listener.aclose()
    await client.aclose()
    await wire.close()


async def test_a_worker_killed_in_mid_sweep_loses_and_doubles_nothing(
    runtime: Runtime, redis_url: str, addresses: tuple[str, str]
) -> None:
    wire = await open_wire(redis_url, 10_000)
    tenant = await runtime.tenants.create("Acme", now_ms())
    await fill(wire, tenant.id, 50_000, 0)
    process = start(addresses)
    begun = await until(wire, tenant.id, 1, 20)
    process.stop(signal.SIGKILL)
    assert begun
    again = start(addresses)
    found = await until(wire, tenant.id, 50_000, 60)
    again.stop(signal.SIGKILL)
    await wire.close()
    assert len(found) == 50_000
    assert set(found.values()) == {1}


async def test_two_workers_end_each_session_once(
    runtime: Runtime, redis_url: str, addresses: tuple[str, str], worker: Process
) -> None:
    wire = await open_wire(redis_url, 10_000)
    tenant = await runtime.tenants.create("Acme", now_ms())
    second = start(addresses)
    await fill(wire, tenant.id, 5_000, 1_500)
    found = await until(wire, tenant.id, 5_000, 30)
    second.stop(signal.SIGKILL)
    await wire.close()
    assert len(found) == 5_000 and set(found.values()) == {1}


async def test_a_redis_restart_is_survived(own_server: Embedded) -> None:
    process = start((own_server.url, own_server.url))
    await asyncio.sleep(1.5)
    own_server.stop(crash=True)
    await asyncio.sleep(4)
    own_server.start()
    wire = await open_wire(own_server.url, 5_000)
    while True:
        try:
            await wire.each("PING")
            break
        except StoreUnavailable:
            await asyncio.sleep(0.1)
    await fill(wire, "tnt_x", 3, 500)
    assert set((await until(wire, "tnt_x", 3, 10)).values()) == {1}
    await wire.close()
    assert process.stop() == 0


def test_sigterm_ends_it_quickly_and_well(worker: Process, addresses: tuple[str, str]) -> None:
    with redis.Redis.from_url(addresses[1], protocol=2) as queue:
        wait_until(lambda: bool(queue.exists(f"{QUEUE}:health-check")), "the worker's report")
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 10


def test_a_cluster_needs_a_queue_of_its_own() -> None:
    settings = Settings(
        redis_url=parse_address("redis+cluster://127.0.0.1:1"),
        secret=SECRET,
        admin_key="mk_live_" + "a" * 40,
        issuer="https://x",
    )
    with pytest.raises(ValueError, match="ARQ_REDIS_URL"):
        queue_settings(settings)


def test_nothing_is_pickled(own_server: Embedded) -> None:
    """Whoever can write to the queue must not run code in the worker: a planted pickle is refused, the worker lives."""
    process = start((own_server.url, own_server.url))
    try:
        time.sleep(1.5)
        assert process.child.poll() is None
        client = redis.Redis(port=own_server.port)
        client.set("arq:job:evil", b"\x80\x04cos\nsystem\n")
        client.zadd("hj:arq", {"evil": now_ms()})
        time.sleep(1.5)
        assert process.child.poll() is None
        assert json.dumps(client.zscore("hj:arq", "evil")) == "null"
        client.close()
    finally:
        process.stop(signal.SIGKILL)


def test_a_queue_that_is_away_is_named_without_its_login(own_server: Embedded, tmp_path: Path) -> None:
    log, port = tmp_path / "log", free_port()
    away = f"redis://someone:hidden@127.0.0.1:{port}/0"
    process = Process("worker.main", environment(own_server.url, ARQ_REDIS_URL=away, LOG_FILE=str(log)))
    try:
        wait_until(lambda: f"the queue at 127.0.0.1:{port} is unavailable" in log.read_text(), "a word of it", 20)
    finally:
        process.stop(signal.SIGKILL)
    assert "hidden" not in log.read_text()
