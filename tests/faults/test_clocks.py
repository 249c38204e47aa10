"""Processes whose clock is not the others'; a worker that was away for an hour."""

from __future__ import annotations

import asyncio
import signal
import time
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
        clock.shift(skew)
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
async def test_a_process_whose_clock_is_far_off_asks_for_no_requests(tmp_path: Path) -> None:
    async with Scene(tmp_path, processes=1, workers=0) as scene:
        clock = Clock(tmp_path / "clock")
        api = await asyncio.to_thread(scene.api, CLOCK_FILE=str(clock.file))
        try:
            for shift, status in ((0, 200), (31 * MINUTE, 503), (4 * SECOND, 200), (-6 * SECOND, 503), (0, 200)):
                clock.shift(shift)
                assert (await asyncio.to_thread(api.http.get, "/readyz")).status_code == status
        finally:
            api.stop(signal.SIGKILL)


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
            late.shift(-10 * MINUTE)
            worker = scene.worker(CLOCK_FILE=str(late.file))
            scene.workers.append(worker)
            await asyncio.sleep(3)
            assert await scene.ends() == []
            began = time.monotonic()
            late.shift(0)
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
