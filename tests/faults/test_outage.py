"""The server away for a minute while clients keep asking: refused at once, never lied to, and served again at once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults.load import Load, Request, Shot, percentile, resident_mb
from tests.faults.scene import FULL, SEED, Scene, report
from tests.service import Backend

AWAY_S = 60.0 if FULL else 3.0
RATE = 150
_DEADLINE_S = 2.0
_NOTICED_S = 0.55  # two rounds of a connection's watch, a read that others join, and a little: who came earlier waits
_GROWTH_MB = 16.0


class Askers:
    """What clients ask: about sessions that live, about ones that were revoked, and for new ones."""

    def __init__(self, backend: Backend) -> None:
        alive = [backend.create(f"user_{number}") for number in range(20)]
        dead = [backend.create(f"gone_{number}") for number in range(5)]
        self.renewed = [backend.create(f"tab_{number}")["refresh_token"] for number in range(5)]
        for session in dead:
            assert backend.call("DELETE", f"/v1/sessions/{session['session']['id']}").status_code == 204
        self._random = random.Random(SEED)
        path, key = "/v1/sessions/verify", backend.key
        self._requests = {
            "alive": [Request.of("alive", "POST", path, {"token": s["access_token"]}, key) for s in alive],
            "dead": [Request.of("dead", "POST", path, {"token": s["access_token"]}, key) for s in dead],
            "create": [Request.of("create", "POST", "/v1/sessions", {"user_id": "user_new"}, key)],
            "list": [Request.of("list", "GET", f"/v1/sessions?user_id=user_{n}", key=key) for n in range(20)],
            "refresh": [
                Request.of("refresh", "POST", "/v1/sessions/refresh", {"refresh_token": token})
                for token in self.renewed
            ],
        }

    def __call__(self) -> Request:
        (kind,) = self._random.choices(list(self._requests), [50, 20, 12, 10, 8])
        return self._random.choice(self._requests[kind])


@pytest.mark.slow
async def test_while_the_server_is_away_clients_are_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two deployments side by side, each with an outage of its own kind."""
    async with asyncio.TaskGroup() as both:
        for how in ("killed", "half-open"):
            both.create_task(_an_outage(how, tmp_path / how, capsys))


async def _an_outage(how: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = asyncio.get_running_loop()
    async with Scene(folder, processes=1, REDIS_TIMEOUT_MS="2000") as scene:
        api, server, proxy = scene.apis[0], scene.server, scene.proxy
        askers = await asyncio.to_thread(Askers, scene.backend)
        async with Load([api.port], RATE, askers) as load:
            await asyncio.sleep(2)
            memory, most = resident_mb(api.child.pid), 0.0
            down = loop.time()
            await asyncio.to_thread(server.stop, crash=True) if how == "killed" else proxy.freeze()
            while loop.time() < down + AWAY_S:
                await asyncio.sleep(0.25)
                most = max(most, resident_mb(api.child.pid))
            back = loop.time()
            await asyncio.to_thread(server.start) if how == "killed" else proxy.heal()
            up = loop.time()
            await asyncio.sleep(2.5)
        refused = [shot for shot in load.shots if shot.status == 503]
        lies = [shot for shot in load.shots if not _fits(shot, down, back)]
        waits = [shot.took for shot in refused if FULL or shot.due > down + _NOTICED_S]
        healed = max((shot.due - up for shot in refused), default=0.0)
        for token in askers.renewed:
            answer = await asyncio.to_thread(scene.backend.refresh, token)
            assert answer.status_code == 200, answer.text
        report(
            capsys,
            f"server {how} for {AWAY_S:g} s: seed {SEED}, {len(load.shots)} requests at {RATE}/s, {len(refused)} "
            f"refused, p99 of the refusals {percentile(waits, 0.99) * 1e3:.0f} ms, the longest "
            f"{max(shot.took for shot in refused) * 1e3:.0f} ms; memory {memory:.0f} MB, at most {most:.0f}; "
            f"last refusal {max(0.0, healed):.2f} s after it was back; {len(lies)} wrong answers, 0 signed out",
        )
        assert lies == []
        assert len(refused) > AWAY_S * RATE * 0.9
        quiet = percentile([shot.took for shot in load.shots if shot.due < down - 0.5], 0.99)
        assert percentile(waits, 0.99) < (0.25 if FULL else max(0.25, 10 * quiet))  # others may have the cores
        assert max(shot.took for shot in refused) < _DEADLINE_S + 0.75
        assert most - memory < _GROWTH_MB
        assert healed < 2


def _fits(shot: Shot, down: float, back: float) -> bool:
    """Whether an answer is one that an honest service may give at that time."""
    if shot.status == 503:
        return b"\r\nretry-after: " in shot.head and shot.json["code"] == "store_unavailable" and shot.due > down - 2
    if shot.status != (201 if shot.kind == "create" else 200):
        return False
    if down < shot.due < back - 0.1:
        return False
    return shot.kind not in ("alive", "dead") or shot.json["valid"] is (shot.kind == "alive")
