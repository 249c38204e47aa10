"""A server that has lost acknowledged ends: what a process of the API has read of them, it carries out again."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.scene import Scene, report
from tests.faults.test_losses import _log_of

SESSIONS = 40


async def _hear(http: httpx.AsyncClient, heard: set[str], ready: asyncio.Event) -> None:
    """Follow the stream, so that the process reads the log."""
    async with http.stream("GET", "/v1/events", headers={"Accept": "text/event-stream"}) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("event: heartbeat"):
                ready.set()
            if '"session_id":"' in line:
                heard.add(line.split('"session_id":"')[1][:30])


@pytest.mark.slow
async def test_lost_revocations_are_carried_out_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The end of the AOF is cut off, as when the machine loses power before its last fsync."""
    async with Scene(tmp_path, processes=1, workers=0) as scene:
        key = {"Authorization": f"Bearer {scene.backend.key}"}
        heard, ready = set[str](), asyncio.Event()
        async with httpx.AsyncClient(base_url=scene.apis[0].url, headers=key, trust_env=False, timeout=20) as http:
            hearing = asyncio.create_task(_hear(http, heard, ready))
            await ready.wait()
            made = [await _create(http, f"user_{number}") for number in range(SESSIONS)]
            await asyncio.sleep(0.3)
            kept = _log_of(scene.server).stat().st_size
            for session in made:
                assert (await http.delete(f"/v1/sessions/{session['session']['id']}")).status_code == 204
            async with asyncio.timeout(5):
                while len(heard) < SESSIONS:  # noqa: ASYNC110 - the stream counts on
                    await asyncio.sleep(0.02)
            scene.server.stop(crash=True)
            with _log_of(scene.server).open("r+b") as log:
                log.truncate(kept)
            await asyncio.to_thread(scene.server.start)
            began = time.monotonic()
            while await _alive(http, made):
                assert time.monotonic() - began < 5
                await asyncio.sleep(0.05)
            took = time.monotonic() - began
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
        ends = await scene.ends()
        assert sorted(sid for sid, _ in ends) == sorted(session["session"]["id"] for session in made)
        assert {reason for _, reason in ends} == {"revoked"}
        report(capsys, f"power loss: {SESSIONS} lost revocations carried out again within {took:.2f} s")


async def _create(http: httpx.AsyncClient, user: str) -> dict[str, Any]:
    answer = await http.post("/v1/sessions", json={"user_id": user})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def _alive(http: httpx.AsyncClient, made: list[dict[str, Any]]) -> int:
    """How many the service takes for good, or cannot tell."""
    bodies = [{"token": session["access_token"]} for session in made]
    answers = await asyncio.gather(*(http.post("/v1/sessions/verify", json=body) for body in bodies))
    return sum(answer.status_code != 200 or answer.json()["valid"] for answer in answers)
