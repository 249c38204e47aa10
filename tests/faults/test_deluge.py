"""Very many sessions whose time is up in the same second: the sweep ends and announces each once, and nobody waits."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from app.model import SECOND
from app.runtime import now_ms
from tests.faults.fill import fill, schedule
from tests.faults.load import Load, Request, percentile
from tests.faults.pinger import Pinger
from tests.faults.scene import FULL, SEED, Scene, report
from tests.service import Backend

COUNT: Final = 1_000_000 if FULL else 30_000
RATE: Final = 150
_QUIET_S: Final = 3


def _askers(backend: Backend) -> list[Request]:
    tokens = [backend.create(f"user_{number}")["access_token"] for number in range(100)]
    return [Request.of("verify", "POST", "/v1/sessions/verify", {"token": token}, backend.key) for token in tokens]


@pytest.mark.slow
async def test_all_are_ended_once_while_verify_stays_fast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop, chance = asyncio.get_running_loop(), random.Random(SEED)
    async with Scene(tmp_path, processes=1, judged=not FULL) as scene:  # that takes longer than all the rest
        asked = await asyncio.to_thread(_askers, scene.backend)
        other, now = await asyncio.to_thread(scene.apis[0].tenant), now_ms()  # no walk is pending for this one
        # to rewrite the log takes a core for a while, and on two it would be measured in one phase and not in another
        await scene.wire.each("CONFIG", "SET", "auto-aof-rewrite-percentage", 0)
        filled = await asyncio.to_thread(fill, scene.server, other.tenant_id, COUNT // 2, 2, now, now + SECOND)
        await scene.wire.each("CONFIG", "RESETSTAT")
        async with Pinger(scene.server.port) as pinger:
            async with Load([scene.apis[0].port], RATE, lambda: chance.choice(asked)) as load:
                await asyncio.sleep(_QUIET_S)
                quiet_until, due_in = loop.time(), 5 + COUNT / 200_000  # no session begins with less
                due = quiet_until + due_in
                await asyncio.to_thread(schedule, scene.server, filled, now_ms() + int(due_in * SECOND))
                while await _announced(scene) < COUNT:
                    assert loop.time() < due + 30 + COUNT / 3_000, "the sweep does not end"
                    await asyncio.sleep(0.1)
                swept = loop.time()
                await asyncio.sleep(_QUIET_S)
        others = [shot for shot in load.shots if shot.status != 503]
        assert [shot for shot in others if shot.status != 200 or not shot.json["valid"]] == []
        assert len(load.shots) - len(others) <= len(load.shots) / 1_000  # while a server stands still for 0.4 s
        quiet = [s.took * 1e3 for s in load.shots if s.due < quiet_until - 0.1 or s.due > swept + 0.5]
        during = [s.took * 1e3 for s in load.shots if due < s.due < swept]
        ends = Counter(await scene.ends(other.tenant_id))
        report(
            capsys,
            f"{COUNT} sessions due in one second: seed {SEED}, swept and announced in {swept - due:.1f} s "
            f"({COUNT / (swept - due):.0f}/s); {len(load.shots)} verifies at {RATE}/s: p99 quiet "
            f"{percentile(quiet, 0.99):.1f} ms, during {percentile(during, 0.99):.1f} ms; PING of another client: p99 "
            f"{pinger.pings.p99:.1f} ms, at most {pinger.pings.longest:.1f} ms; {len(ends)} ends, each told once",
        )
        assert ends == Counter((sid, "expired") for sid in filled)
        if FULL:
            assert percentile(during, 0.99) <= 2 * percentile(quiet, 0.99)


async def _announced(scene: Scene) -> int:
    """How many entries the logs have got since the statistics were reset; one cheap question."""
    (info,) = await scene.wire.each("INFO", "commandstats")
    found = re.search(rb"cmdstat_xadd:calls=(\d+)", info)
    return int(found[1]) if found else 0
