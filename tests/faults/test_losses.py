"""Writes that were acknowledged and are gone: what the service notices, what it makes good, and what it cannot."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from app.embedded import Embedded, free_port
from tests.faults.scene import Scene, report
from tests.servers import command, wait_until
from tests.service import Backend

SESSIONS = 20
GRACE_S = 3


def _regressions(backend: Backend) -> float:
    lines = backend.api.http.get("/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("hellojohn_state_regressions_total")))


def _log_of(server: Embedded) -> Path:
    return next(iter(sorted(server.folder.glob("appendonlydir/*.incr.aof"))))


class Loss:
    """Writes of one backend that are acknowledged, then lost, then judged."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def acknowledge(self) -> None:
        """Changes that are acknowledged, and about to be lost."""
        raise NotImplementedError

    def judge(self) -> str:
        """After the loss: nobody is signed out; what else there is to tell."""
        raise NotImplementedError

    def until_well(self) -> float:
        began = time.monotonic()
        wait_until(lambda: self.backend.call("GET", "/v1/sessions?user_id=user_0").status_code == 200, "the API")
        return time.monotonic() - began


class Clients(Loss):
    """Sessions before the loss; half of them refreshed, half revoked after it began."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.created = [backend.create(f"user_{number}") for number in range(SESSIONS)]
        self.refreshed: list[dict[str, Any]] = []
        self.revoked: list[dict[str, Any]] = []

    def acknowledge(self) -> None:
        for number, session in enumerate(self.created):
            if number % 2:
                answer = self.backend.refresh(session["refresh_token"])
                assert answer.status_code == 200
                self.refreshed.append(answer.json())
            else:
                answer = self.backend.call("DELETE", f"/v1/sessions/{session['session']['id']}")
                assert answer.status_code == 204
                self.revoked.append(session)

    def judge(self) -> str:
        """The service counts what it noticed; what came back to life is told."""
        for session in self.refreshed:
            answer = self.backend.refresh(session["refresh_token"])
            assert answer.status_code == 200, answer.text
            assert answer.json()["session"]["id"] == session["session"]["id"]
        assert _regressions(self.backend) == len(self.refreshed)
        alive = sum(self.backend.verify(session["access_token"])["valid"] for session in self.revoked)
        return f"{len(self.refreshed)} clients ahead of the store let in and counted, {alive} of {len(self.revoked)} \
lost revocations alive again"


class Tabs(Loss):
    """Sessions that two tabs share. Of every other one a first reply got lost, longer ago than the grace. Then one tab
    is given a successor, and the store loses it; the other tab has the token as it was before."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        policy = backend.call("PATCH", "/v1/admin/config", json={"refresh_grace": GRACE_S})
        assert policy.status_code == 200, policy.text
        self.behind = [str(backend.create(f"user_{number}")["refresh_token"]) for number in range(SESSIONS)]
        for token in self.behind[::2]:
            self._refreshed(token)
        time.sleep(GRACE_S + 0.2)

    def acknowledge(self) -> None:
        self.ahead = [self._refreshed(token) for token in self.behind]

    def judge(self) -> str:
        """Either tab may be the first; of every third session only one is left. All go on with the same token."""
        for number, (ahead, behind) in enumerate(zip(self.ahead, self.behind, strict=True)):
            if number % 3:
                assert self._refreshed(behind) == ahead, number
                assert self._refreshed(ahead) == self._refreshed(ahead)
            else:
                self._refreshed(self._refreshed(ahead))
        return f"{len(self.ahead)} refreshes undone, repeated in another tab or followed up: the same tokens, no theft"

    def _refreshed(self, token: str) -> str:
        answer = self.backend.refresh(token)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["refresh_token"])


STORIES = pytest.mark.parametrize("kind", [Clients, Tabs])


@pytest.mark.slow
@STORIES
async def test_power_loss_without_fsync_signs_nobody_out(
    kind: type[Loss], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The end of the AOF is cut off, as when the machine loses power before its last fsync."""
    async with Scene(tmp_path, processes=1, workers=0) as scene:
        loss = await asyncio.to_thread(kind, scene.backend)
        await asyncio.sleep(0.2)
        kept = _log_of(scene.server).stat().st_size
        await asyncio.to_thread(loss.acknowledge)
        scene.server.stop(crash=True)
        with _log_of(scene.server).open("r+b") as log:
            log.truncate(kept)
        scene.server.start()
        well = await asyncio.to_thread(loss.until_well)
        report(capsys, f"power loss: {await asyncio.to_thread(loss.judge)}; well after {well:.2f} s")


@pytest.mark.slow
async def test_with_fsync_always_every_acknowledged_end_is_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Scene(tmp_path, processes=1, workers=0) as scene:
        await asyncio.to_thread(command, scene.server, "CONFIG", "SET", "appendfsync", "always")
        sessions = [await asyncio.to_thread(scene.backend.create, f"user_{number}") for number in range(50)]
        for session in sessions:
            sid = session["session"]["id"]
            answer = await asyncio.to_thread(scene.backend.call, "DELETE", f"/v1/sessions/{sid}")
            assert answer.status_code == 204
            written = _log_of(scene.server).read_bytes()
            assert b"ZREM" in written[written.rfind(sid.encode()) - 5_000 :]
            assert written.count(sid.encode()) >= 6
        scene.server.stop(crash=True)
        scene.server.start()
        verdicts = [await asyncio.to_thread(_verdict, scene.backend, session["access_token"]) for session in sessions]
        assert not any(verdicts)
        report(capsys, f"fsync always, server killed: {len(sessions)} revocations acknowledged, {len(sessions)} kept")


def _verdict(backend: Backend, token: str) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        answer = backend.call("POST", "/v1/sessions/verify", json={"token": token})
        if answer.status_code == 200:
            return bool(answer.json()["valid"])
        time.sleep(0.02)
    raise AssertionError("the service did not come back")


@pytest.mark.slow
@STORIES
async def test_a_replica_promoted_without_the_last_writes_signs_nobody_out(
    kind: type[Loss], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The link between primary and replica is cut, writes are acknowledged, the replica takes over."""
    async with Scene(tmp_path, processes=1, workers=0) as scene:
        loss = await asyncio.to_thread(kind, scene.backend)
        with Embedded(tmp_path / "replica", free_port()) as replica:
            command(replica, "REPLICAOF", "127.0.0.1", scene.server.port)
            await asyncio.to_thread(wait_until, lambda: _has_all_of(replica, scene.server), "the replica to follow")
            command(replica, "REPLICAOF", "NO", "ONE")
            await asyncio.to_thread(loss.acknowledge)
            scene.proxy.target = replica.port
            scene.proxy.cut()
            scene.proxy.heal()
            well = await asyncio.to_thread(loss.until_well)
            report(capsys, f"promotion: {await asyncio.to_thread(loss.judge)}; well after {well:.2f} s")
            scene.apis[0].stop(signal.SIGKILL)


def _has_all_of(replica: Embedded, primary: Embedded) -> bool:
    """Whether the replica has received and applied everything that the primary has written (INFO replication)."""
    told, sent = (str(command(server, "INFO", "replication")) for server in (replica, primary))
    offset = re.search(r"master_repl_offset:(\d+)", sent)
    assert offset is not None
    return "master_link_status:up" in told and f"slave_repl_offset:{offset[1]}\r" in told.replace("\n", "\r")
