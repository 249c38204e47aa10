"""What a process refuses to serve on, and what it only warns of."""

from __future__ import annotations

import re
import signal
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
from tests.service import ROOT, SECRET, Api, Process, environment


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


@pytest.mark.slow
@pytest.mark.parametrize("module", ["app.main", "worker.main"])
def test_every_line_of_a_log_is_json(own_server: Embedded, tmp_path: Path, module: str) -> None:
    log, port = tmp_path / "log", free_port()
    own = {"HELLOJOHN_ENV": "production", "HELLOJOHN_LOG": "debug", "PORT": str(port), "LOG_FILE": str(log)}
    process = Process(module, environment(own_server.url, **own))
    try:
        started = "Uvicorn running" if module == "app.main" else "Starting worker|working"
        wait_until(lambda: re.search(started, log.read_text()) is not None, "the start")
        own_server.stop()
        wait_until(lambda: "closed_port" in log.read_text(), "an outage")
    finally:
        process.stop()
    for line in log.read_text().splitlines():
        assert {"at", "level", "from", "message"} <= msgspec.json.decode(line, type=dict).keys()


@pytest.mark.parametrize("module", ["app.main", "worker.main"])
@pytest.mark.parametrize("wrong", [{"HELLOJOHN_ENV": "production", "HELLOJOHN_ISSUER": ""}, {"HELLOJOHN_LOG": "loud"}])
def test_a_refusal_to_start_is_a_line_of_json_too(module: str, wrong: dict[str, str]) -> None:
    env = environment("redis://127.0.0.1:1", **wrong)
    ended = subprocess.run(
        [sys.executable, "-m", module], env=env, cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    [line] = ended.stderr.splitlines()
    assert msgspec.json.decode(line)["level"] == "error" and ended.returncode != 0


def test_warnings_and_uncaught_exceptions_are_lines_of_json() -> None:
    program = (
        "import logging, threading, warnings; from app.log import set_up; set_up('info'); warnings.warn('a warning'); "
        "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join(); raise RuntimeError('the end')"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    lines = [msgspec.json.decode(line) for line in ended.stderr.splitlines()]
    assert ended.returncode == 1 and len(lines) == 3
    for line, text in zip(lines, ("a warning", "ZeroDivisionError", "the end"), strict=True):
        assert text in line["message"] + line.get("error", "")


@pytest.mark.parametrize("module", ["app.main", "worker.main"])
def test_sigterm_is_handled_while_the_start_check_waits(module: str) -> None:
    """The kernel drops a signal without a handler if the process has number 1, as in a container."""
    port = free_port()
    process = Process(module, environment(f"redis://127.0.0.1:{free_port()}/0", PORT=str(port)))
    try:
        wait_until(lambda: bool(_caught(process.child.pid) >> 14 & 1), "a handler of SIGTERM", 10)
        assert _status(port, "/livez") == 0, "the check still waits"
        began = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - began < 3
    finally:
        process.stop(signal.SIGKILL)


def _caught(pid: int) -> int:
    """The signals that a process has handlers for, as bits (Linux: proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("SigCgt:")[2].split()[0], 16)


def test_the_unspecified_ipv6_address_takes_ipv4_too(own_server: Embedded) -> None:
    for host, urls in (("::", ("127.0.0.1", "[::1]")), ("0.0.0.0", ("127.0.0.1",)), ("localhost", ("127.0.0.1",))):
        inside = free_port()
        api = Api(own_server.url, HOST=host, ADMIN_PORT=str(inside))
        try:
            for url in urls:
                for port in (api.port, inside):
                    assert httpx.get(f"http://{url}:{port}/livez", trust_env=False).status_code == 200
        finally:
            api.stop()


def test_a_taken_port_is_named(own_server: Embedded) -> None:
    env = environment(own_server.url, PORT=str(own_server.port))
    ended = subprocess.run([sys.executable, "-m", "app.main"], env=env, cwd=ROOT, capture_output=True, timeout=30)
    assert b"address already in use" in ended.stderr and ended.returncode != 0


def test_data_made_under_a_secret_with_a_line_break_stays_readable(own_server: Embedded) -> None:
    env = environment(own_server.url, HELLOJOHN_SECRET=SECRET + "\n")
    assert self_check(msgspec.structs.replace(Settings.from_env(env), secret=f"{SECRET}\n".encode(), other_secret=None))
    assert self_check(Settings.from_env(env))
