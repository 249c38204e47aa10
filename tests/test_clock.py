"""The time of a process whose wall clock is set while it runs: ahead, back, with the store, against it."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from app.clock import Clock, uptime_ms
from app.embedded import Embedded
from app.errors import StoreUnavailable
from app.model import DAY, HOUR, MINUTE, SECOND, SKEW_MS
from app.runtime import now_ms
from app.store.registry import RedisRegistry
from app.store.wire import open_wire

BEGAN = 1_800_000_000_000


class World:
    """A machine, its store on another one, and true time. `wall` and `store`: how far off their clocks are."""

    def __init__(self, wall: int = 0, store: int = 0) -> None:
        self.true = BEGAN
        self.wall, self.store = wall, store
        self.clock = Clock(lambda: self.true + self.wall, lambda: self.true - BEGAN + 77 * SECOND)

    @property
    def off(self) -> int:
        """How far from the truth the process's time is."""
        return self.clock() - self.true

    def compare(self, there: int = 0, back: int = 0) -> None:
        """One comparison whose question and answer take so long on the way."""
        asked = self.true - BEGAN + 77 * SECOND
        self.true += there
        theirs = self.true + self.store
        self.true += back
        self.clock.compare(theirs, asked)

    def live(self, seconds: int) -> None:
        for _ in range(seconds):
            self.true += SECOND
            self.compare()


@pytest.fixture
def world() -> World:
    made = World()
    made.compare()
    return made


STEPS = [2 * SECOND, MINUTE, HOUR, 400 * DAY]


@pytest.mark.parametrize("step", [*STEPS, *(-step for step in STEPS)])
def test_a_clock_that_is_set_wrong_is_not_believed_from_the_first_reading_on(world: World, step: int) -> None:
    world.wall = step
    assert world.off == 0
    if abs(step) > SKEW_MS:
        world.live(3_600)
        assert world.off == 0
        world.wall = 0
        world.compare()
        assert world.off == 0


def test_a_machine_that_slept_is_on_time(world: World) -> None:
    world.true += 8 * HOUR
    assert world.off == 0


def test_time_goes_on_while_the_store_is_away(world: World) -> None:
    world.wall = -HOUR
    for _ in range(30):
        world.true += MINUTE
        assert world.off == 0


@pytest.mark.parametrize("store", [HOUR, -HOUR])
def test_a_store_whose_clock_is_wrong_moves_nothing(world: World, store: int) -> None:
    world.store = store
    world.live(60)
    assert world.off == 0
    world.wall = -store
    world.live(60)
    assert world.off == 0
    world.wall = world.store = 0
    world.live(1)
    assert world.off == 0


def test_a_host_that_is_set_right_with_its_store_is_followed() -> None:
    world = World(wall=-HOUR, store=-HOUR)
    world.live(5)
    assert world.off == -HOUR
    world.wall = world.store = 0
    world.live(1)
    assert world.off == 0


def test_a_machine_that_was_halted_believes_its_corrected_clock_once_the_store_agrees(world: World) -> None:
    """A virtual machine whose clocks all stood still for an hour."""
    halted = HOUR
    stood = Clock(lambda: world.true + world.wall, lambda: world.true - BEGAN - halted)
    stood.compare(world.true + halted, world.true - BEGAN - halted)
    assert stood() == world.true, "nobody has confirmed anything yet"
    world.wall = halted
    stood.compare(world.true + halted, world.true - BEGAN - halted)
    assert stood() == world.true + halted


def test_a_clock_off_from_the_start_is_all_there_is() -> None:
    world = World(wall=31 * MINUTE)
    world.live(10)
    assert world.off == 31 * MINUTE
    world.wall = 4 * SECOND
    assert world.off == 4 * SECOND
    world.live(1)
    world.wall = HOUR
    assert world.off == 4 * SECOND


def test_what_slewing_and_leap_seconds_do_is_followed_at_once(world: World) -> None:
    for step in range(0, 4_000, 100):
        world.wall = step
        assert world.off == step
        world.live(1)
    world.wall -= SECOND
    assert world.off == 3_900 - SECOND


def test_small_steps_do_not_lead_further_from_the_store_than_clocks_may_lie_apart(world: World) -> None:
    for step in range(0, HOUR, 900):
        world.wall = step
        world.live(1)
        assert world.off <= SKEW_MS + SECOND


@pytest.mark.parametrize(("wall", "there", "back", "agrees"), [
    (-4 * SECOND, 500, 500, True),
    (4 * SECOND, 500, 500, True),
    (-6 * SECOND, 0, 1_900, False),
    (-6 * SECOND, 1_900, 0, False),
    (6 * SECOND, 0, 1_900, False),
    (6 * SECOND, 1_900, 0, False),
    (0, 0, HOUR, False),
])  # fmt: skip
def test_the_way_to_the_store_and_back_counts_against_agreement(
    world: World, wall: int, there: int, back: int, agrees: bool
) -> None:
    world.wall = wall
    world.compare(there, back)
    world.wall = DAY
    assert world.off == (wall if agrees else 0)


def test_an_episode_is_told_once_and_its_end_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "app.clock")
    for _ in range(2):
        caplog.clear()
        world.wall = HOUR
        world.live(10)
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("ERROR", "the wall clock was set by 3600000 ms, and the store's does not agree: going on without it")
        ]
        world.wall = 0
        world.live(10)
        assert [record.getMessage() for record in caplog.records][1:] == ["the wall clock is right again"]
    caplog.clear()
    world.wall = world.store = -HOUR
    world.live(10)
    assert [record.getMessage() for record in caplog.records] == [
        "the wall clock was set by -3600000 ms, and the store's agrees"
    ]


def test_both_clocks_of_this_machine_run_alike() -> None:
    apart = now_ms() - uptime_ms()
    time.sleep(0.1)
    assert abs(now_ms() - uptime_ms() - apart) <= 2


async def test_a_running_process_asks_the_store_again_and_again(own_server: Embedded) -> None:
    """Away at first, then there: from then on the process is not led astray; nothing is left running afterwards."""
    own_server.stop()
    wire, before, off = await open_wire(own_server.url, 500), asyncio.all_tasks(), [0]
    clock = Clock(lambda: now_ms() + off[0], uptime_ms)

    def led_astray() -> bool:
        off[0] = HOUR
        astray = clock() - now_ms() > SECOND
        off[0] = 0
        return astray

    async with clock.compared_with(RedisRegistry(wire).clock):
        await asyncio.sleep(0.2)
        assert led_astray()
        own_server.start()
        async with asyncio.timeout(10):
            while True:
                await asyncio.sleep(0.1)
                if not led_astray():
                    break
        off[0] = HOUR
        await asyncio.sleep(1.5)
        assert abs(clock() - now_ms()) <= SECOND
    await wire.close()
    assert asyncio.all_tasks() <= before


async def test_what_nobody_foresaw_is_told_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[BaseException] = [StoreUnavailable(), LookupError("a server of the future")]
    asked = asyncio.Event()

    async def store() -> int:
        if answers:
            raise answers.pop(0)
        asked.set()
        return now_ms()

    async with Clock(now_ms, uptime_ms).compared_with(store), asyncio.timeout(5):
        await asked.wait()
    assert [record.getMessage() for record in caplog.records] == ["the store's clock could not be read"]
