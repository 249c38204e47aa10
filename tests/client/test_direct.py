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
from app.store.wire import open_wire
from tests.builders import a_tenant, announce
from tests.servers import command, commands

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


async def read(server: Embedded, url: str = "") -> tuple[list[str | None], int]:
    """What a first pass is told, and how many commands it takes."""
    listener = Listening()
    feed = RedisFeed(url or server.url, TENANT, listener, 1.0)
    log, before = feed._open(), commands(server)
    try:
        await feed._read_shards(log, range(SHARDS))
        return listener.told, commands(server) - before
    finally:
        await log.aclose()


async def test_the_first_pass_reads_no_events_of_others(own_server: Embedded) -> None:
    wire = await open_wire(own_server.url, 10_000)
    await announce(wire, SHARD, TENANT, 250)
    few = await read(own_server)
    for _ in range(100):
        await announce(wire, SHARD, "tnt_2", 100)
    await announce(wire, SHARD, TENANT)
    many = await read(own_server)
    await wire.close()
    assert (len(few[0]), len(many[0])) == (250, 251)
    assert many[1] <= few[1] + 1


async def test_a_first_pass_misses_nothing_that_no_index_has(own_server: Embedded) -> None:
    """Of a version without an index, before and behind one with; and as a user who may not read it."""
    wire = await open_wire(own_server.url, 10_000)
    await announce(wire, SHARD, TENANT, 3)
    for number in range(2):
        revoked(own_server, f"ses_old_{number}")
        await announce(wire, SHARD, TENANT, 2)
    await announce(wire, SHARD + 1, TENANT, 2)
    told, _ = await read(own_server)
    assert sorted(map(str, told)) == sorted(["s"] * 9 + ["ses_old_0", "ses_old_1"])
    revoked(own_server, "ses_last")
    told, _ = await read(own_server)
    assert len(told) == 12
    command(
        own_server, "ACL", "SETUSER", "old", "on", ">pw", "~hj:{*}:events", "~hj:keys", "+xrange", "+xread", "+select"
    )
    told, _ = await read(own_server, f"redis://old:pw@127.0.0.1:{own_server.port}/0")
    assert len(told) == 12
    await wire.close()


async def test_a_first_pass_in_a_cluster(cluster_url: str) -> None:
    """Each shard's keys are on one of its servers; more entries of one shard than are asked for at once."""
    wire, tenant, listener = await open_wire(cluster_url, 10_000), a_tenant(), Listening()
    for shard in range(0, SHARDS, 100):
        await announce(wire, shard, tenant, 3)
        await announce(wire, shard, "tnt_2", 3)
    await announce(wire, SHARD, tenant, 400)
    await wire.close()
    feed = RedisFeed(cluster_url, tenant, listener, 1.0)
    log = feed._open()
    try:
        for _ in range(2):
            await feed._read_shards(log, range(SHARDS))
            assert len(listener.told) == 11 * 3 + 400
    finally:
        await log.aclose()
