"""Following in Redis itself: what may not be left out, whatever happens in the middle of a pass."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from redis import Redis as Blocking

from app.client.direct import RedisFeed
from app.client.errors import SessionError
from app.client.events import Event
from app.client.shards import SHARDS, log_key
from app.embedded import Embedded
from app.model import new_session_id
from tests.client.acts import Site, code, until
from tests.faults.pair import Pair
from tests.servers import command, wait_until
from tests.service import Api

TENANT = "tnt_1"
SHARD = 7
PAUSE_MS = 300
STALENESS_S = 1.0


class Listening:
    """Writes down whose end it was told."""

    def __init__(self) -> None:
        self.told: list[str | None] = []

    def take(self, event: Event) -> None:
        self.told.append(event.session_id)

    def confirm(self, as_of: float) -> None: ...

    def doubt(self) -> None: ...

    def refused(self, error: SessionError) -> None:
        raise error


def revoked(server: Embedded, session: str) -> None:
    """An entry of the log, as app/store/README.md has it."""
    now = int(time.time() * 1_000)
    entry = {"t": "session.revoked", "n": TENANT, "s": session, "r": "revoked", "at": now, "na": now // 1_000 + 3_600}
    with Blocking(port=server.port) as client:
        client.xadd(log_key(SHARD), entry)


async def test_a_reload_in_the_middle_of_a_pass_is_a_reload(own_server: Embedded) -> None:
    """The answer that was under way would put the place reached back, and what the reload was for would be skipped."""
    sessions = [new_session_id(TENANT, f"usr_{number}", 1_800_000_000_000) for number in range(3)]
    for session in sessions:
        revoked(own_server, session)
    listener = Listening()
    feed = RedisFeed(own_server.url, TENANT, listener, 1.0)
    log = feed._open()
    try:
        await feed._read_shards(log, range(SHARDS))
        assert listener.told == sessions
        command(own_server, "CLIENT", "PAUSE", PAUSE_MS, "ALL")
        reading = asyncio.create_task(feed._read_shards(log, range(SHARDS)))
        await asyncio.sleep(PAUSE_MS / 3_000)
        feed.reload()
        listener.told.clear()
        await reading
        await feed._read_shards(log, range(SHARDS))
        assert listener.told == sessions
    finally:
        await log.aclose()


@pytest.mark.slow
async def test_a_server_that_has_become_a_replica_confirms_nothing(tmp_path: Path) -> None:
    """A failover behind one address, with the connections to the old primary open: it would be silent for ever."""
    async with Pair(tmp_path) as pair:
        api = await asyncio.to_thread(Api, pair.url, HELLOJOHN_LOG="error")
        try:
            site = await asyncio.to_thread(Site, api, pair.url)
            kept, gone = await site.create("usr_1"), await site.create("usr_2")
            async with site.verifier(on_stale="refuse", max_staleness=STALENESS_S) as verifier:
                assert [await code(verifier, session["access_token"]) for session in (kept, gone)] == ["ok", "ok"]
                await asyncio.to_thread(pair.fail_over)
                await asyncio.to_thread(
                    wait_until, lambda: _revoked(site, gone), "the service to find the new primary", 5
                )
                acknowledged = time.monotonic()
                while await code(verifier, gone["access_token"]) == "ok":
                    assert time.monotonic() < acknowledged + STALENESS_S + 0.2
                    await asyncio.sleep(0.01)
                await until(verifier, gone["access_token"], "session_revoked")
                await until(verifier, kept["access_token"], "ok")
        finally:
            api.stop()


def _revoked(site: Site, session: dict[str, dict[str, str]]) -> bool:
    return site.backend.call("DELETE", f"/v1/sessions/{session['session']['id']}").status_code == 204
