"""Whatever others wrote is text: in every field, on every view, in both schemes of writing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import Visitor
from tests.service import ADMIN_KEY, Api

pytestmark = pytest.mark.slow

MARKUP = "\"><script>alert(1)</script><img/src=x/onerror=alert(2)>'${7*7}{{7*7}}"
ID = MARKUP.replace(" ", "")
HIDDEN = "a\x1b[31mred\x1b[0m\u202eltr\u200b\u2066"
SHOWN = "a⟨U+001B⟩[31mred⟨U+001B⟩[0m⟨U+202E⟩ltr⟨U+200B⟩⟨U+2066⟩"


def test_every_field_is_text(visitor: Callable[..., Visitor], api: Api) -> None:
    """No element, no dialog, no violation of the policy and no outside request: the fixture looks at the last three."""
    tenant = api.tenant(MARKUP)
    created = tenant.create(
        ID,
        user_agent=HIDDEN + MARKUP,
        country="XX",
        device_type=ID[:32],
        org_id=ID,
        role=ID,
        claims={MARKUP: HIDDEN},
        metadata={HIDDEN: MARKUP},
    )
    session = f"/v1/sessions/{created['session']['id']}"
    assert tenant.call("PATCH", session, json={"claims": {"x": MARKUP + HIDDEN}}).status_code == 200
    tenant.create(ID, user_agent=MARKUP)
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    path = f"/v1/admin/tenants/{tenant.tenant_id}/api-keys"
    assert api.http.post(path, json={"name": MARKUP + "\u202e"}, headers=admin).status_code == 201
    visit = visitor()
    page = visit.sign_in(ADMIN_KEY, f"/dashboard/tenants/{tenant.tenant_id}/live")
    expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    doomed = tenant.create(ID)["session"]["id"]
    tenant.call("PATCH", f"/v1/sessions/{doomed}", json={"role": ID, "claims": {"x": MARKUP + HIDDEN}})
    tenant.call("DELETE", f"/v1/sessions/{doomed}")
    expect(page.get_by_role("row").filter(has_text="Revoked")).to_contain_text(ID)
    expect(page.get_by_role("row").filter(has_text="Changed")).to_contain_text("⟨U+202E⟩ltr⟨U+200B⟩⟨U+2066⟩")
    expect(page.get_by_role("row").filter(has_text="Changed")).to_contain_text("a\\u001b[31mred")  # as JSON has it
    clean(page)
    for view, seen in {
        f"sessions/{created['session']['id']}": SHOWN,
        "sessions?status=all": ID,
        "keys": MARKUP + "⟨U+202E⟩",
        "audit": MARKUP,
        "policy": "Session lifetime",
        "": "Active now",
    }.items():
        page.goto(f"/dashboard/tenants/{tenant.tenant_id}/{view}")
        expect(page.get_by_role("main")).to_contain_text(seen)
        clean(page)
    expect(page.get_by_label("Tenant", exact=True)).to_contain_text(MARKUP)


def clean(page: Page) -> None:
    """Nothing of the markers has become an element, and no invisible character has reached the page."""
    assert page.locator("main img, main script, [onerror], iframe, object").count() == 0
    text = page.locator("body").inner_text()
    assert not set("\x1b\u202e\u200b\u2066") & set(text)
