"""A service on one server and on a cluster, and both ways to follow it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client import probe
from tests.client.acts import Site
from tests.client.pairs import Pair, Start
from tests.service import ROOT, Api


@pytest.fixture(scope="module", params=["valkey_url", "cluster_url"])
def redis_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture(scope="module")
def api(redis_url: str) -> Iterator[Api]:
    process = Api(redis_url)
    yield process
    process.stop()


@pytest.fixture(params=["http", "redis"])
def site(request: pytest.FixtureRequest, api: Api, redis_url: str) -> Site:
    """A tenant of its own; its verifiers follow over HTTP or in Redis."""
    return Site(api, redis_url if request.param == "redis" else None)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `session_client` as pip installs it, and nothing else of ours."""
    folder = tmp_path_factory.mktemp("installed")
    words = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", *words, str(ROOT / "app/client")], check=True, timeout=120)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return probe.install(tmp_path_factory.mktemp("both"))


@pytest.fixture(scope="module")
def start_shared(folder: Path) -> Iterator[Start]:
    pairs: dict[str, Pair] = {}

    def begin(given: dict[str, Any], **access: Any) -> Pair:
        name = json.dumps([given, access])
        if name not in pairs:
            pairs[name] = Pair(folder, given, **access)
        return pairs[name]

    yield begin
    for pair in pairs.values():
        pair.stop()


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    pairs: list[Pair] = []

    def begin(given: dict[str, Any], **access: Any) -> Pair:
        pairs.append(Pair(folder, given, **access))
        return pairs[-1]

    yield begin
    for pair in pairs:
        pair.stop()
