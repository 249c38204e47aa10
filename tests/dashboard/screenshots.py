"""`python -m tests.dashboard.screenshots FOLDER`: every view, light and dark, on a desk and on a phone, over a service
that has had some life. `SCALE=0.6` makes them small, as the README has them.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from playwright.sync_api import Page

from app.embedded import Embedded
from tests.dashboard.browser import Visitor, chromium
from tests.service import ADMIN_KEY, Api, Backend, Process, environment

AGENTS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:130.0) Gecko/20100101 Firefox/130.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Mobile Safari/537.36",
    "Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Version/17.0 Mobile/15E148 Safari/604.1",
)
COUNTRIES: Final = ("US", "US", "DE", "FR", "BR", "IN", "JP")
SIZES: Final = {"desktop": (1280, 800), "phone": (390, 844)}
SCHEMES: Final = ("light", "dark")
SCALE: Final = float(os.environ.get("SCALE", "1"))


def live(backend: Backend) -> str:
    """A few dozen sign-ins, some ends, a change of claims; the id of a session that has seen it all."""
    chance = random.Random(7)
    made = [
        backend.create(
            f"usr_{chance.choice(['ada', 'grace', 'alan', 'edsger', 'barbara'])}",
            user_agent=chance.choice(AGENTS),
            country=chance.choice(COUNTRIES),
            ip_address=f"203.0.113.{number}",
            role="member",
        )
        for number in range(60)
    ]
    for session in made[:12]:
        backend.call("DELETE", f"/v1/sessions/{session['session']['id']}")
    backend.call("POST", "/v1/sessions/revoke", json={"user_id": "usr_alan"})
    shown = backend.create("usr_ada", user_agent=AGENTS[0], country="DE", ip_address="203.0.113.77", role="member")
    path = f"/v1/sessions/{shown['session']['id']}"
    backend.refresh(shown["refresh_token"])
    backend.call("PATCH", path, json={"role": "owner"})
    backend.call("DELETE", path)
    backend.create("usr_ada", user_agent=AGENTS[2], country="DE", ip_address="203.0.113.78")
    return str(shown["session"]["id"])


def views(tenant_id: str, session_id: str) -> dict[str, str]:
    """Name and path of each."""
    tenant = f"tenants/{tenant_id}"
    return {
        "all-tenants": "",
        "tenants": "tenants",
        "signing-keys": "signing-keys",
        "overview": tenant,
        "sessions": f"{tenant}/sessions?status=all",
        "session": f"{tenant}/sessions/{session_id}",
        "live": f"{tenant}/live",
        "policy": f"{tenant}/policy",
        "keys": f"{tenant}/keys",
        "audit": f"{tenant}/audit",
    }


def shoot(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as data, Embedded(Path(data) / "valkey") as server, chromium() as browser:
        api, worker = Api(server.url), Process("worker.main", environment(server.url))
        try:
            backend = api.tenant("Acme")
            paths = views(backend.tenant_id, live(backend))
            time.sleep(6)
            for scheme, (device, (width, height)) in itertools.product(SCHEMES, SIZES.items()):
                looks = {"color_scheme": scheme, "viewport": {"width": width, "height": height}}
                visit = Visitor(browser, api.url, locale="en-GB", device_scale_factor=SCALE, **looks)
                page = visit.page
                page.goto("/dashboard")
                _keep(page, folder / f"sign-in-{scheme}-{device}.png")
                visit.sign_in(ADMIN_KEY)
                for name, path in paths.items():
                    page.goto(f"/dashboard/{path}")
                    if name == "live":
                        page.get_by_role("status").filter(has_text="live").wait_for()
                        for user in ("usr_grace", "usr_ada"):
                            sid = backend.create(user, user_agent=AGENTS[1])["session"]["id"]
                            backend.call("PATCH", f"/v1/sessions/{sid}", json={"role": "admin"})
                            backend.call("DELETE", f"/v1/sessions/{sid}")
                    _keep(page, folder / f"{name}-{scheme}-{device}.png")
                page.goto(f"/dashboard/{paths['policy']}")
                group = page.get_by_role("group", name="Sessions per user")
                group.get_by_role("checkbox").uncheck()
                group.get_by_role("spinbutton").fill("2")
                page.get_by_text("Would end").wait_for()
                page.get_by_role("button", name="Save").click()
                _keep(page, folder / f"question-{scheme}-{device}.png")
                page.keyboard.press("Escape")
                _keep(page, folder / f"preview-{scheme}-{device}.png")
                visit.close()
        finally:
            worker.stop()
            api.stop()


def _keep(page: Page, file: Path) -> None:
    """Once it has been read and drawn."""
    page.wait_for_timeout(800)
    page.screenshot(path=file)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    shoot(target)
