"""What operators and support staff do at the dashboard, in a real browser, on real processes."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Browser, expect

from app.embedded import Embedded
from tests.dashboard.browser import Visitor
from tests.service import ADMIN_KEY, Api, Backend, Process

pytestmark = pytest.mark.slow
Make = Callable[..., Visitor]

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:130.0) Gecko/20100101 Firefox/130.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1"


def test_a_wrong_key_is_refused_in_words(visitor: Make) -> None:
    page = visitor().page
    page.goto("/dashboard")
    page.get_by_label("Key", exact=True).fill("sk_live_nonsense_0000000000000000000000")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("This key is not valid.")


def test_nothing_that_signs_in_can_be_read_by_a_script(visitor: Make, backend: Backend) -> None:
    visit = visitor()
    page = visit.sign_in(backend.key)
    cookies = visit.context.cookies()
    assert [cookie["name"] for cookie in cookies] == ["__Host-hellojohn"]
    assert cookies[0]["httpOnly"] and cookies[0]["secure"] and cookies[0]["sameSite"] == "Strict"
    assert backend.key not in cookies[0]["value"]
    readable = "JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])"
    assert page.evaluate(readable) == '["",{},{}]'
    assert page.evaluate("indexedDB.databases().then(found => found.length)") == 0
    assert backend.key not in page.content()


def test_a_created_session_appears_by_itself(visitor: Make, backend: Backend) -> None:
    visit = visitor()
    page = visit.sign_in(backend.key, "/dashboard/sessions")
    expect(page.get_by_text("No active sessions")).to_be_visible()
    backend.create("usr_ada", user_agent=FIREFOX, country="DE", ip_address="203.0.113.9")
    row = page.get_by_role("row").filter(has_text="usr_ada")
    expect(row).to_contain_text("Firefox on Windows")
    expect(row).to_contain_text("Germany · 203.0.113.9")
    expect(row.get_by_role("time").first).to_have_text("just now")
    expect(row.get_by_role("time").first).to_have_attribute("title", re.compile(r"\d\d:\d\d:\d\d"))


def test_the_overview_counts_along(visitor: Make, backend: Backend, worker: Process) -> None:
    """What the scripts have counted the worker brings every five seconds, and the page looks on its own."""
    page = visitor().sign_in(backend.key)
    active = page.get_by_role("term").filter(has_text="Active now").locator("xpath=following-sibling::dd")
    expect(active).to_have_text("0")
    expect(page.get_by_role("img", name="Signed in: none")).to_be_visible()
    for user in ("u1", "u2", "u3"):
        backend.create(user, user_agent=IPHONE, country="FR")
    expect(active).to_have_text("3", timeout=10_000)
    expect(page.get_by_role("img", name="Signed in: Sessions 3")).to_be_visible()
    expect(page.get_by_role("row", name="France")).to_contain_text("3")
    backend.call("POST", "/v1/sessions/revoke", json={"user_id": "u1"})
    expect(active).to_have_text("2", timeout=10_000)
    expect(page.get_by_role("img", name="Ended, by reason: Signed out everywhere 1")).to_be_visible()


def test_revoking_says_what_will_happen_and_the_event_arrives(visitor: Make, backend: Backend) -> None:
    visit = visitor()
    created = backend.create("usr_ada", user_agent=FIREFOX)
    kept = backend.create("usr_ada", user_agent=IPHONE)
    page = visit.sign_in(backend.key, "/dashboard/sessions?user=usr_ada")
    live = visit.open()
    live.goto("/dashboard/live")
    expect(live.get_by_role("status").filter(has_text="live")).to_be_visible()
    page.get_by_role("button", name="Sign out Firefox on Windows of usr_ada").click()
    question = page.get_by_role("dialog", name="Sign out this device?")
    expect(question).to_contain_text("This ends the session of usr_ada on Firefox on Windows, and no other.")
    question.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("The device is signed out.")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="Firefox")).to_have_count(0)
    event = live.get_by_role("row").filter(has_text="usr_ada")
    expect(event).to_contain_text("By an administrator")
    assert not backend.verify(created["access_token"])["valid"]
    assert backend.verify(kept["access_token"])["valid"]
    event.get_by_role("link", name="Session").click()
    story = live.get_by_role("list").filter(has_text="Ended: by an administrator")
    expect(story).to_contain_text("Signed in")


def test_all_but_one(visitor: Make, backend: Backend) -> None:
    here, *others = [backend.create("usr_ada", user_agent=agent) for agent in (IPHONE, FIREFOX, FIREFOX)]
    page = visitor().sign_in(backend.key, f"/dashboard/sessions/{here['session']['id']}")
    page.get_by_role("button", name="Sign out the others").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("This ends 2 sessions of usr_ada: all but the one on Safari on iPhone.")
    question.get_by_role("button", name="Sign out the others").click()
    expect(page.get_by_text("2 sessions ended.")).to_be_visible()
    verdicts = [backend.verify(session["access_token"])["valid"] for session in (here, *others)]
    assert verdicts == [True, False, False]


def test_a_session_id_leads_to_its_page(visitor: Make, backend: Backend) -> None:
    session = backend.create("usr_ada", user_agent=FIREFOX, metadata={"plan": "pro"})["session"]
    page = visitor().sign_in(backend.key, "/dashboard/sessions")
    page.get_by_label("User id or session id").fill(session["id"])
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Firefox on Windows")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.locator("pre")).to_contain_text('"plan": "pro"')


def test_a_user_id_of_any_signs_is_found_and_its_address_leads_back(visitor: Make, backend: Backend) -> None:
    user = " a/b?c=d&e+f*#%2F '\U0001f600' e\u0301 "
    for name in (user, user.strip(), "usr_ada"):
        backend.create(name, user_agent=FIREFOX)
    page = visitor().sign_in(backend.key, "/dashboard/sessions")
    page.get_by_label("User id or session id").fill(user)
    page.get_by_role("button", name="Find").click()
    rows = page.get_by_role("rowgroup").last.get_by_role("row")
    expect(rows).to_have_count(1)
    page.reload()
    expect(rows).to_have_count(1)
    expect(page.get_by_label("User id or session id")).to_have_value(user)


def test_the_whole_tenant_wants_its_name_typed(visitor: Make, api: Api, backend: Backend) -> None:
    backend.create("u1")
    backend.create("u2")
    page = visitor().sign_in(backend.key, "/dashboard/sessions")
    page.get_by_role("button", name="Sign out the whole tenant").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("This ends all 2 sessions of all users of Acme.")
    act = question.get_by_role("button", name="Sign out everyone")
    question.get_by_label("Name of the tenant").fill("acme")
    expect(act).to_be_disabled()
    question.get_by_label("Name of the tenant").fill("Acme")
    act.click()
    expect(page.get_by_text("2 sessions ended.")).to_be_visible()
    expect(page.get_by_text("No active sessions")).to_be_visible()


def test_a_policy_change_is_foreseen_and_acts(visitor: Make, backend: Backend, worker: Process) -> None:
    old, new = backend.create("usr_ada"), backend.create("usr_ada")
    page = visitor().sign_in(backend.key, "/dashboard/policy")
    limit = page.get_by_role("group", name="Sessions per user")
    limit.get_by_role("checkbox").uncheck()
    limit.get_by_role("spinbutton").fill("1")
    expect(page.get_by_text("Would end 1 of 2 active sessions now: 1 over the limit per user.")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("dialog").get_by_role("button", name="Change it").click()
    expect(page.get_by_text("The policy is changed.")).to_be_visible()
    assert backend.call("GET", "/v1/admin/config").json()["max_sessions_per_user"] == 1
    page.get_by_role("link", name="Sessions").click()
    expect(page.get_by_role("row").filter(has_text="usr_ada")).to_have_count(1)
    assert not backend.verify(old["access_token"])["valid"]
    assert backend.verify(new["access_token"])["valid"]


def test_a_setting_out_of_bounds_is_said_at_its_field(visitor: Make, backend: Backend) -> None:
    page = visitor().sign_in(backend.key, "/dashboard/policy")
    grace = page.get_by_role("group", name="Refresh grace")
    grace.get_by_role("spinbutton").fill("61")
    expect(grace.get_by_role("alert")).to_contain_text("0s to 1m")
    expect(page.get_by_role("button", name="Save")).to_be_disabled()


def test_the_feed_can_be_paused_and_filtered(visitor: Make, backend: Backend) -> None:
    page = visitor().sign_in(backend.key, "/dashboard/live")
    expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    for user in ("ann", "ben"):
        backend.create(user)
        backend.call("POST", "/v1/sessions/revoke", json={"user_id": user})
    rows = page.get_by_role("rowgroup").last.get_by_role("row")
    expect(rows).to_have_count(2)
    page.get_by_label("User or session contains").fill("ann")
    expect(rows).to_have_count(1)
    page.get_by_label("User or session contains").fill("")
    page.get_by_role("button", name="Pause").click()
    backend.create("cid")
    backend.call("POST", "/v1/sessions/revoke", json={"user_id": "cid"})
    expect(page.get_by_role("button", name="Go on (1 new)")).to_be_visible()
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="Go on").click()
    expect(rows.first).to_contain_text("cid")


def test_the_operator_makes_a_tenant_and_its_keys(visitor: Make, api: Api) -> None:
    page = visitor().sign_in(ADMIN_KEY, "/dashboard/tenants")
    page.get_by_role("button", name="New tenant").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Zoë & Söhne <b>")
    page.get_by_role("button", name="Make the tenant").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("API keys")
    expect(page.get_by_label("Tenant", exact=True).locator("option:checked")).to_have_text("Zoë & Söhne <b>")
    page.get_by_role("button", name="New key").click()
    page.get_by_role("dialog").get_by_label("Name").fill("shop")
    page.get_by_role("checkbox", name="config:write").uncheck()
    page.get_by_role("button", name="Make the key").click()
    shown = page.get_by_role("dialog", name="The new key")
    key = shown.get_by_label("Key").input_value()
    answer = api.http.get("/v1/sessions", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    shown.get_by_role("button", name="I have stored it").click()
    assert key not in page.content()
    row = page.get_by_role("row").filter(has_text="shop")
    expect(row).not_to_contain_text("config:write")
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke the key").click()
    expect(row).to_contain_text("revoked")
    page.get_by_role("link", name="Audit log").click()
    expect(page.get_by_role("row").filter(has_text="API key revoked")).to_have_count(1)


def test_signing_keys_rotate(visitor: Make, api: Api) -> None:
    """Whoever rotates while a next key is published gets that one; so one that other tests left has to go."""
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    for key in api.http.get("/v1/admin/signing-keys", headers=admin).json()["data"]:
        if key["state"] == "next":
            api.http.delete(f"/v1/admin/signing-keys/{key['kid']}", headers=admin)
    page = visitor().sign_in(ADMIN_KEY, "/dashboard/signing-keys")
    rows = page.get_by_role("rowgroup").last.get_by_role("row")
    expect(rows.first).to_be_visible()
    before = rows.count()
    page.get_by_role("button", name="Rotate").click()
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    expect(page.get_by_text("The next key is published.")).to_be_visible()
    expect(rows).to_have_count(before + 1)
    expect(rows.filter(has_text="published, so that")).to_have_count(1)


def test_after_signing_out_the_way_back_shows_nothing(visitor: Make, backend: Backend) -> None:
    backend.create("usr_secret")
    visit = visitor()
    page = visit.sign_in(backend.key)
    page.get_by_role("link", name="Sessions").click()
    page.get_by_role("row").filter(has_text="usr_secret").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sessions of usr_secret")
    other = visit.open()
    other.goto("/dashboard/sessions")
    expect(other.get_by_text("usr_secret")).to_be_visible()
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    for _ in range(2):
        page.go_back()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        assert "usr_secret" not in page.content()
    expect(other.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert "usr_secret" not in other.content()
    assert visit.context.cookies() == []


def test_a_session_that_ended_leads_back_to_the_place(visitor: Make, api: Api, backend: Backend) -> None:
    visit = visitor()
    backend.create("usr_ada")
    page = visit.sign_in(backend.key, "/dashboard/sessions?user=usr_ada&status=all")
    expect(page.get_by_role("row").filter(has_text="Unknown device")).to_have_count(1)
    visit.context.clear_cookies()
    expect(page.get_by_text("Your session has ended.")).to_be_visible()
    assert "usr_ada" not in page.get_by_role("main").inner_text()
    page.get_by_label("Key", exact=True).fill(backend.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sessions of usr_ada")
    expect(page.get_by_role("radio", name="All")).to_be_checked()


def test_what_was_there_stays_while_the_server_is_away(visitor: Make, backend: Backend) -> None:
    visit = visitor()
    backend.create("usr_ada")
    page = visit.sign_in(backend.key, "/dashboard/sessions")
    row = page.get_by_role("row").filter(has_text="usr_ada")
    expect(row).to_be_visible()
    visit.context.set_offline(True)
    expect(page.get_by_text("Not up to date")).to_be_visible()
    expect(row).to_be_visible()
    visit.context.set_offline(False)
    expect(page.get_by_text("Not up to date")).to_have_count(0)


def test_parts_that_are_away_are_named(browser: Browser, own_server: Embedded) -> None:
    """No worker has ever run, and then the store goes and comes back."""
    api = Api(own_server.url, REDIS_TIMEOUT_MS="300")
    visit = Visitor(browser, api.url)
    try:
        page = visit.sign_in(ADMIN_KEY)
        expect(page.get_by_text("The worker is away: what lives was last counted never.")).to_be_visible()
        own_server.stop()
        expect(page.get_by_text("The session store is away; trying again.")).to_be_visible()
        expect(page.get_by_text("Active now")).to_be_visible()
        own_server.start()
        expect(page.get_by_text("The session store is away")).to_have_count(0, timeout=10_000)
        assert visit.wrong == []
    finally:
        visit.close()
        api.stop()


def test_a_key_sees_only_what_its_scopes_allow(visitor: Make, api: Api, backend: Backend) -> None:
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    path = f"/v1/admin/tenants/{backend.tenant_id}/api-keys"
    made = api.http.post(path, json={"name": "support", "scopes": ["sessions:read"]}, headers=admin)
    backend.create("usr_ada")
    page = visitor().sign_in(made.json()["key"], "/dashboard/sessions")
    expect(page.get_by_role("row").filter(has_text="usr_ada")).to_be_visible()
    expect(page.get_by_role("navigation", name="Views").get_by_role("link")).to_have_text(["Sessions"])
    expect(page.get_by_role("button", name=re.compile("^Sign out .+"))).to_have_count(0)


def test_a_change_from_elsewhere_is_refused(visitor: Make, api: Api, backend: Backend) -> None:
    visit = visitor()
    visit.sign_in(backend.key)
    cookie = visit.context.cookies()[0]
    headers = {"Cookie": f"{cookie['name']}={cookie['value']}", "Content-Type": "application/json"}
    forged = {**headers, "Origin": "https://evil.example", "X-Requested-With": "hellojohn-dashboard"}
    answer = httpx.patch(f"{api.url}/dashboard/api/v1/admin/config", headers=forged, json={"refresh_grace": "1s"})
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_refused")
    assert backend.call("GET", "/v1/admin/config").json()["refresh_grace"] == "10s"
