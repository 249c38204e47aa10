"""The dashboard's door over real HTTP: who gets in, for how long, by which requests, and what lies in Redis of it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from app.model import SCOPES
from app.store.dashboard import MAX_SIGNED_IN
from tests.faults.clock import Clock
from tests.servers import wait_until
from tests.service import ADMIN_KEY, ROOT, Api, Backend

SESSION = "/dashboard/api/session"
OURS = {"X-Requested-With": "hellojohn-dashboard"}
NAME = "Acme%20%26%20S%C3%B6hne"
MINUTE = 60_000
HOUR = 60 * MINUTE
COOKIE = re.compile(r"__Host-hellojohn=([A-Za-z0-9_-]{43}); Path=/; Secure; HttpOnly; SameSite=Strict")


class Page:
    """A page of ours in a browser: it keeps the cookie, and sends what a browser and our scripts send."""

    def __init__(self, api: Api, key: str | None = None) -> None:
        self.api, self.cookie = api, ""
        if key is not None:
            assert self.sign_in(key).status_code == 201

    def sign_in(self, key: str) -> httpx.Response:
        return self.call("POST", SESSION, json={"key": key})

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {**OURS, "Sec-Fetch-Site": "same-origin", "Origin": self.api.url, **more.pop("headers", {})}
        return self.send(method, path, headers=headers, **more)

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Nothing but the cookie is added."""
        headers = {"Cookie": self.cookie, **more.pop("headers", {})}
        answer = self.api.http.request(method, path, headers=headers, **more)
        if made := COOKIE.match(answer.headers.get("set-cookie", "")):
            self.cookie = f"__Host-hellojohn={made[1]}"
        self.api.http.cookies.clear()
        return answer

    def v1(self, method: str, path: str, tenant: Backend | None = None, **more: Any) -> httpx.Response:
        named = {} if tenant is None else {"X-Tenant-ID": tenant.tenant_id}
        return self.call(method, f"/dashboard/api/v1{path}", headers={**named, **more.pop("headers", {})}, **more)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock") / "clock")


@pytest.fixture(scope="module")
def api(valkey_url: str, clock: Clock) -> Iterator[Api]:
    process = Api(valkey_url, CLOCK_FILE=str(clock.file))
    yield process
    process.stop()


@pytest.fixture(autouse=True)
def right_time(clock: Clock) -> None:
    clock.shift(0)


@pytest.fixture
def backend(api: Api) -> Backend:
    return api.tenant("Acme & Söhne")  # quoted: NAME


def refused(answer: httpx.Response, status: int, code: str) -> bool:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    return True


def revoke_key(api: Api, backend: Backend) -> None:
    path = f"/v1/admin/tenants/{backend.tenant_id}/api-keys"
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    key_id = api.http.get(path, headers=headers).json()["data"][0]["id"]
    assert api.http.delete(f"{path}/{key_id}", headers=headers).status_code == 204


def test_the_cookie_is_opaque_and_has_every_flag(api: Api, backend: Backend) -> None:
    answer = Page(api).sign_in(backend.key)
    assert answer.status_code == 201
    assert COOKIE.fullmatch(answer.headers["set-cookie"])
    assert len(answer.headers["set-cookie"]) < 4_096


def test_who_is_signed_in_is_said_without_any_secret(api: Api, backend: Backend) -> None:
    page = Page(api, backend.key)
    said = page.call("GET", SESSION).json()
    assert said["kind"] == "key"
    assert said["name"] == "backend"
    assert said["tenant"] == {"id": backend.tenant_id, "name": "Acme & Söhne"}
    assert "sessions:read" in said["scopes"]
    assert said["oidc"] is False
    admin = Page(api, ADMIN_KEY).call("GET", SESSION).json()
    assert (admin["kind"], admin["tenant"], admin["scopes"]) == ("admin", None, None)


def test_without_a_session_there_is_only_the_sign_in(api: Api) -> None:
    page = Page(api)
    assert refused(page.call("GET", SESSION), 401, "missing_token")
    assert refused(page.v1("GET", "/sessions"), 401, "missing_token")
    assert page.call("GET", "/dashboard/api/options").json() == {"oidc": False}


@pytest.mark.parametrize("key", ["sk_live_x", "mk_live_" + "x" * 40, "", "eyJhbGciOiJFZERTQSJ9.e30.x", "a b"])
def test_a_wrong_key_gets_no_cookie(api: Api, key: str) -> None:
    answer = Page(api).sign_in(key)
    assert refused(answer, 401, "invalid_api_key")
    assert "set-cookie" not in answer.headers


def test_guesses_are_counted_by_the_key_they_name(valkey_url: str) -> None:
    strict = Api(valkey_url, HELLOJOHN_FAILURES_PER_MINUTE="50")
    try:
        backend = strict.tenant()
        wrong = backend.key[:-1] + ("0" if backend.key[-1] != "0" else "1")
        codes = [Page(strict).sign_in(wrong).status_code for _ in range(12)]
        assert codes[0] == 401
        assert codes[-1] == 429
        assert Page(strict).sign_in(backend.key).status_code == 201
    finally:
        strict.stop()


def test_a_user_s_access_token_is_no_key(api: Api, backend: Backend) -> None:
    assert refused(Page(api).sign_in(backend.create()["access_token"]), 401, "invalid_api_key")


def test_a_sign_in_never_takes_over_a_value_that_was_planted(api: Api, backend: Backend) -> None:
    page = Page(api)
    planted = page.cookie = "__Host-hellojohn=" + "A" * 43
    assert page.sign_in(backend.key).status_code == 201
    assert page.cookie != planted
    page.cookie = planted
    assert refused(page.call("GET", SESSION), 401, "missing_token")


def test_signing_in_again_gives_a_new_value_and_ends_the_old(api: Api, backend: Backend) -> None:
    page = Page(api, backend.key)
    old = page.cookie
    assert page.sign_in(backend.key).status_code == 201
    new, page.cookie = page.cookie, old
    assert new != old
    assert refused(page.call("GET", SESSION), 401, "missing_token")


def test_two_cookies_of_the_name_are_none(api: Api, backend: Backend) -> None:
    page = Page(api, backend.key)
    page.cookie = f"{page.cookie}; {page.cookie}"
    assert refused(page.call("GET", SESSION), 401, "missing_token")


def test_one_credential_has_a_bounded_number_of_sessions(api: Api, backend: Backend) -> None:
    pages = [Page(api, backend.key) for _ in range(MAX_SIGNED_IN + 1)]
    assert pages[0].call("GET", SESSION).status_code == 401
    assert pages[1].call("GET", SESSION).status_code == 200


def test_sign_out_ends_the_session_on_our_side_and_clears_the_browser(api: Api, backend: Backend) -> None:
    page = Page(api, backend.key)
    answer = page.call("DELETE", SESSION)
    assert answer.status_code == 204
    assert answer.headers["clear-site-data"] == '"cache", "storage"'
    assert answer.headers["set-cookie"].startswith(
        "__Host-hellojohn=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"
    )
    assert refused(page.call("GET", SESSION), 401, "missing_token")
    assert page.call("DELETE", SESSION).status_code == 204


def test_a_session_ends_after_a_quarter_of_an_hour_without_use(api: Api, backend: Backend, clock: Clock) -> None:
    page = Page(api, backend.key)
    clock.shift(14 * MINUTE)
    assert page.v1("GET", "/sessions").status_code == 200
    clock.shift(28 * MINUTE)
    assert page.v1("GET", "/sessions").status_code == 200
    clock.shift(43 * MINUTE + 1_000)
    assert refused(page.v1("GET", "/sessions"), 401, "missing_token")
    clock.shift(0)


def test_a_page_that_only_polls_does_not_keep_a_session(api: Api, backend: Backend, clock: Clock) -> None:
    page = Page(api, backend.key)
    clock.shift(14 * MINUTE)
    assert page.v1("GET", "/sessions", headers={"X-Background": "1"}).status_code == 200
    clock.shift(15 * MINUTE + 1_000)
    assert refused(page.v1("GET", "/sessions"), 401, "missing_token")


def test_a_session_ends_after_twelve_hours_however_busy(api: Api, backend: Backend, clock: Clock) -> None:
    page = Page(api, backend.key)
    for quarter in range(1, 12 * 6):
        clock.shift(10 * MINUTE * quarter)
        assert page.v1("GET", "/sessions").status_code == 200
    clock.shift(12 * HOUR + 1_000)
    assert refused(page.v1("GET", "/sessions"), 401, "missing_token")


def test_a_key_that_is_revoked_ends_its_sessions_at_the_next_request(api: Api, backend: Backend) -> None:
    page = Page(api, backend.key)
    assert page.v1("GET", "/sessions").status_code == 200
    revoke_key(api, backend)
    assert refused(page.v1("GET", "/sessions"), 401, "missing_token")
    assert refused(page.call("GET", SESSION), 401, "missing_token")


def test_a_tenant_that_is_deleted_ends_the_sessions_of_its_keys(api: Api, backend: Backend) -> None:
    page, admin = Page(api, backend.key), Page(api, ADMIN_KEY)
    path = f"/admin/tenants/{backend.tenant_id}"
    assert refused(admin.v1("DELETE", path), 428, "confirmation_required")
    assert admin.v1("DELETE", path, headers={"X-Confirm": NAME}).status_code == 204
    assert refused(page.v1("GET", "/sessions"), 401, "missing_token")


def test_another_admin_key_ends_the_sessions_of_the_old_one(api: Api, valkey_url: str) -> None:
    page = Page(api, ADMIN_KEY)
    other = Api(valkey_url, HELLOJOHN_ADMIN_KEY="mk_live_" + "Ab3xYz9Qw7Er5Ty1Ui8Op2As4Df6Gh0Jk")
    try:
        page.api = other
        assert refused(page.call("GET", SESSION), 401, "missing_token")
    finally:
        other.stop()


def test_in_an_overlap_both_keys_sign_in_and_each_session_ends_with_its_own_key(valkey_url: str) -> None:
    next_key = "mk_live_Ab3xYz9Qw7Er5Ty1Ui8Op2As4Df6Gh0Jk"
    both = Api(valkey_url, HELLOJOHN_OTHER_ADMIN_KEY=next_key)
    after = Api(valkey_url, HELLOJOHN_ADMIN_KEY=next_key)
    try:
        old, new = Page(both, ADMIN_KEY), Page(both, next_key)
        for page in (old, new):
            assert page.call("GET", SESSION).status_code == 200
        for key in (ADMIN_KEY, next_key):
            answer = both.http.get("/v1/admin/tenants", headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 200
        old.api = new.api = after
        assert new.call("GET", SESSION).status_code == 200
        assert refused(old.call("GET", SESSION), 401, "missing_token")
    finally:
        both.stop()
        after.stop()


def test_a_stream_ends_with_the_session_that_opened_it(api: Api, backend: Backend) -> None:
    page = Page(api, ADMIN_KEY)
    headers = {"Cookie": page.cookie, "Accept": "text/event-stream", "X-Tenant-ID": backend.tenant_id}
    with api.http.stream("GET", "/dashboard/api/v1/events", headers=headers) as stream:
        lines = stream.iter_lines()
        assert "retry: 1000" in next(lines)
        assert page.call("DELETE", SESSION).status_code == 204
        assert "session.revoked" not in "".join(lines)


CROSS = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
HOSTILE: dict[str, dict[str, Any]] = {
    "a form of another site": {"data": {"all": "true"}, "headers": CROSS},
    "JSON sent as text": {"content": '{"all":true}', "headers": {**CROSS, "Content-Type": "text/plain"}},
    "nothing that tells where it is from": {"json": {"all": True}},
    "our header alone": {"json": {"all": True}, "headers": OURS},
    "our origin alone": {"json": {"all": True}, "headers": {"Sec-Fetch-Site": "same-origin"}},
    "a foreign origin": {"json": {"all": True}, "headers": {**OURS, "Origin": "https://evil.example"}},
    "no origin at all": {"json": {"all": True}, "headers": {**OURS, "Origin": "null"}},
    "an origin that begins like ours": {
        "json": {"all": True},
        "headers": {**OURS, "Origin": "http://127.0.0.1:80.evil"},
    },
    "another site's page": {"json": {"all": True}, "headers": {**OURS, "Sec-Fetch-Site": "cross-site"}},
    "a neighbour's page": {"json": {"all": True}, "headers": {**OURS, "Sec-Fetch-Site": "same-site"}},
    "the address bar": {"json": {"all": True}, "headers": {**OURS, "Sec-Fetch-Site": "none"}},
    "a foreign page of our site": {
        "json": {"all": True},
        "headers": {**OURS, **CROSS, "Sec-Fetch-Site": "same-origin"},
    },
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_change_that_our_own_pages_did_not_ask_for_is_refused(api: Api, backend: Backend, how: str) -> None:
    page = Page(api, backend.key)
    token = backend.create()["access_token"]
    assert refused(page.send("POST", "/dashboard/api/v1/sessions/revoke", **HOSTILE[how]), 403, "csrf_refused")
    assert refused(page.send("POST", SESSION, **HOSTILE[how]), 403, "csrf_refused")
    assert refused(page.send("DELETE", SESSION, headers=HOSTILE[how].get("headers", {})), 403, "csrf_refused")
    assert backend.verify(token)["valid"] is True
    assert page.call("GET", SESSION).status_code == 200


def test_other_sites_may_not_even_read(api: Api, backend: Backend) -> None:
    page = Page(api, backend.key)
    for site in ("cross-site", "same-site"):
        answer = page.send("GET", "/dashboard/api/v1/sessions", headers={"Sec-Fetch-Site": site})
        assert refused(answer, 403, "csrf_refused")
    answer = page.send("GET", "/dashboard/api/v1/sessions")
    assert answer.status_code == 200
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in answer.headers


def test_behind_a_proxy_that_changes_the_host_the_issuer_is_our_origin(api: Api, backend: Backend) -> None:
    page = Page(api, backend.key)
    headers = {**OURS, "Origin": "https://sessions.example"}
    assert page.send("DELETE", SESSION, headers=headers).status_code == 204


def test_the_public_api_takes_no_cookie_and_the_dashboard_no_key(api: Api, backend: Backend) -> None:
    page = Page(api, backend.key)
    for path in ("/v1/sessions", "/v1/admin/config", "/v1/events", "/v1/me/sessions"):
        assert refused(page.call("GET", path), 401, "missing_token")
    bearer = {"Authorization": f"Bearer {backend.key}"}
    page.cookie = ""
    assert refused(page.v1("GET", "/sessions", headers=bearer), 401, "missing_token")


def test_a_path_that_is_no_operation_is_404(api: Api) -> None:
    page = Page(api, ADMIN_KEY)
    for path in (
        "/dashboard/api",
        "/dashboard/api/",
        "/dashboard/api/livez",
        "/dashboard/api/v1/nothing",
        "/dashboard/api/v1",
    ):
        assert refused(page.call("GET", path), 404, "not_found")
    assert refused(page.call("PUT", SESSION), 405, "method_not_allowed")


def test_a_key_s_scopes_hold_at_this_door_too(api: Api, backend: Backend) -> None:
    path = f"/v1/admin/tenants/{backend.tenant_id}/api-keys"
    made = api.http.post(
        path, json={"name": "support", "scopes": ["sessions:read"]}, headers={"Authorization": f"Bearer {ADMIN_KEY}"}
    )
    page = Page(api, made.json()["key"])
    assert page.v1("GET", "/sessions").status_code == 200
    assert refused(page.v1("GET", "/admin/config"), 403, "insufficient_scope")
    assert page.call("GET", SESSION).json()["scopes"] == ["sessions:read"]


def test_an_admin_works_on_the_sessions_of_the_tenant_that_is_named(api: Api, backend: Backend) -> None:
    page, made = Page(api, ADMIN_KEY), backend.create("usr_7")
    sid = made["session"]["id"]
    assert refused(page.v1("GET", "/sessions"), 422, "validation_error")
    assert [one["id"] for one in page.v1("GET", "/sessions", backend).json()["data"]] == [sid]
    changed = page.v1("PATCH", f"/sessions/{sid}", backend, json={"role": "reader"})
    assert changed.status_code == 200
    assert [*changed.json()] == ["session"], "an operator gets no token of a user"
    assert page.v1("DELETE", f"/sessions/{sid}", backend).status_code == 204
    assert page.v1("GET", f"/sessions/{sid}", backend).json()["end_reason"] == "admin"
    foreign = api.tenant("Other")
    assert refused(page.v1("GET", f"/sessions/{sid}", foreign), 404, "session_not_found")
    for path, json in (("/sessions", {"user_id": "u"}), ("/sessions/verify", {"session_id": sid})):
        assert refused(page.v1("POST", path, backend, json=json), 403, "insufficient_scope")


def test_what_people_do_is_on_record_with_who_did_it(api: Api, backend: Backend) -> None:
    sid = backend.create("usr_7")["session"]["id"]
    admin, tenant = Page(api, ADMIN_KEY), Page(api, backend.key)
    assert admin.v1("PATCH", f"/sessions/{sid}", backend, json={"role": "reader"}).status_code == 200
    assert tenant.v1("DELETE", f"/sessions/{sid}").status_code == 204
    assert tenant.v1("POST", "/sessions/revoke", json={"user_id": "usr_7"}).status_code == 200
    assert tenant.call("DELETE", SESSION).status_code == 204
    page = backend.call("GET", "/v1/admin/audit").json()
    key_id = backend.key.split("_")[2]
    assert [(entry["actor"], entry["action"], entry["target"]) for entry in page["data"]] == [
        (key_id, "dashboard.signed_out", key_id),
        (key_id, "sessions.revoked", "usr_7"),
        (key_id, "session.revoked", sid),
        ("admin", "session.updated", sid),
        (key_id, "dashboard.signed_in", key_id),
        ("admin", "api_key.created", key_id),
    ]
    assert page["intact"] is True


def test_grave_acts_need_a_fresh_sign_in(api: Api, backend: Backend, clock: Clock) -> None:
    page, keys = Page(api, ADMIN_KEY), f"/admin/tenants/{backend.tenant_id}/api-keys"
    made = page.v1("POST", keys, json={"name": "first"})
    assert made.status_code == 201
    clock.shift(11 * MINUTE)
    acts: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", keys, {"json": {"name": "second"}}),
        ("POST", f"{keys}/{made.json()['id']}/rotate", {"json": {}}),
        ("DELETE", f"{keys}/{made.json()['id']}", {}),
        ("POST", "/admin/signing-keys/rotate", {}),
        ("DELETE", "/admin/signing-keys/" + "A" * 43, {}),
        ("POST", "/sessions/revoke", {"json": {"all": True}}),
        ("DELETE", f"/admin/tenants/{backend.tenant_id}", {}),
    ]
    for method, path, more in acts:
        assert refused(page.v1(method, path, backend, **more), 403, "fresh_sign_in_required")
    assert page.v1("POST", "/sessions/revoke", backend, json={"user_id": "usr_1"}).status_code == 200
    assert page.sign_in(ADMIN_KEY).status_code == 201
    assert page.v1(*acts[0][:2], backend, **acts[0][2]).status_code == 201


def test_signing_a_whole_tenant_out_has_to_be_confirmed_by_its_name(api: Api, backend: Backend) -> None:
    page, token = Page(api, ADMIN_KEY), backend.create()["access_token"]
    everything = {"json": {"all": True}}
    for said in ({}, {"X-Confirm": "Acme"}, {"X-Confirm": ""}):
        answer = page.v1("POST", "/sessions/revoke", backend, headers=said, **everything)
        assert refused(answer, 428, "confirmation_required")
    assert backend.verify(token)["valid"] is True
    said = {"X-Confirm": NAME}
    assert page.v1("POST", "/sessions/revoke", backend, headers=said, **everything).json()["revoked"] == 1


def test_nothing_in_redis_opens_a_session(api: Api, backend: Backend, valkey_url: str) -> None:
    pages = [Page(api, backend.key), Page(api, ADMIN_KEY)]
    with Redis.from_url(valkey_url) as redis:
        kept = {key: redis.get(key) for key in redis.scan_iter("hj:dashboard:*")}
        everything = b"".join(b"%b %b" % (key, value or b"") for key, value in kept.items())
        assert kept
        for secret in (backend.key[25:], ADMIN_KEY[8:], *(page.cookie.split("=")[1] for page in pages)):
            assert secret.encode() not in everything
        assert all(0 < redis.pttl(key) <= 15 * MINUTE for key in kept)
        assert all(0 < redis.pttl(key) <= 12 * HOUR for key in redis.scan_iter("hj:dashboards:*"))


def test_who_writes_in_redis_can_neither_change_nor_move_a_record(api: Api, backend: Backend, valkey_url: str) -> None:
    with Redis.from_url(valkey_url) as redis:
        before = {*redis.scan_iter("hj:dashboard:*")}
        admin = Page(api, ADMIN_KEY)
        (of_admin,) = {*redis.scan_iter("hj:dashboard:*")} - before
        mine = Page(api, backend.key)
        (of_mine,) = {*redis.scan_iter("hj:dashboard:*")} - before - {of_admin}
        record = redis.get(of_mine)
        assert isinstance(record, bytes)
        redis.set(of_mine, redis.get(of_admin) or b"")
        assert refused(mine.call("GET", SESSION), 401, "missing_token")
        redis.set(of_mine, record.replace(backend.key.split("_")[2].encode(), b"0" * 16))
        assert refused(mine.call("GET", SESSION), 401, "missing_token")
        redis.set(of_mine, record, px=MINUTE)
        assert mine.call("GET", SESSION).status_code == 200
        assert admin.call("GET", SESSION).status_code == 200


SHELL_POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "font-src 'self'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
}


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/", "/dashboard/sessions", "/dashboard/sessions/ses_0"])
def test_every_view_is_the_same_shell_under_a_strict_policy(api: Api, path: str) -> None:
    answer = api.http.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert SHELL_POLICY <= {part.strip() for part in answer.headers["content-security-policy"].split(";")}
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    assert api.http.head(path).status_code == 200
    assert refused(api.http.post(path), 405, "method_not_allowed")


def test_assets_have_a_tag_and_are_not_sent_twice(api: Api) -> None:
    folder = Path(__file__).parents[2] / "app" / "dashboard" / "assets"
    styles = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.css"))
    assert styles
    for name in styles:
        answer = api.http.get(f"/dashboard/assets/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/css; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-content-type-options"] == "nosniff"
        again = api.http.get(f"/dashboard/assets/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/assets/nothing.js",
        "/dashboard/assets/",
        "/dashboard/assets/../index.html",
        "/dashboard/assets/../../main.py",
        "/dashboard/assets/..%2f..%2fmain.py",
        "/dashboard/assets/%2e%2e/%2e%2e/main.py",
        "/dashboard/assets//etc/passwd",
        "/dashboard/assets/..\\..\\main.py",
        "/dashboard/assets/%252e%252e/main.py",
    ],
)
def test_no_path_leads_out_of_the_assets(api: Api, path: str) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=5) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        found = b"".join(iter(lambda: raw.recv(65_536), b""))
    assert found.startswith(b"HTTP/1.1 404 ")


def test_a_session_survives_the_process_that_made_it(api: Api, backend: Backend, valkey_url: str) -> None:
    page = Page(api, backend.key)
    other = Api(valkey_url)
    try:
        page.api = other
        assert page.call("GET", SESSION).status_code == 200
        revoke_key(api, backend)
        wait_until(lambda: page.call("GET", SESSION).status_code == 401, "the key to be dead everywhere", 1.5)
    finally:
        other.stop()


def test_the_form_for_a_key_shows_every_scope_that_there_is() -> None:
    form = (ROOT / "app/dashboard/assets/newkey.js").read_text()
    listed = form[form.index("SCOPES = [") : form.index("];")]
    assert set(re.findall(r'"([a-z]+:[a-z]+)"', listed)) == set(SCOPES)
