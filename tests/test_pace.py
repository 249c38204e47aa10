"""Work that makes way: no rest while it goes as quickly as it can, and as long a rest as others have made it wait."""

from __future__ import annotations

import asyncio
from time import perf_counter

import pytest

from app.pace import Pace


async def _took(pace: Pace, seconds: float, pieces: int) -> float:
    """Seconds that a stretch takes, its rest included."""
    began = perf_counter()
    async with pace.stretch(pieces):
        await asyncio.sleep(seconds)
    return perf_counter() - began


async def test_it_rests_as_long_as_it_was_kept_waiting_and_no_longer() -> None:
    pace = Pace()
    quickest = await _took(pace, 0.02, 10)
    assert quickest < 0.2
    slow = await _took(pace, 0.3, 10)
    assert 0.3 + 0.25 < slow < 2 * 0.3 + 0.2


async def test_one_lucky_stretch_is_no_measure() -> None:
    pace = Pace()
    for _ in range(20):
        await _took(pace, 0.01, 10)
    await _took(pace, 0, 10)
    assert await _took(pace, 0.2, 200) < 0.2 + 0.15


@pytest.mark.slow
async def test_what_was_quick_long_ago_is_no_measure_any_more() -> None:
    pace = Pace()
    for seconds in [0.0] * 60 + [0.002] * 340:
        await _took(pace, seconds, 10)
    assert await _took(pace, 0.2, 1_000) > 0.2 + 0.15
    for _ in range(160):
        await _took(pace, 0.002, 10)
    assert await _took(pace, 0.2, 1_000) < 0.2 + 0.15


async def test_a_larger_stretch_is_not_taken_for_a_slow_one() -> None:
    pace = Pace()
    await _took(pace, 0.02, 10)
    assert await _took(pace, 0.2, 100) < 0.2 + 0.1


async def test_nothing_to_do_costs_nothing_and_teaches_nothing() -> None:
    pace = Pace()
    assert await _took(pace, 0, 0) < 0.05
    assert await _took(pace, 0.2, 10) < 0.2 + 0.1
