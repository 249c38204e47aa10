"""The server's memory is full: ending access works, the worker goes on, and readiness, metric and log say so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.embedded import Embedded
from tests.api.world import OF_OUR_PAGES
from tests.servers import command, wait_until
from tests.service import ADMIN_KEY, Api, Process, environment

OPERATOR = {"Authorization": f"Bearer {ADMIN_KEY}"}


class Full:
    """A tenant with twenty sessions that soon time out, an API and a worker; then the server's memory is full."""

    def __init__(self, server: Embedded, api: Api) -> None:
        self.api = api
        self.tenant = api.http.post("/v1/admin/tenants", json={"name": "Acme"}, headers=OPERATOR).json()["id"]
        made = api.http.post(f"/v1/admin/tenants/{self.tenant}/api-keys", json={"name": "k"}, headers=OPERATOR).json()
        self.key_id, self.backend = made["id"], {"Authorization": f"Bearer {made['key']}"}
        assert self.call("PATCH", "/v1/admin/config", {"idle_timeout": "5s"}).status_code == 200
        self.sessions = [self.create(f"usr_{number}").json() for number in range(20)]
        command(server, "CONFIG", "SET", "maxmemory", "1")

    def create(self, user: str) -> httpx.Response:
        return self.call("POST", "/v1/sessions", {"user_id": user})

    def call(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        return self.api.http.request(method, path, json=body, headers={**self.backend, **headers})


@pytest.fixture
def full(own_server: Embedded, tmp_path: Path) -> Iterator[Full]:
    api = Api(own_server.url, LOG_FILE=str(tmp_path / "api"))
    worker = Process("worker.main", environment(own_server.url, LOG_FILE=str(tmp_path / "worker")))
    try:
        yield Full(own_server, api)
    finally:
        worker.stop()
        api.stop()


def test_what_is_due_is_announced(full: Full, tmp_path: Path) -> None:
    expected = {one["session"]["id"] for one in full.sessions}

    def announced() -> bool:
        events = full.call("GET", "/v1/events?limit=100").json()["data"]
        return {event["session_id"] for event in events if event["reason"] == "idle_timeout"} == expected

    wait_until(announced, "the ends", 15)
    assert "the queue at 127.0.0.1" in (tmp_path / "worker").read_text()
    assert "its memory is full" in (tmp_path / "worker").read_text()


def test_readiness_metric_and_log_say_so_until_it_is_over(full: Full, own_server: Embedded, tmp_path: Path) -> None:
    ready = full.api.http.get("/readyz")
    assert (ready.status_code, ready.json()["detail"]) == (503, "The store refuses writes: its memory is full")
    assert "hellojohn_store_refuses_writes 1.0" in full.api.http.get("/metrics").text
    assert (tmp_path / "api").read_text().count("its memory is full") == 1
    command(own_server, "CONFIG", "SET", "maxmemory", "0")
    assert full.api.http.get("/readyz").status_code == 200
    assert "hellojohn_store_refuses_writes 0.0" in full.api.http.get("/metrics").text
    assert "the store takes writes again" in (tmp_path / "api").read_text()


def test_what_takes_access_away_works(full: Full) -> None:
    refused = full.create("usr_new")
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert refused.json()["detail"] == refused.json()["title"] == "The session store is not available"
    token, sid = full.sessions[0]["access_token"], full.sessions[1]["session"]["id"]
    tenant = f"/v1/admin/tenants/{full.tenant}"
    whole = {"X-Tenant-ID": full.tenant, **OPERATOR}
    calls = [
        full.call("PATCH", f"/v1/sessions/{sid}", {"role": None, "mfa_verified": False}),
        full.call("POST", "/v1/users/usr_1/claims", {"role": "guest"}),
        full.call("POST", "/v1/sessions/revoke", {"user_id": "usr_2"}, **{"Idempotency-Key": "once"}),
        full.call("DELETE", f"/v1/sessions/{sid}"),
        full.call("PATCH", "/v1/admin/config", {"session_duration": "1h", "max_sessions_per_user": 1}),
        full.call("POST", "/v1/sessions/revoke", {"all": True}),
        full.call("POST", "/v1/sessions/revoke", {"all": True}, **whole),
        full.api.http.post("/dashboard/api/session", json={"key": ADMIN_KEY}, headers=OF_OUR_PAGES),
        full.api.http.post("/v1/admin/signing-keys/rotate", headers=OPERATOR),
    ]
    assert {call.status_code for call in calls} <= {200, 201, 204}, [call.text for call in calls]
    assert not full.call("POST", "/v1/sessions/verify", {"token": token}).json()["valid"]
    kid = calls[-1].json()["kid"]
    assert full.api.http.delete(f"/v1/admin/signing-keys/{kid}", headers=OPERATOR).status_code == 204
    assert full.api.http.delete(f"{tenant}/api-keys/{full.key_id}", headers=OPERATOR).status_code == 204
    time.sleep(1)
    assert full.call("GET", "/v1/sessions").status_code == 401
    assert full.api.http.delete(tenant, headers=OPERATOR).status_code == 204
