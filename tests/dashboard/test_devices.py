"""`<hellojohn-devices>` in the page of another origin, with the user's own access token and nothing else."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.service import Api, Backend

pytestmark = pytest.mark.slow

CHROME = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36"
)
MARKUP = "<img src=x onerror=alert(1)>"
PAGE = """<!doctype html><title>Account</title><h1>Account</h1><hellojohn-devices></hellojohn-devices>
<script type="module" src="{api}/embed/devices.js"></script>
<script>
  const devices = document.querySelector("hellojohn-devices");
  devices.token = {token};
  devices.addEventListener("signed-out", () => document.querySelector("h1").textContent = "Goodbye");
  devices.addEventListener("session-ended", () => document.querySelector("h1").textContent = "Ended");
</script>"""


class Host(ThreadingHTTPServer):
    """Whoever embeds the element."""

    html = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.server.html.encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def host() -> Iterator[Host]:
    server = Host()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(8_000)
    yield context.new_page()
    context.close()


def test_a_user_sees_and_signs_out_devices_on_a_page_of_another_origin(host: Host, page: Page, valkey_url: str) -> None:
    api = Api(valkey_url, HELLOJOHN_ORIGINS=host.origin)
    try:
        backend = api.tenant()
        here = backend.create("usr_ada", user_agent=CHROME, country="DE")
        phone = backend.create("usr_ada", user_agent=MARKUP, country="FR")["access_token"]
        third = backend.create("usr_ada", device_type="tv")["access_token"]
        other = backend.create("usr_bob")["access_token"]
        host.html = PAGE.format(api=api.url, token=json.dumps(here["access_token"]))
        page.goto(host.origin)
        rows = page.get_by_role("list", name="Your devices").get_by_role("listitem")
        expect(rows).to_have_count(3)
        expect(rows.first).to_contain_text("Chrome on macOS")
        expect(rows.first).to_contain_text("This device")
        expect(rows.filter(has_text=MARKUP)).to_have_count(1)
        assert page.locator("hellojohn-devices img").count() == 0

        page.get_by_role("button", name=f"Sign out {MARKUP}").click()
        page.get_by_role("button", name="Sign out", exact=True).first.click()
        expect(rows).to_have_count(2)
        assert not backend.verify(phone)["valid"]

        page.get_by_role("button", name="Sign out everywhere else").click()
        page.get_by_role("button", name="Sign out everywhere else").click()
        expect(rows).to_have_count(1)
        assert not backend.verify(third)["valid"]
        assert backend.verify(here["access_token"])["valid"]
        assert backend.verify(other)["valid"]

        page.get_by_role("button", name="Sign out this device").click()
        page.get_by_role("button", name="Sign out", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Goodbye")
        assert not backend.verify(here["access_token"])["valid"]
    finally:
        api.stop()


def test_a_page_whose_origin_is_not_allowed_gets_nothing(host: Host, page: Page, api: Api, backend: Backend) -> None:
    token = backend.create("usr_ada", user_agent=CHROME)["access_token"]
    host.html = PAGE.format(api=api.url, token=json.dumps(token))
    page.goto(host.origin)
    expect(page.get_by_text("Your devices cannot be reached at the moment.")).to_be_visible()
    assert page.get_by_text("Chrome on macOS").count() == 0


def test_only_what_users_call_is_shared_and_only_with_those_allowed(valkey_url: str) -> None:
    """Preflights and answers (Fetch standard, "CORS protocol")."""
    api = Api(valkey_url, HELLOJOHN_ORIGINS="https://app.example,https://other.example")
    try:
        backend = api.tenant()
        token = backend.create("usr_ada")["access_token"]
        good = {"Origin": "https://app.example", "Authorization": f"Bearer {token}"}
        asks = {"Origin": "https://app.example", "Access-Control-Request-Method": "DELETE"}
        answer = api.http.get("/v1/me/sessions", headers=good)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["vary"] == "origin"
        assert api.http.options("/v1/me/sessions/current", headers=asks).status_code == 204
        for origin in ("https://evil.example", "null", "https://app.example.evil", "http://app.example"):
            refused = api.http.get("/v1/me/sessions", headers={**good, "Origin": origin})
            assert "access-control-allow-origin" not in refused.headers
            assert api.http.options("/v1/me/sessions/current", headers={**asks, "Origin": origin}).status_code == 405
        for path in ("/v1/sessions", "/v1/admin/config", "/dashboard/api/session", "/dashboard/api/v1/me/sessions"):
            assert "access-control-allow-origin" not in api.http.get(path, headers=good).headers
            assert api.http.options(path, headers=asks).status_code >= 400
    finally:
        api.stop()
