"""One address for two servers: behind it the replica becomes the primary while connections to the old one stay open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.errors import StoreUnavailable
from app.store.wire import open_wire
from tests.faults.pair import Pair
from tests.faults.scene import report
from tests.servers import wait_until
from tests.service import Api, Backend


async def test_who_writes_reads_that_at_the_new_primary(tmp_path: Path) -> None:
    """Long before the connection for reads asks for the server's role by itself: both are new."""
    async with Pair(tmp_path) as pair:
        wire = await open_wire(pair.url, 500)
        try:
            assert await wire.call("k", "SET", "k", "old") and await wire.call("k", "GET", "k") == b"old"
            await asyncio.to_thread(pair.fail_over)
            await _until_served(lambda: wire.call("k", "SET", "k", "new"))
            assert await _until_served(lambda: wire.call("k", "GET", "k")) == b"new"
        finally:
            await wire.close()


@pytest.mark.slow
async def test_no_read_stays_behind_on_the_old_primary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who has a revocation acknowledged finds it everywhere in that process at once; a process that does nothing but
    read finds out within the second in which it asks for the server's role."""
    async with Pair(tmp_path) as pair:
        api, reader = [await asyncio.to_thread(Api, pair.url, HELLOJOHN_LOG="error") for _ in range(2)]
        try:
            backend = await asyncio.to_thread(api.tenant)
            told = await asyncio.to_thread(_through_a_failover, pair, backend, reader)
        finally:
            api.stop()
            reader.stop()
    report(capsys, told)


def _through_a_failover(pair: Pair, backend: Backend, reader: Api) -> str:
    session = backend.create("usr_1")
    sid, token = session["session"]["id"], session["access_token"]
    for through in (backend.api, reader):
        assert backend.verify(token, through)["valid"]
        assert backend.call("GET", "/v1/sessions?user_id=usr_1", through).json()["data"]
    pair.fail_over()
    down = time.monotonic()
    wait_until(lambda: backend.call("DELETE", f"/v1/sessions/{sid}").status_code == 204, "the service")
    served = time.monotonic() - down
    for _ in range(20):
        answer = backend.call("POST", "/v1/sessions/verify", json={"token": token})
        assert answer.status_code == 503 or not answer.json()["valid"]
        listed = backend.call("GET", "/v1/sessions?user_id=usr_1")
        assert listed.status_code == 503 or listed.json()["data"] == []
    seen = _seconds(lambda: backend.call("POST", "/v1/sessions/verify", reader, json={"token": token}).json())
    assert seen < 2
    wait_until(lambda: backend.api.http.get("/readyz").status_code == 200, "the one who writes to be ready", 2)
    wait_until(lambda: reader.http.get("/readyz").status_code == 200, "the one who reads to be ready", 2)
    events = backend.call("GET", "/v1/events?limit=100", reader).json()["data"]
    assert [event["session_id"] for event in events] == [sid]
    return f"failover behind one address: a revocation went through after {served:.2f} s, a process that only reads \
refused its token {seen:.2f} s later; both ready again without a restart"


def _seconds(ask: Callable[[], dict[str, object]]) -> float:
    """Until a verification says no."""
    began = time.monotonic()
    wait_until(lambda: ask().get("valid") is False, "the revocation to be seen", 5)
    return time.monotonic() - began


async def test_a_replica_is_not_served_from(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        pair.proxy.target = pair.new.port
        wire = await open_wire(pair.url, 500)
        try:
            with pytest.raises(StoreUnavailable):
                await wire.call("k", "GET", "k")
        finally:
            await wire.close()


async def _until_served(ask: Callable[[], Awaitable[object]]) -> object:
    async with asyncio.timeout(5):
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                await asyncio.sleep(0.01)
