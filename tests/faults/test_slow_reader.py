"""A reader of the event stream that takes nothing: it costs the others nothing, and is let go."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.faults.scene import Scene, report

SESSIONS, CHANGES = 1_000, 16


def _stuck(port: int, key: str) -> socket.socket:
    """A stream whose client has a small buffer and never reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.connect(("127.0.0.1", port))
    head = ["GET /v1/events HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", "Accept: text/event-stream"]
    client.sendall("\r\n".join([*head, "", ""]).encode())
    return client


def _hears_the_end(client: socket.socket, seconds: float) -> bool:
    """Read on until the server has closed it."""
    client.settimeout(seconds)
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


async def _change(http: httpx.AsyncClient) -> None:
    """More than the buffers between a process and a reader can hold."""
    for number in range(CHANGES):
        body = {"claims": {"padding": "x" * 900, "number": number}}
        answer = await http.post("/v1/users/u/claims", json=body)
        assert answer.json()["updated"] == SESSIONS


@pytest.mark.long
async def test_a_reader_that_takes_nothing_is_let_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with Scene(tmp_path, processes=1, workers=0) as scene:
        api, backend = scene.apis[0], scene.backend
        await asyncio.to_thread(backend.call, "PATCH", "/v1/admin/config", json={"max_sessions_per_user": None})
        await asyncio.sleep(1.1)
        key = {"Authorization": f"Bearer {backend.key}"}
        client = await asyncio.to_thread(_stuck, api.port, backend.key)
        async with httpx.AsyncClient(base_url=api.url, headers=key, trust_env=False, timeout=30) as http:
            for first in range(0, SESSIONS, 100):
                made = [http.post("/v1/sessions", json={"user_id": "u"}) for _ in range(first, first + 100)]
                assert {answer.status_code for answer in await asyncio.gather(*made)} == {201}
            heard: set[str] = set()
            async with http.stream("GET", "/v1/events", headers={"Accept": "text/event-stream"}) as stream:
                changing: asyncio.Task[None] | None = None
                async for line in stream.aiter_lines():
                    if line.startswith("event: heartbeat") and changing is None:
                        changing = asyncio.create_task(_change(http))
                    if line.startswith('data: {"id":'):
                        heard.add(line.split('"')[3])
                    if len(heard) == SESSIONS * CHANGES:
                        break
            assert changing is not None
            await changing
        began = time.monotonic()
        await asyncio.sleep(32)
        assert await asyncio.to_thread(_hears_the_end, client, 5)
        client.close()
        report(
            capsys,
            f"a reader that takes nothing: {len(heard)} events reached the other stream; it was let go within "
            f"{time.monotonic() - began:.0f} s",
        )
