"""Processes whose clock is not the others', or is set while they run; a worker that was away for an hour."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from base64 import urlsafe_b64decode
from pathlib import Path

import httpx
import pytest

from app.model import HOUR, MINUTE, SECOND
from tests.faults.clock import Clock
from tests.faults.scene import Scene, report
from tests.service import Api, Backend


async def _post(backend: Backend, path: str, body: dict[str, str], through: Api) -> httpx.Response:
    return await asyncio.to_thread(backend.call, "POST", path, through, json=body)


@pytest.mark.slow
@pytest.mark.parametrize("skew", [-3 * SECOND, 3 * SECOND])
async def test_a_process_three_seconds_off_neither_ends_nor_revives(
    skew: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Scene(tmp_path) as scene:
        clock = Clock(tmp_path / "clock")
        clock.set_wall(skew)
        other = await asyncio.to_thread(scene.api, CLOCK_FILE=str(clock.file))
        here, there = scene.apis[0], other
        backend = scene.backend
        try:
            for through, against in ((here, there), (there, here)):
                for number in range(20):
                    made = (await _post(backend, "/v1/sessions", {"user_id": f"u{number}"}, through)).json()
                    verdict = await asyncio.to_thread(backend.verify, made["access_token"], against)
                    assert verdict["valid"], verdict
                    gone = await asyncio.to_thread(
                        backend.call, "DELETE", f"/v1/sessions/{made['session']['id']}", through
                    )
                    assert gone.status_code == 204
                    verdict = await asyncio.to_thread(backend.verify, made["access_token"], against)
                    assert not verdict["valid"]
            ends = await scene.ends()
            assert len(ends) == 40 and {reason for _, reason in ends} == {"revoked"}
            for through, against in ((here, there), (there, here)):
                made = (await _post(backend, "/v1/sessions", {"user_id": "u"}, through)).json()
                cut = await asyncio.to_thread(backend.call, "POST", "/v1/sessions/revoke", against, json={"all": True})
                assert cut.status_code == 200
                assert not (await asyncio.to_thread(backend.verify, made["access_token"], through))["valid"]
                new = (await _post(backend, "/v1/sessions", {"user_id": "u"}, against)).json()
                assert (await asyncio.to_thread(backend.verify, new["access_token"], through))["valid"]
            told = "40 sessions across, each alive and each dead on both sides; and with a cut-off"
            report(capsys, f"clock {skew:+d} ms: {told}")
        finally:
            other.stop(signal.SIGKILL)


@pytest.mark.slow
async def test_a_process_whose_clock_is_far_off_from_the_start_asks_for_no_requests(tmp_path: Path) -> None:
    """Until it has been right once."""
    async with Scene(tmp_path, processes=1, workers=0) as scene:
        clock = Clock(tmp_path / "clock")
        clock.set_wall(31 * MINUTE)
        api = await asyncio.to_thread(lambda: Api(scene.through, "/livez", CLOCK_FILE=str(clock.file)))
        try:
            for off, status in ((31 * MINUTE, 503), (-6 * SECOND, 503), (4 * SECOND, 200), (-HOUR, 200)):
                clock.set_wall(off)
                for _ in range(2):
                    assert (await asyncio.to_thread(api.http.get, "/readyz")).status_code == status
                    await asyncio.sleep(1.5)
        finally:
            api.stop(signal.SIGKILL)


def _at_work(backend: Backend, refresh_token: str) -> str:
    """Refresh, verify, look at the token's times; the next refresh token."""
    answer = backend.refresh(refresh_token)
    assert answer.status_code == 200, answer.text
    issued = answer.json()
    verdict = backend.verify(issued["access_token"])
    assert verdict["valid"], verdict
    claims = json.loads(urlsafe_b64decode(issued["access_token"].split(".")[1] + "=="))
    assert abs(claims["iat"] - time.time()) < 2
    assert claims["exp"] == claims["iat"] + 3_600
    assert backend.api.http.get("/readyz").status_code == 200
    return str(issued["refresh_token"])


async def _ended(scene: Scene, tenant_id: str, count: int) -> list[tuple[str, str]]:
    until = time.monotonic() + 15
    while len(ends := await scene.ends(tenant_id)) < count:
        assert time.monotonic() < until
        await asyncio.sleep(0.1)
    return ends


@pytest.mark.slow
@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_clock_set_wrong_ends_nobody_and_spares_nobody(
    step: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """API and worker, while their wall clocks are an hour off and after they are right again."""
    async with Scene(tmp_path, processes=1, workers=0, REDIS_TIMEOUT_MS="2000") as scene:
        clock, log = Clock(tmp_path / "clock"), tmp_path / "log"
        own = {"CLOCK_FILE": str(clock.file), "LOG_FILE": str(log)}
        api = await asyncio.to_thread(scene.api, **own)
        scene.apis.append(api)
        scene.workers.append(scene.worker(**own))
        long, short = await asyncio.to_thread(lambda: (api.tenant("Long"), api.tenant("Short")))
        for backend, idle in ((long, "30m"), (short, "5s")):
            changed = await asyncio.to_thread(backend.call, "PATCH", "/v1/admin/config", json={"idle_timeout": idle})
            assert changed.status_code == 200
        await asyncio.to_thread(short.create)
        await _ended(scene, short.tenant_id, 1)
        token = (await asyncio.to_thread(long.create))["refresh_token"]
        for number, off in enumerate((step, 0), 2):
            goes, began = await asyncio.to_thread(short.create), time.monotonic()
            clock.set_wall(off)
            token = await asyncio.to_thread(_at_work, long, token)
            ends = await _ended(scene, short.tenant_id, number)
            assert 4.9 <= time.monotonic() - began < 12
            assert (goes["session"]["id"], "idle_timeout") in ends
            assert not (await asyncio.to_thread(short.verify, goes["access_token"]))["valid"]
            token = await asyncio.to_thread(_at_work, long, token)
        assert await scene.ends(long.tenant_id) == []
        assert log.read_text().count("going on without it") == 2
        report(capsys, f"wall clocks set by {step / HOUR:+.0f} h and back: nobody ended too early, nobody too late")


@pytest.mark.slow
async def test_a_worker_away_for_an_hour_catches_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """API and server live on; an hour passes on the API's clock; the sessions of the hour are refused without events.
    The worker, back on the same clock, refuses to sweep on a clock that is off, and sweeps once it is not."""
    async with Scene(tmp_path, processes=1, workers=0) as scene:
        clock = Clock(tmp_path / "clock")
        api = await asyncio.to_thread(scene.api, CLOCK_FILE=str(clock.file))
        backend = scene.backend
        try:
            changed = await asyncio.to_thread(backend.call, "PATCH", "/v1/admin/config", json={"idle_timeout": "30m"})
            assert changed.status_code == 200
            clock.shift(-HOUR)
            made = [(await _post(backend, "/v1/sessions", {"user_id": f"u{n}"}, api)).json() for n in range(50)]
            clock.shift(0)
            for session in made:
                body = {"session_id": session["session"]["id"]}
                verdict = (await _post(backend, "/v1/sessions/verify", body, api)).json()
                assert not verdict["valid"]
            assert await scene.ends() == []
            late = Clock(tmp_path / "late")
            late.set_wall(-10 * MINUTE)
            worker = scene.worker(CLOCK_FILE=str(late.file))
            scene.workers.append(worker)
            await asyncio.sleep(3)
            assert await scene.ends() == []
            began = time.monotonic()
            late.set_wall(0)
            while len(await scene.ends()) < 50:
                assert time.monotonic() - began < 10
                await asyncio.sleep(0.05)
            took = time.monotonic() - began
            ends = await scene.ends()
            assert sorted(sid for sid, _ in ends) == sorted(session["session"]["id"] for session in made)
            assert {reason for _, reason in ends} == {"idle_timeout"}
            assert took < 3
            report(
                capsys, f"worker away for an hour: 50 ended sessions announced {took:.1f} s after its clock was right"
            )
        finally:
            api.stop(signal.SIGKILL)
