"""Sessions of the dashboard as they lie in the store: bounded in time and in number, and gone when they are gone."""

from __future__ import annotations

from secrets import token_hex

import pytest

from app.model import HOUR, MINUTE
from app.store import keyspace
from app.store.dashboard import MAX_SIGNED_IN, DashboardSessions
from app.store.wire import Wire

on_servers = pytest.mark.parametrize("wire", ["fakeredis", "valkey", "cluster"], indirect=True)
IDLE, LIFE = 15 * MINUTE, 12 * HOUR


@on_servers
async def test_a_record_is_kept_for_its_idle_time_and_the_index_for_its_life(wire: Wire, now: int) -> None:
    sessions, name, owner = DashboardSessions(wire), token_hex(32), token_hex(8)
    await sessions.put(name, owner, b"record", now, IDLE, LIFE)
    assert await sessions.get(name) == b"record"
    key, index = keyspace.dashboard(name), keyspace.dashboard_index(owner)
    assert IDLE - MINUTE < await wire.call(key, "PTTL", key) <= IDLE
    assert LIFE - MINUTE < await wire.call(index, "PTTL", index) <= LIFE
    await sessions.keep(name, b"later", MINUTE)
    assert await sessions.get(name) == b"later"
    assert 0 < await wire.call(key, "PTTL", key) <= MINUTE


@on_servers
async def test_what_was_dropped_does_not_come_back_with_a_late_stamp(wire: Wire, now: int) -> None:
    sessions, name, owner = DashboardSessions(wire), token_hex(32), token_hex(8)
    await sessions.put(name, owner, b"record", now, IDLE, LIFE)
    await sessions.drop(name, owner)
    await sessions.keep(name, b"late", IDLE)
    assert await sessions.get(name) is None
    await sessions.drop(name, owner)
    index = keyspace.dashboard_index(owner)
    assert await wire.call(index, "ZCARD", index) == 0


@on_servers
async def test_the_oldest_of_a_credential_go_and_no_other_s(wire: Wire, now: int) -> None:
    sessions, owner, other = DashboardSessions(wire), token_hex(8), token_hex(8)
    names = [token_hex(32) for _ in range(MAX_SIGNED_IN + 3)]
    await sessions.put(names[-1] + "0", other, b"another's", now, IDLE, LIFE)
    for age, name in enumerate(names):
        await sessions.put(name, owner, b"record", now + age, IDLE, LIFE)
    kept = [name for name in names if await sessions.get(name) is not None]
    assert kept == names[3:]
    assert await sessions.get(names[-1] + "0") == b"another's"


@on_servers
async def test_what_has_ended_by_itself_pushes_nobody_out(wire: Wire, now: int) -> None:
    """Many who signed in and went away, after one who is still there."""
    sessions, owner = DashboardSessions(wire), token_hex(8)
    living, last, *gone = [token_hex(32) for _ in range(MAX_SIGNED_IN + 3)]
    await sessions.put(living, owner, b"record", now, IDLE, LIFE)
    for age, name in enumerate(gone, 1):
        await sessions.put(name, owner, b"record", now + age, IDLE, LIFE)
        await wire.call(keyspace.dashboard(name), "PEXPIRE", keyspace.dashboard(name), 0)
    await sessions.put(last, owner, b"record", now + MINUTE, IDLE, LIFE)
    assert await sessions.get(living) == await sessions.get(last) == b"record"
    index = keyspace.dashboard_index(owner)
    assert await wire.call(index, "ZCARD", index) <= MAX_SIGNED_IN
