"""Idle time with locally verified traffic only: whoever is seen stays, whoever is silent ends, on time."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from app.client.reports import Reports
from app.embedded import Embedded
from tests.client.acts import ISSUER, Site, code, until
from tests.faults.proxy import Proxy
from tests.service import Api, Process, environment

IDLE_S = 5


@pytest.fixture
def site(own_server: Embedded) -> Iterator[Site]:
    api = Api(own_server.url)
    worker = Process("worker.main", environment(own_server.url, HELLOJOHN_ISSUER=ISSUER))
    yield Site(api, None)
    worker.stop(signal.SIGKILL)
    api.stop()


@pytest.mark.slow
async def test_an_active_session_outlives_the_idle_timeout_and_a_silent_one_ends_on_time(site: Site) -> None:
    await site.call("PATCH", "/v1/admin/config", json={"idle_timeout": IDLE_S})
    await asyncio.sleep(1.1)
    active, silent = await site.create("usr_1"), await site.create("usr_2")
    began = time.monotonic()
    async with site.verifier(report_every=1.0) as verifier, site.verifier(report_every=None) as watcher:
        ended_after = 0.0
        while time.monotonic() < began + 2 * IDLE_S:
            assert await code(verifier, active["access_token"]) == "ok"
            if not ended_after and await code(watcher, silent["access_token"]) == "session_revoked":
                ended_after = time.monotonic() - began
            await asyncio.sleep(0.05)
        assert await code(verifier, silent["access_token"]) == "session_revoked"
        assert IDLE_S <= ended_after < IDLE_S + 2.5
    listed = await site.call("GET", f"/v1/sessions/{silent['session']['id']}")
    assert listed["end_reason"] == "idle_timeout"


@pytest.mark.slow
async def test_activity_is_reported_once_for_each_session_and_in_parts_of_five_hundred(site: Site) -> None:
    sessions = await asyncio.gather(*(site.create(f"usr_{number}") for number in range(600)))
    async with site.verifier(report_every=60.0) as verifier:
        for _ in range(3):
            for session in sessions:
                assert await code(verifier, session["access_token"]) == "ok"
        before = await _calls(site)
        await verifier.close()
        assert await _calls(site) - before == 2


@pytest.mark.slow
async def test_what_cannot_be_reported_is_tried_once_more(site: Site) -> None:
    session = await site.create()
    async with Proxy(site.api.port) as proxy:
        site.url = f"http://127.0.0.1:{proxy.port}"
        async with site.verifier(report_every=0.5, max_staleness=30.0) as verifier:
            before = await _calls(site)
            proxy.cut()
            assert await code(verifier, session["access_token"]) == "ok"
            await asyncio.sleep(0.7)
            proxy.heal()
            await asyncio.sleep(0.7)
            assert await _calls(site) - before == 1
            await until(verifier, session["access_token"], "ok")


async def test_of_very_many_sessions_only_so_many_wait_to_be_reported() -> None:
    async with httpx.AsyncClient() as http:
        reports, none = Reports(http, 5.0), Reports(http, None)
        for number in range(60_000):
            reports.note(str(number))
            none.note(str(number))
        assert (len(reports._seen), len(none._seen)) == (50_000, 0)


async def _calls(site: Site) -> float:
    """How many reports the service has answered."""
    text = (await asyncio.to_thread(site.api.http.get, "/metrics")).text
    wanted = 'operation="reportActivity"'
    lines = [line for line in text.splitlines() if wanted in line and "_count" in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
