"""Nobody at the desk, on a server whose clock a test turns and in a browser that goes along: the server decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, Request, Route, expect

from app.model import MINUTE, SECOND
from tests.dashboard.browser import Visitor
from tests.faults.clock import Clock
from tests.service import Api, Backend

pytestmark = pytest.mark.slow
Make = Callable[..., Visitor]
SESSION = "**/dashboard/api/session"


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock") / "clock")


@pytest.fixture(scope="module")
def api(valkey_url: str, clock: Clock) -> Iterator[Api]:
    process = Api(valkey_url, CLOCK_FILE=str(clock.file))
    yield process
    process.stop()


class Desk:
    """A browser at the dashboard of a tenant. `ahead`: its clock before the server's (ms)."""

    def __init__(self, visit: Visitor, key: str, clock: Clock, ahead: int = 0) -> None:
        self.visit, self._clock, self._passed = visit, clock, 0
        self.ended: list[str] = []
        visit.context.on("request", self._note)
        visit.context.clock.install(time=(time.time() * 1_000 + ahead) / 1_000)
        clock.shift(0)
        self.page = visit.sign_in(key, "/dashboard/sessions?status=all")
        self.shows(self.page)

    def _note(self, request: Request) -> None:
        if request.method == "DELETE":
            self.ended.append(request.url)

    def second(self) -> Page:
        page = self.visit.open()
        page.goto("/dashboard/sessions")
        self.shows(page)
        return page

    def shows(self, page: Page) -> None:
        """What the view asked for is there; from now on it asks in the background."""
        expect(page.get_by_role("row").filter(has_text="usr_ada")).to_be_visible()

    def wait(self, ms: int) -> None:
        """Time passes, at the server and here. What the page has asked and not heard in full runs out of patience."""
        self._passed += ms
        self._clock.shift(self._passed)
        self.visit.context.clock.fast_forward(ms)


@pytest.fixture
def desk(visitor: Make, backend: Backend, clock: Clock) -> Callable[..., Desk]:
    backend.create("usr_ada")
    return lambda ahead=0: Desk(visitor(), backend.key, clock, ahead)


def notice(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Are you still there?")


def test_a_tab_that_lies_idle_leaves_one_in_use_alone(desk: Callable[..., Desk]) -> None:
    at = desk()
    idle = at.second()
    for _ in range(4):
        at.wait(10 * MINUTE)
        with at.page.expect_response(SESSION) as renewed:
            at.page.keyboard.press("Shift")
        assert renewed.value.status == 200
        at.visit.context.clock.run_for(2 * SECOND)
        expect(idle.get_by_role("dialog")).to_have_count(0)
    for page in (idle, at.page):
        page.reload()
        at.shows(page)
    assert at.ended == []


@pytest.mark.parametrize("ahead", [20 * MINUTE, -20 * MINUTE])
def test_a_browser_whose_clock_is_wrong_counts_by_the_server_s(desk: Callable[..., Desk], ahead: int) -> None:
    at = desk(ahead)
    at.wait(13 * MINUTE)
    at.visit.context.clock.run_for(2 * SECOND)
    at.shows(at.page)
    expect(at.page.get_by_role("dialog")).to_have_count(0)
    at.wait(MINUTE + 30 * SECOND)
    expect(notice(at.page)).to_contain_text("You will be signed out in 2")
    assert at.ended == []


def test_whoever_is_away_is_signed_out_by_the_server_and_comes_back_to_the_place(
    desk: Callable[..., Desk], backend: Backend
) -> None:
    at = desk()
    at.wait(14 * MINUTE + 30 * SECOND)
    expect(notice(at.page)).to_be_visible()
    at.wait(31 * SECOND)
    expect(at.page.get_by_text("You were signed out after a while without activity.")).to_be_visible()
    assert "usr_ada" not in at.page.content()
    at.page.get_by_label("Key", exact=True).fill(backend.key)
    at.page.get_by_role("button", name="Sign in").click()
    at.shows(at.page)
    expect(at.page.get_by_role("radio", name="All")).to_be_checked()
    assert at.ended == []


def test_whoever_answers_in_one_tab_has_answered_in_all(desk: Callable[..., Desk]) -> None:
    at = desk()
    other = at.second()
    at.wait(14 * MINUTE + 30 * SECOND)
    expect(notice(other)).to_be_visible()
    notice(at.page).get_by_role("button", name="Stay signed in").click()
    expect(notice(at.page)).to_have_count(0)
    at.visit.context.clock.run_for(6 * SECOND)
    expect(notice(other)).to_have_count(0)


def test_a_server_that_is_away_is_asked_again(desk: Callable[..., Desk]) -> None:
    """Its clock stands still meanwhile: nobody was away for as long as it looks from here."""
    at = desk()
    at.visit.context.set_offline(True)
    at.visit.context.clock.fast_forward(16 * MINUTE)
    expect(notice(at.page)).to_contain_text("Asking the server whether you are still signed in.")
    at.visit.context.set_offline(False)
    at.visit.context.clock.run_for(6 * SECOND)
    expect(notice(at.page)).to_have_count(0)
    at.shows(at.page)
    assert at.ended == []


def test_a_feed_that_fails_is_tried_again_without_counting_as_use(visitor: Make, backend: Backend) -> None:
    visit = visitor()
    background: list[str | None] = []

    def refuse(route: Route) -> None:
        background.append(route.request.headers.get("x-background"))
        route.fulfill(status=503, json={"title": "Away"}) if len(background) < 3 else route.continue_()

    visit.context.route("**/dashboard/api/v1/events", refuse)
    page = visit.sign_in(backend.key, "/dashboard/live")
    expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    assert background == [None, "1", "1"]
