"""Why a store is unavailable is named: once when it begins, once a minute while it lasts, and when it ends."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.embedded import Embedded, free_port
from app.errors import StoreUnavailable
from app.runtime import now_ms
from app.selfcheck import self_check
from app.settings import Settings
from app.store import faults
from app.store.faults import CAUSES, StoreFaults
from app.store.health import Vitals, examine
from app.store.scripts import SCRIPTS
from app.store.wire import open_wire
from tests.security.test_tls import terminated
from tests.servers import command, wait_until
from tests.service import Api, Process, environment


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreFaults]:
    """The faults of this test alone."""
    fresh = StoreFaults()
    for module in ("connection", "doorbell", "cluster"):
        monkeypatch.setattr(f"app.store.{module}.FAULTS", fresh)
    yield fresh


async def cause(url: str, seen: StoreFaults) -> set[str]:
    wire = await open_wire(url, 1_000)
    try:
        with pytest.raises(StoreUnavailable):
            await wire.call("k", "GET", "k")
        return set(seen.current())
    finally:
        await wire.close()


def protected(server: Embedded) -> str:
    command(server, "CONFIG", "SET", "requirepass", "word")
    return f"127.0.0.1:{server.port}"


async def test_a_wrong_password_and_none_are_told_apart(own_server: Embedded, seen: StoreFaults) -> None:
    assert await cause(f"redis://:x@127.0.0.1:{own_server.port}/0", seen) == {"wrong_password"}
    seen._faults.clear()
    place = protected(own_server)
    assert await cause(f"redis://:wrong@{place}", seen) == {"wrong_password"}
    seen._faults.clear()
    assert await cause(f"redis://nobody:word@{place}", seen) == {"wrong_password"}
    seen._faults.clear()
    assert await cause(f"redis://{place}", seen) == {"no_password"}
    seen._faults.clear()
    assert await cause(f"redis://{place}/3", seen) == {"no_password"}


async def test_a_user_without_rights(own_server: Embedded, seen: StoreFaults) -> None:
    command(own_server, "ACL", "SETUSER", "weak", "on", ">word", "~hj:*", "+info", "+role", "+get")
    assert await cause(f"redis://weak:word@127.0.0.1:{own_server.port}/0", seen) == {"no_permission"}


async def test_a_missing_database(own_server: Embedded, seen: StoreFaults) -> None:
    assert await cause(f"redis://127.0.0.1:{own_server.port}/99", seen) == {"no_database"}


async def test_a_closed_port_and_an_unknown_name(tmp_path: Path, seen: StoreFaults) -> None:
    assert await cause(f"redis://127.0.0.1:{free_port()}/0", seen) == {"closed_port"}
    seen._faults.clear()
    assert await cause(f"unix://{tmp_path}/none.sock", seen) == {"closed_port"}
    seen._faults.clear()
    assert await cause("redis://none.invalid/0", seen) == {"unknown_host"}


async def test_tls_and_plain_ports_that_are_mixed_up(own_server: Embedded, tmp_path: Path, seen: StoreFaults) -> None:
    assert await cause(f"rediss://127.0.0.1:{own_server.port}/0", seen) == {"tls_unsupported"}
    with terminated(own_server, tmp_path) as url:
        seen._faults.clear()
        plain = url.replace("rediss", "redis").partition("?")[0]
        assert await cause(plain, seen) == {"tls_required"}
        seen._faults.clear()
        assert await cause(url.partition("?")[0], seen) == {"certificate"}


async def test_a_server_that_says_nothing(seen: StoreFaults) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        assert await cause(f"redis://127.0.0.1:{mute.getsockname()[1]}/0", seen) == {"no_answer"}


async def test_a_single_server_is_no_cluster(own_server: Embedded, seen: StoreFaults) -> None:
    assert await cause(f"redis+cluster://127.0.0.1:{own_server.port}", seen) == {"no_slot_map"}


def test_a_fault_is_logged_when_it_begins_once_a_minute_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    seen = StoreFaults(lambda: now[0])
    for second in range(150):
        now[0] = float(second)
        seen.saw("the store at a:1", "closed_port")
    assert seen.current() == {"closed_port"} and seen.counts["closed_port"] == 1
    seen.worked("the store at a:1")
    seen.worked("the store at a:1")
    said = [record.message for record in caplog.records]
    assert [line.split(":")[1].split(",")[0].strip() for line in said] == [
        "1 is unavailable",
        "1 is unavailable",
        "1 is unavailable",
        "1 is available again after 149 s",
    ]
    assert seen.current() == frozenset()
    seen.saw("the store at a:1", "closed_port")
    assert len(caplog.records) == 4, "the same within a minute"
    seen.saw("the store at a:1", "loading")
    assert len(caplog.records) == 5 and seen.current() == {"loading"}


def test_a_fault_in_replies_lasts_while_the_connection_works() -> None:
    now = [0.0]
    seen = StoreFaults(lambda: now[0])
    seen.saw("a", "full", in_reply=True)
    now[0] = 4.0
    seen.worked("a")
    assert seen.current() == {"full"}
    now[0] = 6.0
    seen.worked("a")
    assert seen.current() == frozenset()


def test_every_cause_that_is_ever_given_is_in_the_list() -> None:
    given = [*faults._REPLIES.values(), *dict(faults._KINDS).values(), *dict(faults._WORDS).values()]
    assert {*given, "unreachable", "other", "no_slot_map"} == set(CAUSES)


FORBIDDEN = ["-info", "-role", "-info -role", "-info -role -hello -client"]


@pytest.mark.parametrize("forbidden", FORBIDDEN)
async def test_the_store_works_where_info_or_role_is_forbidden(
    own_server: Embedded, forbidden: str, seen: StoreFaults
) -> None:
    command(own_server, "ACL", "SETUSER", "limited", "on", ">word", "~*", "&*", "+@all", *forbidden.split())
    url = f"redis://limited:word@127.0.0.1:{own_server.port}/0"
    wire = await open_wire(url, 1_000)
    try:
        assert await wire.call("k", "SET", "k", "v") == b"OK"
        assert await wire.call("k", "GET", "k") == b"v"
        assert await examine(wire, now_ms()) == []
        assert (await Vitals(wire).read(now_ms())).ok
        command(own_server, "CONFIG", "SET", "maxmemory", "1")
        await wire.script(SCRIPTS["deployment"], ["hj:deployment"], ["written", "while full", 0])
        command(own_server, "CONFIG", "SET", "maxmemory", "0")
        await asyncio.sleep(2.5)
        assert seen.current() == frozenset()
        command(own_server, "REPLICAOF", "127.0.0.1", free_port())
        await asyncio.sleep(1.5)
        for _ in range(10):
            with pytest.raises(StoreUnavailable):
                await wire.call("k", "GET", "k")
            await asyncio.sleep(0.1)
        assert seen.current() == {"replica"}
    finally:
        await wire.close()
    # a production process starts on it
    command(own_server, "REPLICAOF", "NO", "ONE")
    own = environment(url, HELLOJOHN_ENV="production", HELLOJOHN_ISSUER="https://s.example")
    assert await asyncio.to_thread(self_check, Settings.from_env(own))


@pytest.mark.slow
@pytest.mark.parametrize("module", ["app.main", "worker.main"])
def test_api_and_worker_log_the_cause_and_serve_once_it_ends(own_server: Embedded, tmp_path: Path, module: str) -> None:
    place, log, port = protected(own_server), tmp_path / "log", free_port()
    more = {"LOG_FILE": str(log), "HELLOJOHN_LOG": "info", "PORT": str(port), "HELLOJOHN_ISSUER": "https://s.example"}
    process = Process(module, environment(f"redis://:wr0ng@{place}/0", **more))
    try:
        wait_until(lambda: "wrong_password" in log.read_text(), "the cause", 10)
        command_with(own_server, "word", "CONFIG", "SET", "requirepass", "wr0ng")
        wait_until(lambda: f"the store at {place} is available again" in log.read_text(), "the end", 20)
    finally:
        process.stop()
    said = log.read_text()
    assert said.count(f"the store at {place} is unavailable") == 1
    assert "wr0ng" not in said and "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("module", ["app.main", "worker.main"])
def test_a_process_names_each_cause_once(own_server: Embedded, tmp_path: Path, module: str) -> None:
    """Eight addresses of one server, each of which it cannot be used by."""
    command(own_server, "ACL", "SETUSER", "weak", "on", ">w0rd", "~hj:*", "&*", "+info", "+role", "+get", "+select")
    command(own_server, "CONFIG", "SET", "requirepass", "s3cret")
    with terminated(own_server, tmp_path) as tls:
        plain = tls.replace("rediss://", "redis://:s3cret@").partition("?")[0]
        port = own_server.port
        addresses = {
            "wrong_password": f"redis://:wr0ng@127.0.0.1:{port}",
            "no_password": f"redis://127.0.0.1:{port}",
            "no_permission": f"redis://weak:w0rd@127.0.0.1:{port}",
            "no_database": f"redis://:s3cret@127.0.0.1:{port}/99",
            "tls_unsupported": f"rediss://:s3cret@127.0.0.1:{port}",
            "tls_required": plain,
            "unknown_host": "redis://:s3cret@none.invalid",
            "closed_port": f"redis://:s3cret@localhost:{free_port()}",
        }
        logs = {cause: tmp_path / cause for cause in addresses}
        processes = []
        try:
            for cause, url in addresses.items():
                env = environment(url, PORT=str(free_port()), LOG_FILE=str(logs[cause]), REDIS_TIMEOUT_MS="1000")
                processes.append(Process(module, env))
            for cause, log in logs.items():
                wait_until(lambda cause=cause, log=log: f" {cause}: " in log.read_text(), cause, 30)  # type: ignore[misc]
            time.sleep(3)
        finally:
            for process in processes:
                process.stop()
    for cause, log in logs.items():
        said = log.read_text()
        assert said.count(f" {cause}: ") == 1, said
        assert "w0rd" not in said and "wr0ng" not in said and "s3cret" not in said and "Traceback" not in said


@pytest.mark.slow
def test_the_worker_works_where_info_is_forbidden(own_server: Embedded, tmp_path: Path) -> None:
    command(own_server, "ACL", "SETUSER", "limited", "on", ">word", "~*", "&*", "+@all", "-info", "-role", "-dbsize")
    log = tmp_path / "log"
    env = environment(f"redis://limited:word@127.0.0.1:{own_server.port}/0", LOG_FILE=str(log), HELLOJOHN_LOG="info")
    worker = Process("worker.main", env)
    try:
        wait_until(lambda: command(own_server, "EXISTS", "hj:arq:health-check") == 1, "the worker's report")
        time.sleep(2)
    finally:
        worker.stop()
    said = log.read_text()
    assert said.count("INFO is not permitted") == 1 and "unavailable" not in said


@pytest.mark.slow
def test_the_metric_names_the_cause_before_the_first_check_has_succeeded(own_server: Embedded) -> None:
    place = protected(own_server)
    api = Api(f"redis://:wr0ng@{place}/0", ready="/livez")
    try:
        wait_until(lambda: 'hellojohn_store_fault{cause="wrong_password"} 1.0' in api.http.get("/metrics").text, "it")
        shown = api.http.get("/metrics").text
        assert shown.count("hellojohn_store_fault{") == len(CAUSES) and place not in shown
    finally:
        api.stop()


def command_with(server: Embedded, password: str, *words: str) -> None:
    from redis import Redis

    with Redis(port=server.port, password=password) as client:
        client.execute_command(*words)
