"""For everybody: by keyboard alone, by a screen reader's rules (axe-core, WCAG 2.2 AA), light and dark, on a phone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import Visitor
from tests.service import ADMIN_KEY, Api, Backend, Process

pytestmark = pytest.mark.slow
Make = Callable[..., Visitor]

RULES = """axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa',
  'wcag22aa', 'best-practice']}).then(({violations}) => violations.filter(({impact}) => impact !== 'minor')
  .map(({id, impact, nodes}) => [id, impact, nodes.map(({html, failureSummary}) => html + ' ' + failureSummary)]))"""


def findings(page: Page, axe: str) -> Any:
    page.evaluate(axe)
    return page.evaluate(RULES)


@pytest.fixture
def lively(backend: Backend) -> Backend:
    for n in range(3):
        backend.create("usr_ada", country="FR", ip_address=f"203.0.113.{n}", user_agent="Mozilla/5.0 (iPhone) Safari/6")
    backend.call("POST", "/v1/sessions/revoke", json={"user_id": "usr_ada"})
    backend.create("usr_ben", country="DE", role="admin", claims={"plan": "pro"})
    return backend


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visitor: Make, lively: Backend, worker: Process, axe: str, scheme: str) -> None:
    session = lively.create("usr_cid")["session"]["id"]
    visit = visitor(color_scheme=scheme, reduced_motion="reduce")
    page = visit.page
    page.goto("/dashboard")
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    found = {"sign-in": findings(page, axe)}
    visit.sign_in(ADMIN_KEY)
    tenant = f"tenants/{lively.tenant_id}"
    own = ["", "/sessions?status=all", f"/sessions/{session}", "/live", "/policy", "/keys", "/audit"]
    for view in ["", "tenants", "signing-keys", "audit", "nowhere", *(tenant + view for view in own)]:
        page.goto(f"/dashboard/{view}")
        settled(page)
        found[view] = findings(page, axe)
    page.goto(f"/dashboard/{tenant}/keys")
    page.get_by_role("button", name="New key").click()
    found["new key"] = findings(page, axe)
    page.goto(f"/dashboard/{tenant}/sessions")
    page.get_by_role("button", name="Sign out the whole tenant").click()
    page.get_by_role("dialog").wait_for()
    found["question"] = findings(page, axe)
    assert {view: some for view, some in found.items() if some} == {}


def settled(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator("[aria-busy=true]")).to_have_count(0)


def test_a_phone_scrolls_in_one_direction(visitor: Make, lively: Backend) -> None:
    visit = visitor(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = visit.sign_in(ADMIN_KEY)
    tenant = f"tenants/{lively.tenant_id}"
    own = ["", "/sessions?status=all", "/live", "/policy", "/keys", "/audit"]
    for view in ["", "tenants", "signing-keys", *(tenant + view for view in own)]:
        page.goto(f"/dashboard/{view}")
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view


def test_the_keyboard_alone_is_enough(visitor: Make, backend: Backend) -> None:
    """Sign in, go to the sessions, begin to sign one out, think better of it, do it, and sign out."""
    token = backend.create("usr_ada")["access_token"]
    page = visitor().page
    page.goto("/dashboard")
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    page.keyboard.type(backend.key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    reach(page, "To the content")
    reach(page, "Sessions")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.get_by_role("row").filter(has_text="usr_ada")).to_be_visible()
    reach(page, "Sign out Unknown device of usr_ada")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Sign out Unknown device of usr_ada")).to_be_focused()
    page.keyboard.press("Enter")
    reach(page, "Sign out", inside="dialog")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The device is signed out.")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    assert not backend.verify(token)["valid"]
    reach(page, "Sign out")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def reach(page: Page, name: str, inside: str = "body") -> None:
    """Press Tab until what is called so has the focus, all the way round at most."""
    focused = """() => { const found = document.activeElement;
      return [found.ariaLabel ?? found.textContent.trim(), found.closest('dialog') ? 'dialog' : 'body']; }"""
    for _ in range(60):
        page.keyboard.press("Tab")
        label, place = page.evaluate(focused)
        if label.rstrip("…") == name and place == inside:
            return
    raise AssertionError(f"the keyboard does not reach {name}")


def test_the_operators_views_are_the_service_s_alone(visitor: Make, api: Api) -> None:
    """The shell holds no data, may be framed by nobody, and loads nothing but its own files."""
    answer = api.http.get("/dashboard/sessions")
    assert answer.headers["cache-control"] == "no-store"
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    visit = visitor()
    visit.sign_in(ADMIN_KEY)
    assert visit.asked and visit.outside == []
