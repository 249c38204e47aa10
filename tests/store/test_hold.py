"""What belongs to one holder: for as long as it is used, and not much longer than its holder lives."""

from __future__ import annotations

import asyncio

import pytest

from app.model import new_id
from app.store.hold import Hold
from app.store.wire import Wire

pytestmark = pytest.mark.parametrize("wire", ["fakeredis", "valkey", "cluster"], indirect=True)
SHORT_MS = 200


@pytest.fixture
def key() -> str:
    return f"hj:test:{new_id('hold')}"


async def test_one_has_it_until_it_is_dropped(wire: Wire, key: str) -> None:
    first, second = Hold(wire, key), Hold(wire, key)
    assert await first.take() and not await second.take()
    assert not await second.drop()
    assert await first.drop() and await second.take()


async def test_it_lasts_as_long_as_it_is_used(wire: Wire, key: str) -> None:
    used, other = Hold(wire, key, for_ms=SHORT_MS), Hold(wire, key)
    assert await used.take()
    async with used.kept():
        await asyncio.sleep(3 * SHORT_MS / 1_000)
        assert not await other.take()
    await asyncio.sleep(1.5 * SHORT_MS / 1_000)
    assert await other.take()


async def test_who_has_lost_it_changes_nothing(wire: Wire, key: str) -> None:
    late, next_one = Hold(wire, key, b"same", for_ms=1), Hold(wire, key, b"same")
    assert await late.take()
    await asyncio.sleep(0.02)
    assert await next_one.take()
    assert not await late.turn(b"late", 1_000) and not await late.drop()
    assert await next_one.turn(b"answer", SHORT_MS)
    assert await wire.call(key, "GET", key) == b"answer"
    assert 0 < await wire.call(key, "PTTL", key) <= SHORT_MS
