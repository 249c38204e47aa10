"""Redis as a boundary: as the users that `python -m app.acl` prints, each part does its whole job and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from app.client.events import PATTERN
from app.client.shards import SIGNING_KEYS
from app.embedded import Embedded
from app.runtime import now_ms, open_runtime
from app.settings import Settings
from app.store.dashboard import MAX_SIGNED_IN
from app.store.scripts import SCRIPTS
from tests.api.test_dashboard import SESSION, Page
from tests.servers import command, wait_until
from tests.service import ROOT, Api, Process, environment


class Walled:
    """A server that knows the three users and nobody else."""

    def __init__(self, server: Embedded) -> None:
        self.server = server
        made = subprocess.run(
            [sys.executable, "-m", "app.acl"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
        )
        self.passwords = dict(line.split(": ") for line in made.stderr.splitlines())
        assert not [password for password in self.passwords.values() if password in made.stdout]
        for line in made.stdout.splitlines():
            if line != "ACL SAVE":  # this server has no ACL file
                command(server, *line.split())
        command(server, "CONFIG", "SET", "acllog-max-len", "1000")

    def url(self, user: str) -> str:
        return f"redis://{user}:{self.passwords[user]}@127.0.0.1:{self.server.port}/0"

    def client(self, user: str) -> Redis:
        return Redis.from_url(self.url(user), lib_name=None, lib_version=None)

    def refusals(self) -> list[str]:
        """What anyone was denied, but for the name of the library, which redis-py offers at every connection."""
        return [row["object"] for row in command(self.server, "ACL", "LOG") if row["object"] != "client|setinfo"]


@pytest.fixture
def walled(own_server: Embedded) -> Iterator[Walled]:
    yield Walled(own_server)


@pytest.mark.slow
def test_each_part_does_its_whole_job_as_its_own_user(walled: Walled) -> None:
    with walled.client("hj-subscriber") as reader, reader.pubsub() as heard:
        heard.psubscribe(PATTERN)
        assert heard.get_message(timeout=5)
        api = Api(walled.url("hj-api"))
        worker = Process("worker.main", environment(walled.url("hj-worker")))
        try:
            backend = api.tenant()
            backend.call("PATCH", "/v1/admin/config", json={"idle_timeout": "5s", "max_sessions_per_user": 2})
            made = [backend.create() for _ in range(3)]
            idle = backend.create("usr_idle")["session"]["id"]
            assert backend.verify(made[2]["access_token"])["valid"]
            assert backend.refresh(made[2]["refresh_token"]).status_code == 200
            sid = made[2]["session"]["id"]
            for method, path, json in (
                ("PATCH", f"/v1/sessions/{sid}", {"role": "r"}),
                ("POST", "/v1/users/usr_1/claims", {"role": "s"}),
                ("POST", "/v1/sessions/activity", {"session_ids": [sid]}),
                ("GET", "/v1/sessions", None),
                ("GET", "/v1/sessions?user_id=usr_1&status=all", None),
                ("GET", "/v1/events", None),
                ("GET", "/v1/admin/stats", None),
                ("GET", "/v1/admin/overview", None),
                ("GET", f"/v1/sessions/{sid}/timeline", None),
                ("POST", "/v1/admin/config/preview", {"idle_timeout": "1h"}),
                ("GET", "/metrics", None),
                ("POST", "/v1/sessions/revoke", {"user_id": "usr_1"}),
            ):
                assert backend.call(method, path, json=json).status_code == 200, path
            for key in [backend.key] * (MAX_SIGNED_IN + 1):
                page = Page(api, key)
            assert page.v1("GET", "/sessions").status_code == 200
            assert page.call("DELETE", SESSION).status_code == 204
            wait_until(lambda: ended(backend.call("GET", f"/v1/sessions/{idle}").json()), "the sweep")
            everyone = {"all": True}  # asks all shards: a busy machine may need a second try
            wait_until(lambda: backend.call("POST", "/v1/sessions/revoke", json=everyone).status_code == 200, "the end")
            wait_until(lambda: next(Redis(port=walled.server.port).scan_iter("arq:*"), None) is not None, "the queue")
        finally:
            worker.stop()
            api.stop()
        types = []
        while message := heard.get_message(timeout=0.2):
            types.append(message["type"])
        assert types.count("pmessage") >= 4
        stream = next(Redis(port=walled.server.port).scan_iter("hj:{*}:events"))
        assert reader.xrange(stream)
        assert reader.xread({stream: 0})
        assert reader.hkeys(SIGNING_KEYS)
    assert walled.refusals() == []


def ended(session: dict[str, str]) -> bool:
    return session.get("end_reason") == "idle_timeout" and "ended_at" in session


async def test_the_workers_rarer_jobs_are_allowed_too(walled: Walled) -> None:
    settings = Settings.from_env(
        environment(walled.url("hj-worker"), HELLOJOHN_ISSUER="https://s.example", REDIS_TIMEOUT_MS="10000")
    )
    async with open_runtime(settings) as runtime:
        now = now_ms()
        tenant = await runtime.tenants.create("Acme", now)
        await runtime.upkeep.repair(now)
        await runtime.keys.rotate(now)
        await runtime.keys.rotate_if_due(now)
        await runtime.tenants.delete(tenant.id, now)
        await runtime.upkeep.apply_policies(lambda: now + 60_000)
        await runtime.upkeep.collect(now)
        await runtime.upkeep.recount(now)
        await runtime.upkeep.beat(now)
        await runtime.registry.check()
    assert walled.refusals() == []


NEVER = """
CONFIG GET maxmemory|CONFIG SET appendonly no|FLUSHALL|FLUSHDB|KEYS *|DEBUG SLEEP 0|SAVE|SHUTDOWN NOSAVE|BGSAVE
BGREWRITEAOF|SWAPDB 0 1|MODULE LIST|SCRIPT FLUSH|SCRIPT KILL|SCRIPT LOAD x|FUNCTION LIST|FUNCTION LOAD x|ACL LIST
ACL WHOAMI|MONITOR|CLIENT LIST|CLIENT KILL TYPE normal|REPLICAOF NO ONE|FAILOVER|MIGRATE h 1 k 0 1|RESTORE hj:x 0 x
DUMP hj:keys|RANDOMKEY|SLOWLOG GET|CLUSTER RESET|CLUSTER FAILOVER|LATENCY RESET|OBJECT ENCODING hj:keys|SORT hj:keys
COPY hj:keys hj:x|GET other|SET other 1|HGETALL other:keys|DEL other|PUBLISH other x|SUBSCRIBE other|PSUBSCRIBE *
"""
REFUSED = r"(?i)no permissions|NOPERM|ACL failure|DEBUG command not allowed"
FOREIGN = "return redis.call('GET', 'other')"


@pytest.mark.parametrize("user", ["hj-api", "hj-worker", "hj-subscriber"])
def test_nothing_else_is_allowed(walled: Walled, user: str) -> None:
    command(walled.server, "SET", "other", "1")
    with walled.client(user) as client:
        for words in NEVER.strip().replace("\n", "|").split("|"):
            with pytest.raises(ResponseError, match=REFUSED):
                client.execute_command(*words.split())
        for script in (["return 1", "1", "other"], [FOREIGN, "0"]):
            with pytest.raises(ResponseError, match=REFUSED):
                client.execute_command("EVAL", *script)
    assert command(walled.server, "GET", "other") == "1"


def test_who_follows_may_read_the_log_and_the_names_of_keys_and_change_nothing(walled: Walled) -> None:
    command(walled.server, "HSET", SIGNING_KEYS, "kid", "sealed")
    with walled.client("hj-subscriber") as client:
        assert client.hkeys(SIGNING_KEYS) == [b"kid"]
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            client.xrange(SIGNING_KEYS)
        for words in (
            "HGETALL hj:keys", "HGET hj:keys kid", "HMGET hj:keys kid", "HVALS hj:keys", "HSCAN hj:keys 0",
            "HDEL hj:keys kid", "HSET hj:keys kid x", "DEL hj:keys", "GET hj:keys",
            "GET hj:apikey:x", "HGETALL hj:{0}:session:x", "ZRANGE hj:{0}:due 0 -1", "SET hj:x 1",
            "XADD hj:{0}:events * a b", "DEL hj:{0}:events", "PUBLISH hj:revocations:x y",
            f"EVALSHA {SCRIPTS['revoke'].sha} 0",
        ):  # fmt: skip
            with pytest.raises(NoPermissionError):
                client.execute_command(*words.split())
        with walled.client("hj-api") as api, pytest.raises(NoPermissionError):
            api.execute_command("SCAN", 0)


def test_the_one_user_that_everybody_is_can_be_switched_off(walled: Walled) -> None:
    command(walled.server, "ACL", "SETUSER", "default", "off")
    with Redis(port=walled.server.port) as client, pytest.raises(AuthenticationError):
        client.ping()
    with walled.client("hj-api") as client:
        assert client.ping()


def run_acl(*options: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "app.acl", *options]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)


@pytest.mark.parametrize("by", ["commands", "file"])
def test_the_users_survive_a_restart(tmp_path: Path, by: str) -> None:
    """As README.md says it: lines for `valkey-cli` (inline commands on a socket), or a file."""
    file = tmp_path / "users.acl"
    made = run_acl(*(["--file"] if by == "file" else []))
    file.write_text(made.stdout if by == "file" else "")
    with Embedded(tmp_path / "valkey", extra=["--aclfile", str(file)]) as server:
        if by == "commands":
            for line in made.stdout.splitlines():
                assert command(server, *line.split()) in ("OK", True)
        server.stop()
        server.start()
        for name, password in (line.split(": ") for line in made.stderr.splitlines()):
            with Redis(port=server.port, username=name, password=password, lib_name=None, lib_version=None) as client:
                assert client.ping()


def test_help_prints_no_password() -> None:
    shown = run_acl("--help")
    assert "--file" in shown.stdout and "aclfile" in shown.stdout and "hj-api" not in shown.stdout + shown.stderr
