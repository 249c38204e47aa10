"""Redis away, slow, restarted, forgetful: a 503 that heals, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from app.embedded import Embedded
from app.errors import StoreUnavailable
from app.model import new_session_id
from app.runtime import now_ms, open_runtime
from app.store.redis import RedisSessionStore
from app.store.wire import Script, Wire, open_wire
from tests.servers import Cluster, command
from tests.service import Api, Backend
from tests.test_sessions import settings

ECHO = Script.of("echo", "return ARGV[1]")
_MANY = 130
"""Sessions of a user, whose page is then read in another way."""


@pytest.fixture
async def wire(own_server: Embedded) -> AsyncIterator[Wire]:
    opened = await open_wire(own_server.url, 500)
    yield opened
    await opened.close()


@pytest.fixture
def api(own_server: Embedded) -> Iterator[Api]:
    process = Api(own_server.url, REDIS_TIMEOUT_MS="500")
    yield process
    process.stop()


@pytest.fixture
def backend(api: Api) -> Backend:
    return api.tenant()


async def test_replies_find_their_callers(wire: Wire) -> None:
    await asyncio.gather(*(wire.call("k", "SET", f"k{n}", n) for n in range(5_000)))
    replies = await asyncio.gather(*(wire.call("k", "GET", f"k{n}") for n in range(5_000)))
    assert replies == [str(n).encode() for n in range(5_000)]


async def test_many_who_ask_all_shards_leave_room_for_the_rest(own_server: Embedded) -> None:
    wire = await open_wire(own_server.url, 10_000)
    store, now = RedisSessionStore(wire), now_ms()
    wide = [store.count_tenant("tnt_1") for _ in range(30)]
    wide += [store.cut_off("tnt_2", now + n) for n in range(15)]
    tasks = [asyncio.create_task(act) for act in wide]
    try:
        while not all(task.done() for task in tasks):
            assert await wire.call("k", "PING") == b"PONG"
        assert await asyncio.gather(*tasks) == [0] * len(tasks)
    finally:
        await wire.close()


async def test_reports_of_activity_leave_room_for_the_rest(own_server: Embedded) -> None:
    """60 reports of 500 sessions each at once: at least 30,000 commands."""
    async with open_runtime(settings(own_server.url)) as runtime:
        now = now_ms()
        tenant = await runtime.tenants.create("Acme", now)
        sessions = [new_session_id(tenant.id, f"usr_{number}", now) for number in range(500)]
        reports = [asyncio.create_task(runtime.sessions.activity(tenant, sessions, now)) for _ in range(60)]
        while not all(report.done() for report in reports):
            assert (await runtime.tenants.get(tenant.id, now)).id == tenant.id
            await runtime.registry.clock()
        assert await asyncio.gather(*reports) == [0] * 60


async def test_who_asks_nothing_is_told_nothing(wire: Wire) -> None:
    nothing, one = await asyncio.gather(wire.batch("k", []), wire.batch("k", [("PING",)]))
    assert (nothing, one) == ([], [b"PONG"])


async def test_a_cancelled_caller_disturbs_no_one_and_its_command_still_runs(wire: Wire) -> None:
    await wire.call("n", "SET", "n", 0)
    tasks = [asyncio.create_task(wire.call("n", "INCR", "n")) for _ in range(1_000)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in done[::2])
    assert done[1::2] == list(range(2, 1_001, 2))
    assert await wire.call("n", "GET", "n") == b"1000"


async def test_a_killed_server_is_unavailable_and_back_within_two_seconds(wire: Wire, own_server: Embedded) -> None:
    assert await wire.call("n", "INCR", "n") == 1
    own_server.stop(crash=True)
    for _ in range(50):
        with pytest.raises(StoreUnavailable):
            await wire.call("n", "INCR", "n")
        await asyncio.sleep(0.01)
    own_server.start()
    began = time.monotonic()
    while True:
        try:
            value = await wire.call("n", "INCR", "n")
            break
        except StoreUnavailable:
            await asyncio.sleep(0.02)
    assert value == 2
    assert time.monotonic() - began < 2


async def test_a_stalled_server_costs_one_deadline(wire: Wire, own_server: Embedded) -> None:
    pid = int(await _pid(wire))
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await wire.call("k", "GET", "k")
        assert 0.4 < time.monotonic() - began < 1.5
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_while_a_server_is_silent_nobody_else_waits_for_it(wire: Wire, own_server: Embedded) -> None:
    pid = int(await _pid(wire))
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable):
            await wire.call("k", "GET", "k")
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(StoreUnavailable):
                await wire.call("k", "GET", "k")
            await asyncio.sleep(0.005)
        assert time.monotonic() - began < 1.2
    finally:
        os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(2):
        while True:
            try:
                assert await wire.call("k", "GET", "k") is None
                break
            except StoreUnavailable:
                await asyncio.sleep(0.02)


async def test_a_server_gone_silent_keeps_newcomers_no_longer_than_those_who_asked_before(
    own_server: Embedded,
) -> None:
    """Newcomers are refused within half a second, long before the deadline; whoever asked before still gets its answer
    when the server goes on, over the same connection."""
    wire = await open_wire(own_server.url, 10_000)
    pid, own = int(await _pid(wire)), await wire.call("k", "CLIENT", "ID")
    os.kill(pid, signal.SIGSTOP)
    try:
        early = asyncio.create_task(wire.call("k", "INCR", "k"))
        await asyncio.sleep(0.5)
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(StoreUnavailable):
                await wire.call("k", "INCR", "k")
        assert time.monotonic() - began < 0.1
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await early == 1
    assert await wire.call("k", "INCR", "k") == 2
    assert await wire.call("k", "CLIENT", "ID") == own
    await wire.close()


async def test_reads_go_on_while_the_server_holds_writes_back(wire: Wire, api: Api, backend: Backend) -> None:
    """As during a failover. A verification is a read; a create waits, or is refused in time, and is not lost."""
    kept, new = await asyncio.to_thread(backend.create, "user_1"), {"user_id": "user_2"}
    for _ in range(_MANY):
        await asyncio.to_thread(backend.create, "user_of_many")
    await asyncio.to_thread(backend.verify, kept["access_token"])
    await wire.call("k", "CLIENT", "PAUSE", 1_500, "WRITE")
    began = time.monotonic()
    waiting = asyncio.create_task(wire.call("k", "INCR", "k"))
    creating = asyncio.create_task(asyncio.to_thread(backend.call, "POST", "/v1/sessions", json=new))
    rounds = 0
    while time.monotonic() - began < 0.7:
        answer = await asyncio.to_thread(backend.verify, kept["access_token"])
        assert answer["valid"]
        for user in ("user_1", "user_of_many"):
            listed = await asyncio.to_thread(backend.call, "GET", f"/v1/sessions?user_id={user}")
            assert listed.status_code == 200
        rounds += 1
    assert rounds > 1
    assert time.monotonic() - began < 1.4
    with pytest.raises(StoreUnavailable):
        await waiting
    assert (await creating).status_code == 503
    async with asyncio.timeout(3):
        while (await asyncio.to_thread(backend.call, "POST", "/v1/sessions", json=new)).status_code != 201:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_batch_counts_as_many_commands_as_it_holds(own_server: Embedded) -> None:
    """So many wait at most; who comes then is refused at once."""
    wire = await open_wire(own_server.url, 10_000)
    pid = int(await _pid(wire))
    os.kill(pid, signal.SIGSTOP)
    try:
        many = asyncio.create_task(wire.batch("k", [("PING",)] * 20_000))
        await asyncio.sleep(0)
        async with asyncio.timeout(0.1):
            with pytest.raises(StoreUnavailable):
                await wire.call("k", "PING")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert set(await many) == {b"PONG"}
    assert await wire.call("k", "PING") == b"PONG"
    await wire.close()


async def _pid(wire: Wire) -> str:
    info = (await wire.call("k", "INFO", "server")).decode()
    return str(next(line.split(":")[1] for line in info.splitlines() if line.startswith("process_id:")))


async def test_forgotten_scripts_are_sent_again(wire: Wire) -> None:
    for number in range(20):
        assert await wire.script(ECHO, ["k"], [number]) == str(number).encode()
        await wire.each("SCRIPT", "FLUSH")


async def test_a_moved_slot_is_followed(tmp_path_factory: pytest.TempPathFactory) -> None:
    cluster = Cluster(tmp_path_factory.mktemp("moving"))
    try:
        cluster.start()
        opened = await open_wire(cluster.url, 2_000)
        await opened.call("{a}", "GET", "{a}")
        slot = 15_495  # of the tag "a"
        ids = {node: command(node, "CLUSTER", "MYID") for node in cluster.nodes}
        target = cluster.nodes[0]
        for node in cluster.nodes:
            command(node, "CLUSTER", "SETSLOT", str(slot), "NODE", _text(ids[target]))
        assert await opened.call("{a}", "SET", "{a}", "1") == b"OK"
        assert await opened.script(ECHO, ["{a}"], ["x"]) == b"x"
        await opened.close()
    finally:
        cluster.stop()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def test_the_api_answers_503_and_heals_without_losing_a_revocation(
    api: Api, backend: Backend, own_server: Embedded
) -> None:
    kept, revoked = backend.create("usr_1"), backend.create("usr_2")
    assert backend.call("DELETE", f"/v1/sessions/{revoked['session']['id']}").status_code == 204
    own_server.stop(crash=True)
    for method, path, body in (
        ("POST", "/v1/sessions", {"user_id": "usr_1"}),
        ("POST", "/v1/sessions/verify", {"token": kept["access_token"]}),
        ("GET", "/v1/sessions?user_id=usr_1", None),
    ):
        answer = backend.call(method, path, json=body)
        assert answer.status_code == 503 and answer.headers["retry-after"]
        assert answer.json()["code"] == "store_unavailable"
    assert api.http.get("/livez").status_code == 200
    assert api.http.get("/readyz").status_code == 503
    own_server.start()
    began = time.monotonic()
    while backend.call("GET", "/v1/sessions?user_id=usr_1").status_code != 200:
        assert time.monotonic() - began < 2
        time.sleep(0.02)
    assert backend.verify(kept["access_token"])["valid"]
    assert not backend.verify(revoked["access_token"])["valid"]


def test_ending_works_when_memory_is_full_and_creating_does_not(backend: Backend, own_server: Embedded) -> None:
    created = backend.create()
    successor = backend.refresh(created["refresh_token"])
    assert successor.status_code == 200
    asyncio.run(_configure(own_server.url, "maxmemory", "1"))
    assert backend.call("POST", "/v1/sessions", json={"user_id": "usr_2"}).status_code == 503
    assert backend.verify(created["access_token"])["valid"]
    assert backend.refresh(successor.json()["refresh_token"]).status_code == 200
    assert backend.call("DELETE", f"/v1/sessions/{created['session']['id']}").status_code == 204
    assert not backend.verify(created["access_token"])["valid"]
    asyncio.run(_configure(own_server.url, "maxmemory", "0"))
    assert backend.create("usr_2")["session"]["status"] == "active"


async def _configure(url: str, name: str, value: str) -> None:
    wire = await open_wire(url, 2_000)
    await wire.each("CONFIG", "SET", name, value)
    await wire.close()
