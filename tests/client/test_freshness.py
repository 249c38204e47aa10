"""How old what is known can be, and what a standstill of the event loop does to it."""

from __future__ import annotations

import asyncio
import time

from app.client.freshness import Freshness, Pulse, Steps, clock


def _is_fresh(freshness: Freshness) -> bool:
    return clock() < freshness.until


def test_it_is_fresh_until_its_age_and_only_with_keys() -> None:
    freshness = Freshness(0.2)
    assert not freshness.ready and not _is_fresh(freshness) and freshness.lag == float("inf")
    freshness.confirm(clock())
    assert freshness.ready and not _is_fresh(freshness)
    freshness.keys_good_until(clock() + 10)
    assert _is_fresh(freshness) and freshness.lag < 0.1
    freshness.confirm(clock() - 0.3)
    assert _is_fresh(freshness)
    time.sleep(0.2)
    assert not _is_fresh(freshness) and freshness.lag >= 0.2
    freshness.confirm(clock())
    freshness.keys_good_until(clock() - 1)
    assert not _is_fresh(freshness)


def test_a_snapshot_under_way_and_a_lack_of_room_make_it_stale() -> None:
    freshness = Freshness(10)
    freshness.keys_good_until(clock() + 10)
    freshness.confirm(clock())
    freshness.doubt()
    assert not freshness.ready and not _is_fresh(freshness)
    freshness.confirm(clock())
    freshness.complete(False)
    assert not _is_fresh(freshness)
    freshness.confirm(clock())
    assert not _is_fresh(freshness)
    freshness.complete(True)
    assert _is_fresh(freshness)


def test_a_step_of_the_wall_clock_is_noticed_once_and_a_small_difference_not_at_all() -> None:
    ahead = 0.0
    steps = Steps(lambda: clock() + ahead, 60)
    found = []
    for ahead in (0.0, 59.0, -59.0, 61.0, 61.0, 3.0, 0.0, 0.0):  # noqa: B007 - the clock reads it
        found.append(steps.noticed())
    assert found == [False, False, False, True, False, False, True, False]


async def test_a_standstill_is_taken_off_what_is_heard_and_fades_as_slowly_as_it_lasted() -> None:
    pulse = Pulse(0.25)
    pulse.start()
    await asyncio.sleep(0.35)
    assert pulse.slack < 0.25 and pulse.stalls == 0
    _stand_still(0.4)
    assert pulse.slack >= 0.4 and pulse.stalls == 1
    await asyncio.sleep(0.1)
    assert pulse.slack >= 0.25 and pulse.stalls == 1
    await asyncio.sleep(0.8)
    assert pulse.slack < 0.25 and pulse.stalls == 1
    pulse.stop()


def _stand_still(seconds: float) -> None:
    time.sleep(seconds)
