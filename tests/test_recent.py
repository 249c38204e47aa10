"""What was read a moment ago: who waits for whose read, and what is remembered of it."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import StoreUnavailable
from app.recent import Recent


class Source:
    """Answers a read when the test says so: with its number, or with a refusal."""

    def __init__(self) -> None:
        self.reads: list[asyncio.Future[int]] = []

    async def read(self, key: str) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.reads.append(future)
        return await future


async def _asks(recent: Recent[int], now: int) -> asyncio.Task[int]:
    task = asyncio.create_task(recent.get("k", now))
    await asyncio.sleep(0.01)
    return task


async def test_those_of_one_moment_share_a_read_and_what_it_brought_is_remembered() -> None:
    source = Source()
    recent = Recent(source.read)
    waiting = [await _asks(recent, now) for now in (1_000, 1_050, 1_099)]
    source.reads[0].set_result(7)
    assert await asyncio.gather(*waiting) == [7, 7, 7]
    assert await recent.get("k", 1_499) == 7 and len(source.reads) == 1
    await _asks(recent, 1_500)
    assert len(source.reads) == 2


async def test_nobody_joins_a_read_that_hangs() -> None:
    """The store has gone silent: it refuses whoever asks it now, and only the first waits for the deadline."""
    source = Source()
    recent = Recent(source.read)
    first, late = await _asks(recent, 1_000), await _asks(recent, 1_100)
    source.reads[1].set_exception(StoreUnavailable())
    with pytest.raises(StoreUnavailable):
        await late
    assert not first.done()
    again = await _asks(recent, 1_101)
    source.reads[0].set_exception(StoreUnavailable())
    source.reads[2].set_result(3)
    assert await again == 3 and await recent.get("k", 1_200) == 3
    with pytest.raises(StoreUnavailable):
        await first


async def test_what_a_slow_store_says_is_remembered_although_others_have_asked_since() -> None:
    source = Source()
    recent = Recent(source.read)
    first, late = await _asks(recent, 1_000), await _asks(recent, 1_200)
    source.reads[0].set_result(1)
    assert await first == 1 and await recent.get("k", 1_300) == 1
    source.reads[1].set_result(2)
    assert await late == 2 and await recent.get("k", 1_699) == 2
    assert len(source.reads) == 2


async def test_what_was_read_before_a_change_is_not_remembered() -> None:
    source = Source()
    recent = Recent(source.read)
    early = await _asks(recent, 1_000)
    recent.forget("k")
    after = await _asks(recent, 1_010)
    source.reads[1].set_result(2)
    assert await after == 2
    source.reads[0].set_result(1)
    assert await early == 1 and await recent.get("k", 1_020) == 2
