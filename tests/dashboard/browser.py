"""A real browser: the system's Chromium, driven by Playwright, shut off from every address but this machine's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Dialog, Page, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
MISSING: Final = (
    "The browser tests need Chromium. On Debian and Ubuntu: apt-get install chromium (as root `make test` does it "
    "by itself); elsewhere install Chromium or Chrome, or name one: CHROMIUM=/path/to/chromium"
)
OFFLINE: Final = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def chromium_path() -> str:
    """Raises `RuntimeError`, which says what to install."""
    named = os.environ.get("CHROMIUM")
    found = named or next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None or shutil.which(found) is None:
        raise RuntimeError(MISSING)
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """Root may not use Chromium's sandbox; whoever else runs this keeps it."""
    with sync_playwright() as playwright:
        arguments = [*OFFLINE, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """One browser profile at the dashboard, which notes what must never happen: a request to an outside address, a
    dialog, a violation of the content security policy, an error of the page."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.context: BrowserContext = browser.new_context(base_url=url, **options)
        self.context.set_default_timeout(8_000)
        self.context.add_init_script(
            "addEventListener('securitypolicyviolation', event => "
            "console.error('CSP', event.violatedDirective, event.blockedURI, event.sourceFile))"
        )
        self.page = self.open()

    def open(self) -> Page:
        page = self.context.new_page()
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("dialog", self._interrupted)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error.stack or error}"))
        page.on("console", self._heard)
        return page

    def _interrupted(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _heard(self, message: Any) -> None:
        """Chromium reports every answer that is no success as an error of its own; those are not the page's."""
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.wrong.append(message.text)

    @property
    def outside(self) -> list[str]:
        """What was asked of anybody but the service."""
        return [url for url in self.asked if not url.startswith((f"{self.url}/", "data:", "blob:"))]

    def sign_in(self, key: str, path: str = "/dashboard") -> Page:
        self.page.goto(path)
        self.page.get_by_label("Key", exact=True).fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("button", name="Sign out", exact=True).first.wait_for()
        return self.page

    def close(self) -> None:
        self.context.close()
