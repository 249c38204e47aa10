"""Replies that get lost, and clients that hang up: nobody is signed out by it, and no answer finds the wrong reader."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import httpx
import pytest

from tests.faults.proxy import Proxy
from tests.faults.scene import FULL, SEED, Scene, report

LOST = 1_000 if FULL else 60
HANG_UPS = 10_000 if FULL else 600
_AT_ONCE = 25


@pytest.mark.slow
@pytest.mark.parametrize("between", ["consumer and API", "API and server"])
async def test_a_lost_refresh_reply_signs_nobody_out(
    between: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each session loses the replies of some refreshes after they were executed, and repeats with the token it has:
    within the grace, and where there is none."""
    async with Scene(tmp_path, processes=1, workers=0) as scene, Proxy(scene.apis[0].port) as front:
        proxy = front if between == "consumer and API" else scene.proxy
        lost = 0
        sessions = LOST // 5
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{front.port}", timeout=5, trust_env=False) as http:

            async def refresh(token: str) -> httpx.Response | None:
                try:
                    answer = await http.post("/v1/sessions/refresh", json={"refresh_token": token})
                except httpx.TransportError:
                    return None
                return None if answer.status_code == 503 else answer

            for number in range(sessions):
                grace = {"refresh_grace": "10s" if number % 2 else 0}
                await asyncio.to_thread(scene.backend.call, "PATCH", "/v1/admin/config", json=grace)
                created = await asyncio.to_thread(scene.backend.create, f"user_{number}")
                token = created["refresh_token"]
                for _ in range(5):
                    proxy.drop_replies(1)
                    while (spared := await refresh(token)) is not None:  # a question of the process's own was hit
                        token = spared.json()["refresh_token"]
                        proxy.drop_replies(1)
                    lost += 1
                    answer = None
                    for _ in range(100):
                        answer = await refresh(token)
                        if answer is not None:
                            break
                        await asyncio.sleep(0.02)
                    assert answer is not None and answer.status_code == 200, answer and answer.text
                    token = answer.json()["refresh_token"]
                listed = await asyncio.to_thread(
                    scene.backend.call, "GET", f"/v1/sessions?user_id=user_{number}&status=all"
                )
                assert [session["status"] for session in listed.json()["data"]] == ["active"]
        assert await scene.ends() == []
        assert proxy.swallowed >= lost == LOST // 5 * 5
        report(capsys, f"lost replies between {between}: {lost} refreshes, 0 signed out")


@pytest.mark.slow
async def test_a_client_that_hangs_up_leaves_no_answer_to_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clients send half or whole requests and go at a random moment; others check that each answer is their own."""
    async with Scene(tmp_path, processes=1) as scene:
        api, key = scene.apis[0], scene.backend.key
        created = [await asyncio.to_thread(scene.backend.create, f"user_{n}") for n in range(40)]
        chance = random.Random(SEED)
        scene.proxy.delay_s = 0.002
        checked = hung_up = 0
        going = True

        def wire_of(session: dict[str, str]) -> bytes:
            body = json.dumps({"token": session["access_token"]}).encode()
            head = f"POST /v1/sessions/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
            return head.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body

        async def rude() -> None:
            nonlocal hung_up
            while hung_up < HANG_UPS:
                hung_up += 1
                _, writer = await asyncio.open_connection("127.0.0.1", api.port)
                request = wire_of(chance.choice(created))
                writer.write(request[: chance.choice([len(request), len(request), chance.randrange(len(request))])])
                await asyncio.sleep(chance.choice([0, 0, 0.001, 0.004, 0.008]))
                if chance.random() < 0.5:
                    writer.transport.abort()
                else:
                    writer.close()

        async def polite(http: httpx.AsyncClient) -> None:
            nonlocal checked
            while going:
                session = chance.choice(created)
                answer = await http.post("/v1/sessions/verify", json={"token": session["access_token"]})
                assert answer.status_code == 200, answer.text
                assert answer.json()["session"]["id"] == session["session"]["id"]
                checked += 1

        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=10, trust_env=False) as http:
            readers = [asyncio.create_task(polite(http)) for _ in range(8)]
            await asyncio.gather(*(rude() for _ in range(_AT_ONCE)))
            while checked < HANG_UPS // 4:  # noqa: ASYNC110 - the readers count on
                await asyncio.sleep(0.05)
            going = False
            await asyncio.gather(*readers)
        assert hung_up >= HANG_UPS
        assert checked >= HANG_UPS // 4
        report(
            capsys, f"hang-ups: seed {SEED}, {hung_up} clients gone, {checked} answers of others checked, 0 mixed up"
        )
