"""Following in Redis itself: what may not be left out, whatever happens in the middle of a pass."""

from __future__ import annotations

import asyncio
import time

from redis import Redis as Blocking

from app.client.direct import RedisFeed
from app.client.errors import SessionError
from app.client.events import Event
from app.client.shards import SHARDS, log_key
from app.embedded import Embedded
from app.model import new_session_id
from tests.servers import command

TENANT = "tnt_1"
SHARD = 7
PAUSE_MS = 300


class Listening:
    """Writes down whose end it was told."""

    def __init__(self) -> None:
        self.told: list[str | None] = []

    def take(self, event: Event) -> None:
        self.told.append(event.session_id)

    def confirm(self, as_of: float) -> None: ...

    def listed(self, kids: frozenset[str], as_of: float) -> None: ...

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
