"""Yesterday's copy of the server's folder is put back: what the service notices, and what nobody can."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scene import Scene, report
from tests.servers import wait_until
from tests.service import Backend

EACH = 10


class Yesterday:
    """Sessions at the time of the copy; what happened to them afterwards is about to be forgotten."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.kept, self.refreshed, self.revoked = (
            [backend.create(f"{kind}_{number}") for number in range(EACH)] for kind in ("kept", "refreshed", "revoked")
        )
        self.new: list[dict[str, Any]] = []
        self.cursor = ""

    def since(self) -> None:
        self.refreshed = [self.backend.refresh(one["refresh_token"]).json() for one in self.refreshed]
        for one in self.revoked:
            assert self.backend.call("DELETE", f"/v1/sessions/{one['session']['id']}").status_code == 204
        self.new = [self.backend.create(f"new_{number}") for number in range(EACH)]
        page = self.backend.call("GET", "/v1/events?limit=100").json()
        assert len(page["data"]) == EACH
        self.cursor = page["pagination"]["next_cursor"]

    def alive(self, sessions: list[dict[str, Any]]) -> int:
        return sum(self.backend.verify(one["access_token"])["valid"] for one in sessions)

    def admitted(self, sessions: list[dict[str, Any]]) -> int:
        return sum(self.backend.refresh(one["refresh_token"]).status_code == 200 for one in sessions)

    def regressions(self) -> float:
        lines = self.backend.api.http.get("/metrics").text.splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("hellojohn_state_regressions_total")))

    def until_well(self) -> float:
        began = time.monotonic()
        wait_until(lambda: self.backend.call("GET", "/v1/sessions?user_id=kept_0").status_code == 200, "the API")
        return time.monotonic() - began


@pytest.mark.slow
async def test_an_older_copy_of_the_data_is_noticed_and_signs_out_only_who_is_not_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Scene(tmp_path, processes=1, workers=0) as scene:
        story = await asyncio.to_thread(Yesterday, scene.backend)
        scene.server.stop()
        shutil.copytree(scene.server.folder, tmp_path / "copy")
        scene.server.start()
        await asyncio.to_thread(story.until_well)
        await asyncio.to_thread(story.since)
        scene.server.stop()
        shutil.rmtree(scene.server.folder)
        shutil.copytree(tmp_path / "copy", scene.server.folder)
        scene.server.start()
        well = await asyncio.to_thread(story.until_well)
        back = await asyncio.to_thread(story.alive, story.revoked)
        assert await asyncio.to_thread(story.alive, story.kept) == EACH
        assert await asyncio.to_thread(story.admitted, story.refreshed) == EACH
        assert await asyncio.to_thread(story.regressions) == EACH
        lost = await asyncio.to_thread(scene.backend.call, "GET", f"/v1/events?after={story.cursor}")
        assert await asyncio.to_thread(story.alive, story.new) == 0
        assert await asyncio.to_thread(story.admitted, story.new) == 0
        report(
            capsys,
            f"older copy put back: {EACH} untouched sessions alive, {EACH} refresh tokens ahead of the store let in "
            f"and counted, {back} of {EACH} revocations undone, {EACH} newer sessions unknown and refused; a "
            f"follower's cursor: {lost.status_code} {lost.json().get('code')}; well after {well:.2f} s",
        )
        assert back == EACH, "the copy is older than the revocations: nothing in it tells of them"
        assert (lost.status_code, lost.json()["code"]) == (410, "cursor_lost")
