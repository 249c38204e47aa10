"""Work that makes way: no rest while it goes as quickly as it can, and as long a rest as others have made it wait."""

from __future__ import annotations

from time import perf_counter

import pytest

from app.pace import Pace


class Work:
    """Stretches of work under a pace, on a clock of their own."""

    def __init__(self) -> None:
        self._time, self._rested = 0.0, 0.0
        self._pace = Pace(lambda: self._time, self._rest)

    async def rest(self, seconds: float, pieces: int) -> float:
        """How long it rests, in seconds, after a stretch that took as long as given."""
        self._rested = 0.0
        async with self._pace.stretch(pieces):
            self._time += seconds
        return self._rested

    async def _rest(self, seconds: float) -> None:
        self._time += seconds
        self._rested += seconds


@pytest.fixture
def work() -> Work:
    return Work()


async def test_it_rests_as_long_as_it_was_kept_waiting_and_no_longer(work: Work) -> None:
    assert await work.rest(0.02, 10) == 0
    assert await work.rest(0.3, 10) == pytest.approx(0.28)
    assert await work.rest(0.02, 10) == pytest.approx(0)


async def test_one_lucky_stretch_is_no_measure(work: Work) -> None:
    for _ in range(20):
        await work.rest(0.01, 10)
    await work.rest(0, 10)
    assert await work.rest(0.01, 10) == pytest.approx(0)


async def test_what_was_quick_long_ago_is_no_measure_any_more(work: Work) -> None:
    for seconds in [0.0] * 60 + [0.002] * 340:
        await work.rest(seconds, 10)
    assert await work.rest(0.2, 1_000) == pytest.approx(0.2)
    for _ in range(160):
        await work.rest(0.002, 10)
    assert await work.rest(0.2, 1_000) == pytest.approx(0)


async def test_a_larger_stretch_is_not_taken_for_a_slow_one(work: Work) -> None:
    await work.rest(0.02, 10)
    assert await work.rest(0.2, 100) == pytest.approx(0)


async def test_nothing_to_do_costs_nothing_and_teaches_nothing(work: Work) -> None:
    assert await work.rest(1, 0) == 0
    assert await work.rest(0.2, 10) == 0


async def test_by_itself_it_goes_by_the_time_that_passes() -> None:
    pace = Pace()
    for _ in range(9):
        async with pace.stretch(1):
            pass
    began = perf_counter()
    async with pace.stretch(1):
        while perf_counter() < began + 0.1:
            pass
    assert perf_counter() - began > 0.15
