"""Servers that the whole run shares. They start when the first test asks for them and end with the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.embedded import Embedded
from tests.servers import Cluster


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
    with Embedded(tmp_path / "valkey") as server:
        yield server
