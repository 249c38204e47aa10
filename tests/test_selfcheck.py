"""What a process refuses to serve on, and what it only warns of."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from app.embedded import Embedded, free_port
from app.model import HOUR
from app.runtime import now_ms
from app.selfcheck import self_check, warn_of_issuer
from app.settings import SettingError, Settings
from app.store.health import examine
from app.store.wire import open_wire
from tests.servers import Cluster, command, wait_until
from tests.service import ROOT, Api, Process, environment


def settings(url: str, **more: Any) -> Settings:
    own = Settings.from_env(environment(url, HELLOJOHN_ENV="production", HELLOJOHN_ISSUER="https://s.example"))
    return msgspec.structs.replace(own, **more)


async def topics(url: str, now: int) -> set[str]:
    wire = await open_wire(url, 2_000, primary_only=False)
    try:
        return {finding.topic for finding in await examine(wire, now)}
    finally:
        await wire.close()


async def test_a_server_as_ours_is_fit(own_server: Embedded) -> None:
    assert await topics(own_server.url, now_ms()) == set()


async def test_a_server_that_would_lose_sessions_is_not(own_server: Embedded) -> None:
    command(own_server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    command(own_server, "CONFIG", "SET", "appendonly", "no")
    command(own_server, "REPLICAOF", "127.0.0.1", free_port())
    assert await topics(own_server.url, now_ms() + 60_000) == {"eviction", "persistence", "role", "clock"}


async def test_one_bad_node_makes_a_cluster_unfit(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        assert await topics(cluster.url, now_ms()) == set()
        command(cluster.nodes[2], "CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
        assert await topics(cluster.url, now_ms()) == {"eviction"}


def test_production_refuses_unless_told(own_server: Embedded, caplog: pytest.LogCaptureFixture) -> None:
    command(own_server, "CONFIG", "SET", "appendonly", "no")
    with pytest.raises(SettingError, match=r"appendonly is off.*HELLOJOHN_ACCEPT=persistence"):
        self_check(settings(own_server.url))
    self_check(settings(own_server.url, accepted=frozenset({"persistence"})))
    self_check(settings(own_server.url, environment="development"))
    assert caplog.text.count("appendonly is off") == 2


@pytest.mark.parametrize(
    ("issuer", "environment", "warned"),
    [
        ("http://sessions.example", "production", True),
        ("http://10.0.0.7:8000/x", "production", True),
        ("http://localhost.example", "production", True),
        ("https://sessions.example", "production", False),
        ("http://127.0.0.1:8000", "production", False),
        ("http://[::1]:8000", "production", False),
        ("http://localhost:8000", "production", False),
        ("http://sessions.example", "development", False),
    ],
)
def test_production_warns_of_an_issuer_without_tls(
    issuer: str, environment: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_issuer(settings("redis://127.0.0.1:6379/0", issuer=issuer, environment=environment))
    assert ("HELLOJOHN_ISSUER is an http:// address" in caplog.text) == warned


@pytest.mark.parametrize(("issuer", "warnings"), [("http://sessions.example", 1), ("https://sessions.example", 0)])
def test_a_process_says_so_once_at_its_start(own_server: Embedded, tmp_path: Path, issuer: str, warnings: int) -> None:
    log = tmp_path / "log"
    Api(own_server.url, HELLOJOHN_ENV="production", HELLOJOHN_ISSUER=issuer, LOG_FILE=str(log)).stop()
    assert log.read_text().count("HELLOJOHN_ISSUER is an http:// address") == warnings


@pytest.mark.parametrize("module", ["app.main", "worker.main"])
def test_a_mistyped_setting_is_said_at_the_start_without_its_value(
    valkey_url: str, tmp_path: Path, module: str
) -> None:
    log = tmp_path / "log"
    more = {"HELLOJOHN_ADMINKEY": "hidden", "LOG_FILE": str(log)}
    process = Process(module, environment(valkey_url, PORT=str(free_port()), **more))
    try:
        said = "HELLOJOHN_ADMINKEY is no setting and is ignored; is HELLOJOHN_ADMIN_KEY meant?"
        wait_until(lambda: said in log.read_text(), "the warning")
    finally:
        process.stop()
    assert log.read_text().count("HELLOJOHN_ADMINKEY") == 1 and "hidden" not in log.read_text()


def test_a_changed_secret_is_refused(own_server: Embedded) -> None:
    self_check(settings(own_server.url))
    with pytest.raises(SettingError, match=r"^HELLOJOHN_SECRET is not the one"):
        self_check(settings(own_server.url, secret=b"another secret of thirty-two letters"))


def test_a_store_that_is_away_is_waited_for_but_not_for_long(caplog: pytest.LogCaptureFixture) -> None:
    began = time.monotonic()
    port = free_port()
    assert not self_check(settings(f"redis://someone:hidden@127.0.0.1:{port}/0"))
    assert time.monotonic() - began < 8
    assert f"the store at 127.0.0.1:{port} is unavailable" in caplog.text and "closed_port" in caplog.text
    assert "someone" not in caplog.text and "hidden" not in caplog.text


def test_an_unfit_server_is_not_written_to(own_server: Embedded) -> None:
    command(own_server, "CONFIG", "SET", "appendonly", "no")
    with pytest.raises(SettingError, match="not fit"):
        self_check(settings(own_server.url))
    assert command(own_server, "DBSIZE") == 0


@pytest.mark.slow
@pytest.mark.parametrize("fit", [True, False])
def test_a_server_that_comes_late_is_checked_all_the_same(fit: bool, tmp_path: Path) -> None:
    server = Embedded(tmp_path / "valkey", free_port(), [] if fit else ["--maxmemory-policy", "allkeys-lru"])
    port = free_port()
    own = {"HELLOJOHN_ENV": "production", "HELLOJOHN_ISSUER": "https://s.example", "PORT": str(port)}
    words = [sys.executable, "-m", "app.main"]
    api = subprocess.Popen(words, env=environment(server.url, **own), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: _status(port, "/livez") == 200, "the process to start")
        assert _status(port, "/readyz") == 503
        with server:
            if fit:
                wait_until(lambda: _status(port, "/readyz") == 200, "the process to serve", 3)
            else:
                _, said = api.communicate(timeout=10)
                assert "maxmemory-policy is allkeys-lru" in said
                assert command(server, "DBSIZE") == 0
    finally:
        api.kill()
        api.communicate()


def _status(port: int, path: str) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).status_code
    except httpx.TransportError:
        return 0


@pytest.mark.parametrize("module", ["app.main", "worker.main"])
def test_a_process_says_why_it_does_not_start(own_server: Embedded, module: str) -> None:
    command(own_server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    env = environment(own_server.url, HELLOJOHN_ENV="production", HELLOJOHN_ISSUER="https://s.example")
    words = [sys.executable, "-m", module]
    ended = subprocess.run(words, env=env, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert ended.returncode != 0
    assert "maxmemory-policy is allkeys-lru" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("name", "other", "topic"),
    [("HELLOJOHN_ISSUER", "https://other.example", "issuer"), ("HELLOJOHN_RETENTION_HOURS", "48", "retention")],
)
@pytest.mark.parametrize("mode", ["development", "production"])
def test_what_all_processes_share_is_compared_with_the_store(
    own_server: Embedded, mode: str, name: str, other: str, topic: str
) -> None:
    def started(**more: str) -> bool:
        return self_check(Settings.from_env(environment(own_server.url, HELLOJOHN_ENV=mode, **more)))

    assert started() and started()
    with pytest.raises(SettingError, match=f"^{name} differs .*HELLOJOHN_ACCEPT={topic}$") as caught:
        started(**{name: other})
    assert other not in str(caught.value)
    assert started()
    assert started(**{name: other, "HELLOJOHN_ACCEPT": topic})
    assert started(**{name: other}), "the new value has been taken over"
    with pytest.raises(SettingError, match=f"^{name} differs"):
        started()


def test_both_that_differ_are_named_at_once_and_nothing_is_changed(own_server: Embedded) -> None:
    assert self_check(settings(own_server.url))
    with pytest.raises(SettingError, match=r"HELLOJOHN_ISSUER differs.*HELLOJOHN_RETENTION_HOURS differs"):
        self_check(settings(own_server.url, issuer="https://other.example", retention_ms=48 * HOUR))
    kept = command(own_server, "HGETALL", "hj:deployment")
    assert sorted(kept) == ["24", "https://s.example", "issuer", "retention_hours"]


def test_data_of_an_earlier_version_is_taken_as_it_is(own_server: Embedded) -> None:
    assert self_check(settings(own_server.url))
    command(own_server, "DEL", "hj:deployment")
    assert self_check(settings(own_server.url, issuer="https://other.example"))


def test_of_two_that_start_at_once_on_a_new_store_one_is_refused(own_server: Embedded) -> None:
    def started(issuer: str) -> bool:
        try:
            return self_check(settings(own_server.url, issuer=issuer))
        except SettingError:
            return False

    for _ in range(5):
        command(own_server, "FLUSHALL")
        with ThreadPoolExecutor(4) as pool:
            fates = list(pool.map(started, ["https://one.example", "https://two.example"] * 2))
        assert fates in ([True, False] * 2, [False, True] * 2)


def test_a_worker_needs_no_issuer_but_may_not_have_another(own_server: Embedded) -> None:
    env = environment(own_server.url)
    assert self_check(Settings.from_env(env))
    assert self_check(Settings.from_env({**env, "HELLOJOHN_ISSUER": ""}, signs_tokens=False))
    with pytest.raises(SettingError, match=r"^HELLOJOHN_ISSUER differs"):
        self_check(Settings.from_env({**env, "HELLOJOHN_ISSUER": "https://other.example"}, signs_tokens=False))
    with pytest.raises(SettingError, match=r"^HELLOJOHN_ISSUER differs"):
        self_check(Settings.from_env({**env, "HELLOJOHN_ISSUER": ""}))


def test_two_secrets_on_a_new_store_are_found_out_and_an_overlap_is_not(own_server: Embedded) -> None:
    one, two = (b"%d another secret of thirty-two letters" % number for number in (1, 2))

    def started(secret: bytes) -> bool:
        try:
            return self_check(settings(own_server.url, secret=secret))
        except SettingError as error:
            assert str(error).startswith("HELLOJOHN_SECRET is not the one")
            return False

    for _ in range(3):
        command(own_server, "FLUSHALL")
        with ThreadPoolExecutor(4) as pool:
            fates = list(pool.map(started, [one, two] * 2))
        assert fates in ([True, False] * 2, [False, True] * 2)
    good = one if fates[0] else two
    assert self_check(settings(own_server.url, secret=b"the next secret of thirty-two letters", other_secret=good))


@pytest.mark.parametrize("module", ["app.main", "worker.main"])
def test_a_process_with_another_issuer_ends_and_says_why(own_server: Embedded, module: str) -> None:
    self_check(Settings.from_env(environment(own_server.url)))
    env = environment(own_server.url, HELLOJOHN_ISSUER="https://other.example", PORT=str(free_port()))
    words = [sys.executable, "-m", module]
    ended = subprocess.run(words, env=env, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert ended.returncode != 0
    assert "HELLOJOHN_ISSUER differs" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize("words", ["app.main", "worker.main", "worker.main --check", "app.dev"])
def test_a_malformed_address_ends_a_process_without_being_spelled(words: str, tmp_path: Path) -> None:
    for url in (
        "redis://:Zq7Kx9Lm/Tr4Wp2Vb@127.0.0.1:6379/0",
        "redis://:Zq7Kx9Lm%zz@h",
        "redis://u:Zq7Kx9Lm@h:x/Tr4Wp2Vb",
    ):
        command_line, env = [sys.executable, "-m", *words.split()], environment(url, HELLOJOHN_DATA=str(tmp_path))
        ended = subprocess.run(command_line, env=env, cwd=ROOT, capture_output=True, text=True, timeout=30)
        assert ended.returncode != 0 and "REDIS_URL " in ended.stderr
        assert not re.search("Zq7|Tr4|Traceback", ended.stdout + ended.stderr)


@pytest.mark.parametrize("words", ["worker.main --check", "app.acl"])
def test_a_command_does_not_spell_a_login(own_server: Embedded, words: str) -> None:
    env = environment(f"redis://someone:Zq7Kx9Lm@127.0.0.1:{own_server.port}/0", HELLOJOHN_LOG="debug")
    command_line = [sys.executable, "-m", *words.split()]
    ended = subprocess.run(command_line, env=env, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert not re.search("someone|Zq7Kx9Lm", ended.stdout + ended.stderr)
