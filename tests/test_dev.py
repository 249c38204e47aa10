"""`make run` as its user meets it: one command, a curl that works when pasted, data that stays, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.embedded import dies_with_parent, free_port
from tests.servers import Cluster
from tests.service import ROOT, environment


class Run:
    """`make run` with its data in `folder`; what it prints is in `text`."""

    def __init__(self, folder: Path, port: int, redis_url: str = "") -> None:
        env = environment(redis_url, HELLOJOHN_DATA=str(folder / "data"), PORT=str(port))
        for name in (
            "HELLOJOHN_SECRET",
            "HELLOJOHN_ADMIN_KEY",
            "HELLOJOHN_ISSUER",
            *([] if redis_url else ["REDIS_URL"]),
        ):
            del env[name]
        self.file = folder / "data" / "dev.env"
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.dev"],
                env=env,
                cwd=ROOT,
                stdout=output,
                stderr=output,
                preexec_fn=dies_with_parent(signal.SIGTERM),
            )
        until = time.monotonic() + 60
        while "Ctrl-C stops everything" not in self.text:
            assert self.process.poll() is None and time.monotonic() < until, self.text
            time.sleep(0.05)
        self.children = _children(self.process.pid)

    @property
    def text(self) -> str:
        return self._output.read_text()

    @property
    def settings(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.file.read_text().splitlines())

    def get(self, path: str) -> httpx.Response:
        key = {"Authorization": f"Bearer {self.settings['API_KEY']}"}
        return httpx.get(self.settings["HELLOJOHN_URL"] + path, headers=key, trust_env=False)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _all_gone(pids: list[int], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while any(_lives(pid) for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started = Run(tmp_path, free_port())
    yield started
    if started.process.poll() is None:
        started.end(signal.SIGTERM)


@pytest.mark.slow
def test_the_printed_curl_works_and_a_second_run_knows_the_sessions_of_the_first(run: Run, tmp_path: Path) -> None:
    pasted = run.text.partition("access token:\n")[2].partition("Ctrl-C")[0]
    done = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    verdict = json.loads(done.stdout.strip().splitlines()[-1])
    assert verdict["valid"] is True, done
    assert oct(run.file.stat().st_mode & 0o777) == "0o600"
    names = {"HELLOJOHN_URL", "HELLOJOHN_ISSUER", "TENANT_ID", "API_KEY", "ADMIN_KEY", "REDIS_URL"}
    assert set(run.settings) == names
    settings, path = run.settings, f"/v1/sessions/{verdict['session']['id']}"
    assert len(run.children) == 3
    assert run.end(signal.SIGINT) == 0
    assert _all_gone(run.children, 1)

    again = Run(tmp_path, int(settings["HELLOJOHN_URL"].rpartition(":")[2]), settings["REDIS_URL"])
    try:
        assert again.get(path).json()["status"] == "active"
        assert again.settings == settings
    finally:
        assert again.end(signal.SIGTERM) == 0
    assert _all_gone(again.children, 1)


@pytest.mark.slow
def test_a_cluster_of_ones_own_is_used_instead(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        run = Run(tmp_path, free_port(), cluster.url)
        try:
            assert run.settings["REDIS_URL"] == cluster.url
            assert run.get("/v1/sessions").json()["data"] == []
            assert len(run.children) == 3  # the worker's queue has a server of its own
        finally:
            assert run.end(signal.SIGINT) == 0
        assert _all_gone(run.children, 1)


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_that_blocks_the_next(run: Run, tmp_path: Path) -> None:
    port = int(run.settings["HELLOJOHN_URL"].rpartition(":")[2])
    run.end(signal.SIGKILL)
    assert _all_gone(run.children, 5)
    again = Run(tmp_path, port)
    try:
        assert again.get("/v1/sessions").status_code == 200
    finally:
        again.end(signal.SIGTERM)


@pytest.mark.slow
def test_another_port_over_the_same_data_works(run: Run, tmp_path: Path) -> None:
    """The issuer follows the port, and there is no other process on this store."""
    first = run.settings
    assert run.end(signal.SIGINT) == 0
    again = Run(tmp_path, free_port())
    try:
        assert again.settings["HELLOJOHN_ISSUER"] == again.settings["HELLOJOHN_URL"] != first["HELLOJOHN_ISSUER"]
        assert again.get("/v1/sessions").status_code == 200
    finally:
        assert again.end(signal.SIGTERM) == 0
