"""Answers that begin well and never arrive whole: the connection breaks off, or the rest does not come in time. And one
that no view can show."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from app.model import SECOND
from tests.dashboard.browser import Visitor
from tests.service import Backend

pytestmark = pytest.mark.slow
Make = Callable[..., Visitor]
SESSIONS = "**/dashboard/api/v1/sessions?*"


class Cutter(ThreadingHTTPServer):
    """Of every answer it sends the head and a little, and breaks off; while `going` is not set the connection stays and
    no more comes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.going = threading.Event()
        self.going.set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def takes(self, route: Route) -> None:
        """Instead of the service, and the page does not see it."""
        route.continue_(url=self.url)

    def stop(self) -> None:
        self.going.set()
        self.shutdown()
        self.server_close()


class Answer(BaseHTTPRequestHandler):
    server: Cutter

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b'{"data":[')
        self.server.going.wait()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def cutter() -> Iterator[Cutter]:
    server = Cutter()
    yield server
    server.stop()


@pytest.mark.parametrize("held", [False, True])
def test_what_was_there_stays_when_the_next_answer_is_cut_short(
    visitor: Make, backend: Backend, cutter: Cutter, held: bool
) -> None:
    """It counted as an answer with nothing in it once, which no view can show: the page was broken from then on."""
    visit = visitor()
    visit.context.clock.install(time=time.time())
    backend.create("usr_ada")
    page = visit.sign_in(backend.key, "/dashboard/sessions")
    row, stale = page.get_by_role("row").filter(has_text="usr_ada"), page.get_by_text("Not up to date")
    expect(row).to_be_visible()
    if held:
        cutter.going.clear()
    with page.expect_response(cutter.url):
        visit.context.route(SESSIONS, cutter.takes)
    if held:
        visit.context.clock.fast_forward(11 * SECOND)  # past the patience of the page
    expect(stale).to_contain_text("The server cannot be reached; trying again.")
    expect(row).to_be_visible()
    visit.context.unroute(SESSIONS)
    cutter.going.set()
    expect(stale).to_have_count(0)
    expect(row).to_have_count(1)


def test_who_is_signed_in_is_asked_again_when_the_answer_is_cut_short(
    visitor: Make, backend: Backend, cutter: Cutter
) -> None:
    visit = visitor()
    page = visit.sign_in(backend.key)
    visit.context.route("**/dashboard/api/session", cutter.takes, times=1)
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


def test_a_view_that_fails_takes_nothing_else_with_it(visitor: Make, backend: Backend) -> None:
    """Of an answer in a form that it does not know."""
    visit = visitor()
    backend.create("usr_ada")
    page = visit.sign_in(backend.key)
    visit.context.route(SESSIONS, lambda route: route.fulfill(json={}), times=1)
    page.get_by_role("link", name="Sessions").click()
    expect(page.get_by_role("alert")).to_contain_text("This page could not be shown")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("row").filter(has_text="usr_ada")).to_have_count(1)
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    [reported] = visit.wrong
    assert "reading 'length'" in reported
    visit.wrong.clear()
