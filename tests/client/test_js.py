"""The JavaScript client against real processes of the service: what it hears, what it refuses, what it promises."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.client.asgi import SessionMiddleware
from app.client.verifier import Verifier
from tests.client.probe import ISSUER, NODE, Probe, install, node
from tests.service import ADMIN_KEY, Api, Backend, Process, environment

Start = Callable[..., Probe]
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("js"))


@pytest.fixture(scope="module")
def api(valkey_url: str) -> Iterator[Api]:
    process = Api(valkey_url)
    yield process
    process.stop()


@pytest.fixture
def backend(api: Api) -> Backend:
    return api.tenant()


@pytest.fixture
def start(installed: Path, backend: Backend) -> Iterator[Start]:
    """Starts verifiers of the backend, ready unless `wait=False`, and ends them."""
    probes: list[Probe] = []

    def begin(wait: bool = True, **options: Any) -> Probe:
        probes.append(Probe(installed, backend, **options))
        if wait:
            probes[-1].ready()
        return probes[-1]

    yield begin
    for probe in probes:
        probe.stop()


def revoke(backend: Backend, created: dict[str, Any]) -> None:
    assert backend.call("DELETE", f"/v1/sessions/{created['session']['id']}").status_code == 204


@pytest.mark.slow
def test_its_parts_keep_their_rules(installed: Path) -> None:
    files = sorted(str(path.relative_to(installed)) for path in installed.glob("tests/client/js/*.test.mjs"))
    assert len(files) >= 5
    node("--test", *files, cwd=installed)


@pytest.mark.slow
def test_its_types_are_sound_and_fit_its_code(installed: Path) -> None:
    compiler = "app/client/js/node_modules/typescript/bin/tsc"
    assert node(compiler, "--project", "app/client/js/jsconfig.json", cwd=installed) == ""
    options = ["--strict", "--noEmit", "--target", "es2022", "--lib", "es2022,dom", "--module", "nodenext"]
    assert node(compiler, *options, "tests/client/js/consumer.mts", cwd=installed) == ""


def test_the_package_holds_what_it_needs_and_no_address_of_a_registry(installed: Path) -> None:
    source, packed = installed / "app/client/js", installed / "node_modules/session-client"
    files = {str(path.relative_to(packed)) for path in packed.rglob("*") if path.is_file()}
    sources = {f"src/{path.name}" for path in (source / "src").iterdir()}
    assert files == sources | {"package.json", "README.md", "LICENSE", "index.d.ts", "examples/server.mjs"}
    lock = json.loads((source / "package-lock.json").read_text())
    assert all("resolved" not in package for package in lock["packages"].values())


def test_it_uses_nothing_but_web_standards_and_jose(installed: Path) -> None:
    for path in (installed / "app/client/js/src").iterdir():
        text = path.read_text()
        imported = {line.split(' from "')[1].rstrip('";') for line in text.splitlines() if ' from "' in line}
        assert all(name == "jose" or name.startswith("./") for name in imported), path.name
        assert not any(name in text for name in ("node:", "process.", "Buffer", "require(", "globalThis.Deno"))


def test_a_revoked_session_is_refused_within_a_moment(backend: Backend, start: Start) -> None:
    created, other = backend.create(), backend.create()
    probe = start()
    assert probe.codes(created["access_token"], other["access_token"]) == ["good", "good"]
    revoke(backend, created)
    probe.wait(created["access_token"], "session_revoked", 2)
    assert probe.code(other["access_token"]) == "good"


def test_a_session_that_was_revoked_before_the_start_is_refused_from_the_first_call(
    backend: Backend, start: Start
) -> None:
    created, other = backend.create(), backend.create()
    revoke(backend, created)
    probe = start()
    assert probe.codes(created["access_token"], other["access_token"]) == ["session_revoked", "good"]


def test_a_tenant_wide_revocation_ends_what_was_there_and_nothing_later(backend: Backend, start: Start) -> None:
    created = [backend.create(f"usr_{number}") for number in range(5)]
    probe = start()
    tokens = [each["access_token"] for each in created]
    assert set(probe.codes(*tokens)) == {"good"}
    assert backend.call("POST", "/v1/sessions/revoke", json={"all": True}).status_code == 200
    probe.wait(tokens[-1], "session_revoked", 2)
    assert set(probe.codes(*tokens)) == {"session_revoked"}
    assert probe.code(backend.create()["access_token"]) == "good"
    assert set(start().codes(*tokens)) == {"session_revoked"}


def test_a_change_of_a_session_reaches_tokens_signed_before_it(backend: Backend, start: Start) -> None:
    created = backend.create(role="member", org_id="org_1", mfa_verified=True, claims={"plan": "free", "seat": 1})
    probe, token = start(), created["access_token"]
    assert probe.claims(token)["plan"] == "free"
    changes = {"role": "admin", "org_id": None, "mfa_verified": False, "claims": {"plan": "pro"}}
    path = f"/v1/sessions/{created['session']['id']}"
    renewed = backend.call("PATCH", path, json=changes).json()["access_token"]
    until = time.monotonic() + 2
    while probe.claims(token).get("role") != "admin":
        assert time.monotonic() < until
    now, fresh = probe.claims(token), probe.claims(renewed)
    assert (now["plan"], now["mfa_verified"], now["sub"]) == ("pro", False, "usr_1")
    assert "org_id" not in now and "seat" not in now
    assert {**now, "jti": 0, "iat": 0, "exp": 0} == {**fresh, "jti": 0, "iat": 0, "exp": 0}
    assert start().claims(token)["role"] == "admin"


def test_a_change_of_a_user_reaches_all_their_tokens(backend: Backend, start: Start) -> None:
    tokens = [backend.create("usr_many")["access_token"] for _ in range(3)]
    probe = start()
    answer = backend.call("POST", "/v1/users/usr_many/claims", json={"role": "owner"})
    assert answer.status_code == 200, answer.text
    until = time.monotonic() + 2
    while {probe.claims(token).get("role") for token in tokens} != {"owner"}:
        assert time.monotonic() < until


def test_tokens_of_others_are_refused(api: Api, backend: Backend, start: Start) -> None:
    probe = start()
    good = backend.create()["access_token"]
    foreign = api.tenant("Other").create()["access_token"]
    head, body, signature = good.split(".")
    unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0"
    forged = [f"{head}.{body}.{signature[::-1]}", f"{unsigned}.{body}.", f"{unsigned}.{body}.{signature}"]
    assert probe.codes(good, foreign, *forged) == ["good", *["invalid_token"] * 4]
    assert probe.codes("") == ["missing_token"]
    assert start(issuer="https://elsewhere.example").code(good) == "invalid_token"


@pytest.mark.slow
def test_a_removed_key_ends_its_tokens_and_no_good_one_fails(backend: Backend, start: Start) -> None:
    """Emergency after emergency: the next key signs at once; a list is looked at again after its age."""
    probe = start(keys={"cacheMaxAge": 1_000, "cooldownDuration": 100})
    http = backend.api.http
    for _ in range(3):
        old = backend.create()["access_token"]
        assert probe.code(old) == "good"
        keys = http.get("/v1/admin/signing-keys", headers=ADMIN).json()["data"]
        active = next(key["kid"] for key in keys if key["state"] == "active")
        assert http.delete(f"/v1/admin/signing-keys/{active}", headers=ADMIN).status_code == 204
        probe.wait(old, "invalid_token", 5)
        until = time.monotonic() + 2
        while time.monotonic() < until:
            assert probe.code(backend.create()["access_token"]) == "good"


def test_a_removed_key_ends_its_tokens_with_the_next_heartbeat_and_the_one_in_its_place_fails_nobody(
    backend: Backend, start: Start
) -> None:
    """A set of keys is believed for ten minutes and may not be fetched anew for half a minute."""
    asking, refusing, allowing = probes = [start(onStale=policy) for policy in ("ask", "refuse", "allow")]
    old, http = backend.create()["access_token"], backend.api.http
    assert {probe.code(old) for probe in probes} == {"good"}
    for key in http.get("/v1/admin/signing-keys", headers=ADMIN).json()["data"]:
        assert http.delete(f"/v1/admin/signing-keys/{key['kid']}", headers=ADMIN).status_code == 204
    removed, fresh = time.monotonic(), backend.create()["access_token"]
    assert asking.code(fresh) == "good"
    codes = set()
    while time.monotonic() < removed + 4:
        codes |= {probe.code(fresh) for probe in probes}
    assert codes <= {"good", "verifier_stale"}
    assert [probe.codes(old, fresh) for probe in (asking, refusing, allowing)] == [["invalid_token", "good"]] * 3


@pytest.mark.slow
def test_an_active_user_of_local_verifiers_is_not_idle_and_a_silent_one_is(
    backend: Backend, start: Start, valkey_url: str
) -> None:
    backend.call("PATCH", "/v1/admin/config", json={"idle_timeout": 5})
    time.sleep(1.1)
    active, silent = backend.create("usr_active"), backend.create("usr_silent")
    probe, worker = start(reportEvery=1), Process("worker.main", environment(valkey_url))
    try:
        until = time.monotonic() + 9
        while time.monotonic() < until:
            assert probe.code(active["access_token"]) == "good"
            time.sleep(0.2)
        assert probe.codes(active["access_token"], silent["access_token"]) == ["good", "session_revoked"]
    finally:
        worker.stop()
    rows = [backend.call("GET", f"/v1/sessions/{each['session']['id']}").json() for each in (active, silent)]
    assert [(row["status"], row.get("end_reason")) for row in rows] == [("active", None), ("revoked", "idle_timeout")]
    created, ended = (datetime.fromisoformat(rows[1][name]) for name in ("created_at", "ended_at"))
    assert 5 <= (ended - created).total_seconds() < 8


@pytest.mark.slow
def test_a_refusal_is_the_one_that_the_python_middleware_gives(installed: Path, backend: Backend) -> None:
    created, other = backend.create(), backend.api.tenant().create()
    revoke(backend, created)
    good = backend.create()["access_token"]
    sent = [None, "Basic eDp5", "Bearer", "Bearer a b", "Bearer x", f"bEARER  {good}", f"Bearer {good}, Bearer {good}"]
    sent += [f"Bearer {one['access_token']}" for one in (created, other)]
    of_node, of_python = asked_of_node(installed, backend, sent), asyncio.run(asked_of_python(backend, sent))
    for header, theirs, ours in zip(sent, of_node, of_python, strict=True):
        assert theirs == ours, header
    assert [code for _, _, code in of_python] == [
        "missing_token", "missing_token", "invalid_token", "invalid_token", "invalid_token", "good", "invalid_token",
        "session_revoked", "invalid_token",
    ]  # fmt: skip


Answered = tuple[int, dict[str, str | None], Any]
SAID = ("content-type", "cache-control", "www-authenticate", "retry-after")


def asked_of_node(installed: Path, backend: Backend, sent: list[str | None]) -> list[Answered]:
    """What `withSession` and `requireSession` answer, which is the same."""
    options = {"url": backend.api.url, "issuer": ISSUER, "tenantId": backend.tenant_id, "apiKey": backend.key}
    words = ["tests/client/js/refusals.mjs", json.dumps(options), json.dumps(sent)]
    fetched, served = json.loads(node(*words, cwd=installed))
    assert fetched == served
    return [answered(status, headers, body) for status, headers, body in fetched]


async def asked_of_python(backend: Backend, sent: list[str | None]) -> list[Answered]:
    async def good(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"code":"good"}'})

    options: Any = {"url": backend.api.url, "issuer": ISSUER, "tenant_id": backend.tenant_id, "api_key": backend.key}
    async with Verifier(**options) as verifier:
        transport = httpx.ASGITransport(SessionMiddleware(good, verifier))
        async with httpx.AsyncClient(transport=transport, base_url="http://app.example") as http:
            headers = [{} if one is None else {"Authorization": one} for one in sent]
            answers = [await http.get("/", headers=each) for each in headers]
    return [answered(answer.status_code, answer.headers, answer.text) for answer in answers]


def answered(status: int, headers: Mapping[str, str], body: str) -> Answered:
    told = json.loads(body)
    return status, {name: headers.get(name) for name in SAID} | {"body": json.dumps(told)}, told["code"]


@pytest.mark.slow
def test_the_example_runs_and_refuses_after_a_revocation(installed: Path, backend: Backend) -> None:
    env = {
        **os.environ,
        "HELLOJOHN_URL": backend.api.url,
        "HELLOJOHN_ISSUER": ISSUER,
        "TENANT_ID": backend.tenant_id,
        "API_KEY": backend.key,
        "PORT": "0",
    }
    child = subprocess.Popen(
        [NODE, "node_modules/session-client/examples/server.mjs"],
        cwd=installed,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            assert child.stdout is not None
            url = child.stdout.readline().split()[-1]
            http, created = backend.api.http, backend.create()
            mine = {"Authorization": f"Bearer {created['access_token']}"}
            refused = http.get(url)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="sessions"')
            assert http.get(url, headers=mine).json()["sub"] == "usr_1"
            revoke(backend, created)
            until = time.monotonic() + 2
            while (answer := http.get(url, headers=mine)).status_code == 200:
                assert time.monotonic() < until
            assert (answer.status_code, answer.json()["code"]) == (401, "session_revoked")
        finally:
            child.terminate()


@pytest.mark.slow
@pytest.mark.parametrize("count", [3_000])
def test_every_one_of_many_revocations_is_heard(backend: Backend, start: Start, count: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        created = list(pool.map(backend.create, [f"usr_{number % 40}" for number in range(count)]))
    probe = start()
    tokens = [each["access_token"] for each in created]
    assert set(probe.codes(*tokens[::50])) == {"good"}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: revoke(backend, each), created))
    probe.wait(tokens[-1], "session_revoked", 2)
    time.sleep(0.2)
    assert set(probe.codes(*tokens)) == {"session_revoked"}
