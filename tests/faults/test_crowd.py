"""Honest clients on several processes while something is wrong: what they heard must fit the invariants."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from app.embedded import Embedded
from tests.faults.crowd import Crowd, violations
from tests.faults.scene import FULL, SEED, Scene, report
from tests.servers import Durable

SECONDS = 12.0 if FULL else 2.0

Trouble = Callable[[Scene, random.Random], Awaitable[int]]
"""Makes trouble for `SECONDS` and leaves the scene well; returns how many faults there were."""


async def _again_and_again(act: Callable[[], Awaitable[None]], chance: random.Random, pause: float) -> int:
    until, faults = time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        await act()
        faults += 1
        await asyncio.sleep(chance.uniform(0.2, 1.0) * pause)
    return faults


async def nothing(scene: Scene, chance: random.Random) -> int:
    await asyncio.sleep(SECONDS)
    return 0


async def cut_wire(scene: Scene, chance: random.Random, pause: float = 0.5) -> int:
    async def act() -> None:
        scene.proxy.cut()
        await asyncio.sleep(chance.uniform(0, 0.3))
        scene.proxy.heal()

    return await _again_and_again(act, chance, pause)


async def slow_wire(scene: Scene, chance: random.Random, most: float = 0.3) -> int:
    async def act() -> None:
        scene.proxy.delay_s = chance.choice([0.0, 0.01, most / 3, most])

    faults = await _again_and_again(act, chance, 0.5)
    scene.proxy.delay_s = 0.0
    return faults


async def half_open_wire(scene: Scene, chance: random.Random) -> int:
    async def act() -> None:
        scene.proxy.freeze()
        await asyncio.sleep(chance.uniform(0.1, 1.2))
        scene.proxy.heal()

    return await _again_and_again(act, chance, 0.8)


async def lost_replies(scene: Scene, chance: random.Random, pause: float = 0.2) -> int:
    async def act() -> None:
        scene.proxy.drop_replies(1)

    await _again_and_again(act, chance, pause)
    scene.proxy.drop_replies(0)
    return scene.proxy.swallowed


async def api_killed(scene: Scene, chance: random.Random) -> int:
    async def act() -> None:
        place = chance.randrange(len(scene.apis))
        old = scene.apis[place]
        old.stop(signal.SIGKILL)
        new = await asyncio.to_thread(scene.api)
        scene.apis[place] = new
        assert scene.crowd is not None
        scene.crowd.moved(old.url, new.url)

    return await _again_and_again(act, chance, 0.5)


async def worker_killed(scene: Scene, chance: random.Random) -> int:
    async def act() -> None:
        scene.workers[0].stop(signal.SIGKILL)
        scene.workers[0] = scene.worker()
        await asyncio.sleep(chance.uniform(0.8, 2))

    return await _again_and_again(act, chance, 0.5)


async def server_killed(scene: Scene, chance: random.Random) -> int:
    async def act() -> None:
        scene.server.stop(crash=True)
        await asyncio.sleep(chance.uniform(0, 0.3))
        scene.server.start()

    return await _again_and_again(act, chance, 1.0)


async def server_paused(scene: Scene, chance: random.Random) -> int:
    async def act() -> None:
        await scene.wire.each("CLIENT", "PAUSE", chance.choice([50, 300, 900]), chance.choice(["ALL", "WRITE"]))
        await asyncio.sleep(1)

    return await _again_and_again(act, chance, 0.3)


async def scripts_flushed(scene: Scene, chance: random.Random) -> int:
    async def act() -> None:
        await scene.wire.each("SCRIPT", "FLUSH")

    return await _again_and_again(act, chance, 0.15)


async def memory_full(scene: Scene, chance: random.Random) -> int:
    async def act() -> None:
        await scene.wire.each("CONFIG", "SET", "maxmemory", "1")
        await asyncio.sleep(chance.uniform(0.1, 0.5))
        await scene.wire.each("CONFIG", "SET", "maxmemory", "0")

    return await _again_and_again(act, chance, 0.3)


async def two_workers(scene: Scene, chance: random.Random) -> int:
    scene.workers += [scene.worker() for _ in range(2)]
    await asyncio.sleep(SECONDS)
    return 2


async def everything_at_once(scene: Scene, chance: random.Random) -> int:
    """Each rarely enough for most requests to be answered: what nobody is told proves nothing."""
    some: list[Trouble] = [partial(cut_wire, pause=4), partial(slow_wire, most=0.03), partial(lost_replies, pause=1.5)]
    some += [scripts_flushed, worker_killed]
    return sum(await asyncio.gather(*(trouble(scene, chance) for trouble in some)))


ALWAYS: list[Trouble] = [nothing, lost_replies, server_killed, everything_at_once]
AT_LENGTH: list[Trouble] = [
    cut_wire, slow_wire, half_open_wire, api_killed, worker_killed, server_paused, scripts_flushed, memory_full,
    two_workers,
]  # fmt: skip
TROUBLES = [*ALWAYS, *(pytest.param(trouble, marks=pytest.mark.long) for trouble in AT_LENGTH)]


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
async def test_honest_clients_hear_nothing_impossible(
    trouble: Trouble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Scene(tmp_path, server=Durable if trouble is server_killed else Embedded) as scene:
        crowd = Crowd(scene.urls, scene.backend.key, SEED)
        scene.crowd = crowd
        faults = 0

        async def act() -> None:
            nonlocal faults
            faults = await trouble(scene, random.Random(SEED))

        await crowd.run(act)
        broken = violations(crowd.told, await settled_ends(scene))
        report(
            capsys,
            f"{trouble.__name__}: seed {SEED}, {faults} faults, {crowd.told.counts()}; "
            f"{len(broken)} violations; well after {crowd.healed_after:.2f} s",
        )
        assert broken == []
        assert crowd.healed_after < 2.5
        assert any(act.what == "refresh" and act.status == 200 for act in crowd.told.acts)


async def settled_ends(scene: Scene) -> list[tuple[str, str]]:
    """The end events, once the wire to the server is back."""
    return await scene.ends()
