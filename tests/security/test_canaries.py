"""Marked secrets and marked personal data through the whole service, then a search in everything it has written."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app.embedded import Embedded
from tests.api.world import OF_OUR_PAGES
from tests.servers import command, wait_until
from tests.service import ADMIN_KEY, Api, Backend, Process, environment

IP, AGENT = "203.0.113.77", "CanaryBrowser/7.7 (canary of the user agent)"
PERSON = "canary-person"
PERSONAL = {"ip_address": IP, "user_agent": AGENT, "org_id": "canary-org", "role": "canary-role"}
FREE = {"claims": {"plan": "canary-claim"}, "metadata": {"note": "canary-metadata"}}
MARKS = (IP, "CanaryBrowser", PERSON, "canary-org", "canary-role", "canary-claim", "canary-metadata")
SECRET = "canary of the deployment " + secrets.token_urlsafe(32)
_WINDOW = 24
"""A secret counts as found where so many of its characters in a row are."""


def pieces(secret: str) -> Iterable[bytes]:
    text = secret.encode()
    return {text[start : start + _WINDOW] for start in range(0, max(1, len(text) - _WINDOW), 8)}


def hits(where: bytes, marks: Iterable[str]) -> list[str]:
    return [mark[:12] for mark in marks if any(piece in where for piece in pieces(mark))]


class Story:
    """What a tenant does with the service, well and badly; it keeps every secret it was given and every refusal."""

    def __init__(self, api: Api, backend: Backend) -> None:
        self.api, self.backend = api, backend
        self.secrets = [backend.key[25:], ADMIN_KEY, SECRET]
        self.refusals: list[bytes] = []

    def ask(self, method: str, path: str, **more: Any) -> Any:
        answer = self.backend.call(method, path, **more)
        if answer.status_code >= 400:
            self.refusals.append(answer.content + repr(answer.headers).encode())
        return answer.json() if answer.content else None

    def sign_in(self, **more: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.ask("POST", "/v1/sessions", json={"user_id": PERSON, **PERSONAL, **FREE}, **more)
        self.keep(made)
        return made

    def keep(self, made: dict[str, Any]) -> None:
        self.secrets += [made["refresh_token"][3:], made["access_token"].rpartition(".")[2]]

    def well(self) -> None:
        first, second = self.sign_in(), self.sign_in(headers={"Idempotency-Key": "canary-idempotency"})
        self.ask("POST", "/v1/sessions/verify", json={"token": first["access_token"]})
        renewed = self.backend.refresh(first["refresh_token"]).json()
        self.keep(renewed)
        sid = second["session"]["id"]
        self.ask("GET", f"/v1/sessions?user_id={PERSON}")
        self.ask("PATCH", f"/v1/sessions/{sid}", json={"role": "canary-role", **FREE})
        self.ask("POST", f"/v1/users/{PERSON}/claims", json=FREE)
        self.ask("POST", "/v1/sessions/activity", json={"session_ids": [sid]})
        self.ask("GET", "/v1/events?limit=100")
        mine = {"Authorization": f"Bearer {renewed['access_token']}"}
        self.api.http.get("/v1/me/sessions", headers=mine)
        self.api.http.delete("/v1/me/sessions/current", headers=mine)
        self.ask("DELETE", f"/v1/sessions/{sid}")

    def at_the_dashboard(self) -> None:
        """Signed in, at work, and wrongly: the cookie is a secret like the keys, and a new key is shown once."""
        for key in (self.backend.key, ADMIN_KEY):
            answer = self.api.http.post("/dashboard/api/session", json={"key": key}, headers=OF_OUR_PAGES)
            cookie = answer.headers["set-cookie"].split(";")[0]
            self.secrets.append(cookie.split("=")[1])
            self.api.http.get("/dashboard/api/v1/sessions", headers={"Cookie": cookie})
            path = f"/dashboard/api/v1/admin/tenants/{self.backend.tenant_id}/api-keys"
            made = self.api.http.post(path, json={"name": "canary"}, headers={**OF_OUR_PAGES, "Cookie": cookie})
            self.secrets += [made.json()["key"][25:]] if made.status_code == 201 else []
            for wrong in ({"key": key + "x"}, {key: key}, {"key": [key]}):
                refused = self.api.http.post("/dashboard/api/session", json=wrong, headers=OF_OUR_PAGES)
                self.refusals.append(refused.content + repr(refused.headers).encode())

    def badly(self) -> None:
        """Secrets where they do not belong: in addresses, headers, bodies and broken JSON."""
        made = self.sign_in()
        key, access, refresh = self.backend.key, made["access_token"], made["refresh_token"]
        for text in (key, access, refresh, ADMIN_KEY):
            self.ask("GET", f"/v1/sessions?token={text}")
            self.ask("GET", f"/v1/sessions?cursor={text[:256]}")
            self.ask("GET", f"/v1/sessions/{text}")
            self.ask("GET", f"/{text}")
            self.ask("POST", "/v1/sessions", json={text: text, "ip_address": text})
            self.ask("POST", "/v1/sessions", json={"user_id": text * 3, "ip_address": text})
            self.ask("POST", "/v1/sessions/verify", content=b'{"token":"' + text.encode(), headers={"X": text})
            self.ask("POST", "/v1/sessions/refresh", json={"refresh_token": text + "x"})
            self.ask("POST", "/v1/sessions/verify", json={"token": text + "x", "session_id": text})
            self.ask("GET", "/v1/sessions", headers={"Authorization": f"Bearer {text}x"})
            self.ask("GET", "/v1/sessions", headers={"X-Tenant-ID": text, "X-Request-ID": text + "?"})
            self.ask("GET", "/v1/events", headers={"Last-Event-ID": text})
        for _ in range(3):
            answer = self.backend.refresh(refresh)
            if answer.status_code >= 400:
                self.refusals.append(answer.content)
        self.ask("POST", "/v1/sessions", json={"user_id": PERSON, "ip_address": f"{IP}%x", "role": "canary role"})


@pytest.mark.slow
def test_no_secret_is_anywhere_and_personal_data_only_where_it_belongs(own_server: Embedded, tmp_path: Path) -> None:
    command(own_server, "CONFIG", "SET", "rdbcompression", "no")
    more = {"HELLOJOHN_LOG": "debug", "HELLOJOHN_SECRET": SECRET, "LOG_FILE": str(tmp_path / "log")}
    api = Api(own_server.url, **more)
    worker = Process("worker.main", environment(own_server.url, **more))
    story = Story(api, api.tenant())
    try:
        story.well()
        story.at_the_dashboard()
        story.badly()
        lines = b"".join(Path(f"/proc/{child.child.pid}/cmdline").read_bytes() for child in (api, worker))
        metrics = api.http.get("/metrics").content
        wait_until(lambda: b"hj:arq" in b"".join(keys(own_server)), "the worker")
        own_server.stop()
        story.ask("GET", "/v1/sessions")
        own_server.start()
    finally:
        worker.stop()
        api.stop()
    command(own_server, "SAVE")
    written = {path.name: path.read_bytes() for path in own_server.folder.rglob("*") if path.is_file()}
    log = (tmp_path / "log").read_bytes()
    assert log.count(b"\n") > 50 and b'"operation":"createSession"' in log
    assert any(IP.encode() in data for data in written.values()), "the search itself works"

    for name, place in {**written, "log": log, "metrics": metrics, "command lines": lines}.items():
        assert hits(place, story.secrets) == [], name
    for refusal in story.refusals:
        assert hits(refusal, story.secrets) == []
    for name, place in {"log": log, "metrics": metrics, "command lines": lines}.items():
        assert [mark for mark in MARKS if mark.encode() in place] == [], name
    assert [mark for refusal in story.refusals for mark in MARKS if mark.encode() in refusal] == []
    assert_personal_data_is_in_sessions_only(own_server)


def assert_personal_data_is_in_sessions_only(server: Embedded) -> None:
    """Addresses, agents and metadata lie in the session's own hash, and nowhere else: not in events, not in indexes."""
    with Redis(port=server.port) as client:
        for key in client.scan_iter():
            if b":session:" not in key:
                value = client.dump(key) or b""
                found = [mark for mark in (IP, "CanaryBrowser", "canary-metadata") if mark.encode() in key + value]
                assert found == [], key


def keys(server: Embedded) -> list[bytes]:
    with Redis(port=server.port) as client:
        return list(client.scan_iter())
