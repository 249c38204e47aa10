"""A rolling restart under load: two processes, one after the other told to end and replaced, and no request fails.

The clients go where `/readyz`, which they ask every tenth of a second, says yes, as behind any load balancer. They try
the other process where a connection is refused, and repeat nothing else.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.faults.load import Load, Request
from tests.faults.scene import FULL, Scene, report
from tests.service import Api, Backend

RATE: Final = 150
RESTARTS: Final = 8 if FULL else 2


def _askers(backend: Backend) -> list[Request]:
    token, path = backend.create()["access_token"], "/v1/sessions"
    return [
        Request.of("verify", "POST", f"{path}/verify", {"token": token}, backend.key),
        Request.of("create", "POST", path, {"user_id": "usr_2"}, backend.key),
        Request.of("list", "GET", f"{path}?user_id=usr_1", key=backend.key),
    ]


@pytest.mark.slow
async def test_a_rolling_restart_fails_no_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with Scene(tmp_path, workers=0) as scene:
        asked = cycle(await asyncio.to_thread(_askers, scene.backend))
        ports = [api.port for api in scene.apis]
        codes: list[int] = []
        async with Load(ports, RATE, lambda: next(asked)) as load:
            balancing = asyncio.create_task(_balance(load, ports))
            for number in range(RESTARTS):
                await asyncio.sleep(0.5)
                place = number % 2
                codes.append(await _replaced(scene, place))
            await asyncio.sleep(0.5)
            balancing.cancel()
        failed = [shot for shot in load.shots if shot.status not in (200, 201)]
        told = sum(b"\r\nconnection: close" in shot.head for shot in load.shots)
        report(
            capsys,
            f"rolling restart: {RESTARTS} processes replaced under {len(load.shots)} requests at {RATE}/s: "
            f"{len(failed)} failed, {told} were asked to close, {load.refused} connections refused and tried elsewhere",
        )
        assert Counter(codes) == {0: RESTARTS}
        assert failed == []
        assert told > 0


async def _balance(load: Load, ports: list[int]) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=1) as http:
        while True:
            for port in ports:
                try:
                    ready = (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
                except httpx.TransportError:
                    ready = False
                (load.resting.discard if ready else load.resting.add)(port)
            await asyncio.sleep(0.1)


async def _replaced(scene: Scene, place: int) -> int:
    """Tell a process to end, see it refuse readiness and yet serve; start another on its port. Its exit code."""
    old = scene.apis[place]
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(base_url=old.url, trust_env=False, timeout=5) as http:
        assert (await http.get("/readyz")).status_code == 200
        old.child.send_signal(signal.SIGTERM)
        told = loop.time()
        while (await http.get("/readyz")).status_code == 200:
            assert loop.time() < told + 0.5
        assert (await http.get("/livez")).status_code == 200
    code = await asyncio.to_thread(old.child.wait, 15)
    assert loop.time() < told + 4
    old.stop()
    scene.apis[place] = await asyncio.to_thread(scene.api, PORT=str(old.port))
    return code


async def test_a_process_that_nobody_is_connected_to_ends_at_once(valkey_url: str) -> None:
    api = await asyncio.to_thread(Api, valkey_url)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await asyncio.to_thread(api.stop) == 0
    assert loop.time() - began < 0.9
