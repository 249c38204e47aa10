"""The server's disk is full: who lives is still verified, nothing new is promised, and it heals by itself.

The disk is a limit on the size of the server's files, which a test may lift again (setrlimit(2), RLIMIT_FSIZE; Linux).
To Redis it is a full disk: `write(2)` fails, and it refuses every write with MISCONF until one succeeds.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.embedded import Embedded
from tests.faults.scene import Scene, answered, report
from tests.service import Backend


class Patient(Embedded):
    """A server that is told of the limit by an error, and not by a signal that ends it."""

    def _before_it_is_the_server(self) -> Callable[[], None] | None:
        inherited = super()._before_it_is_the_server()

        def prepare() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            if inherited is not None:
                inherited()

        return prepare


class Disk:
    """Sign-ins until the disk is full, and what a backend hears then."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.created = [backend.create()]

    def create(self) -> int:
        answer = self.backend.call("POST", "/v1/sessions", json={"user_id": f"user_{len(self.created)}"})
        if answer.status_code == 201:
            self.created.append(answer.json())
        return answer.status_code

    def fill(self) -> None:
        until = time.monotonic() + 20
        while (status := self.create()) == 201:
            assert time.monotonic() < until
        assert status == 503

    def judge(self) -> None:
        """Reads answer; every writing call is refused with 503, and changes nothing."""
        first = self.created[0]
        path = f"/v1/sessions/{first['session']['id']}"
        assert self.backend.verify(first["access_token"])["valid"]
        assert len(self.backend.call("GET", "/v1/sessions?user_id=usr_1").json()["data"]) == 1
        writes: list[tuple[str, str, dict[str, Any] | None]] = [
            ("POST", "/v1/sessions", {"user_id": "usr_1"}),
            ("POST", "/v1/sessions/refresh", {"refresh_token": first["refresh_token"]}),
            ("DELETE", path, None),
            ("PATCH", path, {"role": "owner"}),
            ("POST", "/v1/sessions/revoke", {"user_id": "usr_1"}),
            ("PATCH", "/v1/admin/config", {"idle_timeout": "1h"}),
        ]
        for method, where, body in writes:
            answer = self.backend.call(method, where, json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), answer.text
            assert answer.headers["retry-after"]
        assert self.backend.verify(first["access_token"])["valid"]

    def heal(self) -> float:
        began = time.monotonic()
        while self.create() != 201:
            assert time.monotonic() < began + 5
            time.sleep(0.02)
        return time.monotonic() - began

    def all_there(self) -> bool:
        return all(self.backend.verify(one["access_token"])["valid"] for one in self.created)


if sys.platform == "linux":
    from resource import RLIM_INFINITY, RLIMIT_FSIZE, prlimit

    def _limit(server: Embedded, size: int) -> None:
        pid, _ = (server.folder / "server.pid").read_text().split()
        prlimit(int(pid), RLIMIT_FSIZE, (size, RLIM_INFINITY))

    @pytest.mark.slow
    async def test_a_full_disk_refuses_writes_and_heals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        async with Scene(tmp_path, processes=1, workers=0, server=Patient) as scene:
            disk = await asyncio.to_thread(Disk, scene.backend)
            size = max(file.stat().st_size for file in scene.server.folder.glob("appendonlydir/*.aof"))
            _limit(scene.server, size + 20_000)
            await asyncio.to_thread(disk.fill)
            await asyncio.to_thread(disk.judge)
            _limit(scene.server, RLIM_INFINITY)
            healed = await asyncio.to_thread(disk.heal)
            scene.server.stop(crash=True)
            scene.server.start()
            await answered(lambda: scene.wire.each("PING"))
            await asyncio.to_thread(disk.heal)
            assert await asyncio.to_thread(disk.all_there)
            assert await scene.ends() == []
            report(
                capsys,
                f"disk full: verify and list answered, six writing calls refused; writes again {healed:.2f} s after "
                f"there was space; {len(disk.created)} sign-ins acknowledged, all there after a crash",
            )
