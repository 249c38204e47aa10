"""The machine against every store, a bounded number of calls each; `make test-faults` goes further."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from app.embedded import Embedded
from app.store.scripts import SCRIPTS
from app.store.wire import Script
from tests.model.machine import machine
from tests.model.subjects import InProcess, OverHttp
from tests.servers import Cluster

CALLS = {"oracle": 1_500, "valkey": 3_000, "few_tombstones": 1_500, "cluster": 1_500, "http": 300}
FEW_TOMBSTONES = {"few_tombstones", "cluster"}


@pytest.fixture(params=CALLS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[InProcess]:
    """The service over a store of its own."""
    with ExitStack() as stack:
        if request.param == "oracle":
            opened = InProcess(None)
        elif request.param == "cluster":
            opened = InProcess(stack.enter_context(Cluster(tmp_path / "cluster")).url)
        else:
            server = stack.enter_context(Embedded(tmp_path / "valkey"))
            opened = OverHttp(server.url, tmp_path) if request.param == "http" else InProcess(server.url)
        stack.callback(opened.close)
        yield opened


TOMBSTONES = "TOMBSTONES_PER_USER = 1000"


def remember_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scripts remember two ended sessions of a user instead of a thousand, so that a short run gets beyond."""
    for verb, script in SCRIPTS.items():
        assert script.text.count(TOMBSTONES) == 1
        few = script.text.replace(TOMBSTONES, "TOMBSTONES_PER_USER = 2")
        monkeypatch.setitem(SCRIPTS, verb, Script.of(verb, few))


def test_the_service_does_what_the_model_says(
    subject: InProcess,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = request.node.callspec.params["subject"]
    if name in FEW_TOMBSTONES:
        remember_few(monkeypatch)
    wanted = int(os.environ.get(f"MODEL_CALLS_{name.upper()}", CALLS[name]))
    start = int(os.environ.get("SEED", random.randrange(10**6)))
    caller = machine(name, subject, name in FEW_TOMBSTONES)
    chosen = settings(
        stateful_step_count=250,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate] if os.environ.get("MODEL_SHRINK") == "0" else [Phase.generate, Phase.shrink],
    )
    rounds = 0
    while (left := wanted - caller.steps) > 0:
        stories = max(5, min(30, left // 250))
        run_state_machine_as_test(seed(start + rounds)(caller), settings=settings(chosen, max_examples=stories))
        rounds += 1
    with capsys.disabled():
        print(f"\n  model on {name}: seed {start}, {caller.steps} calls, no violation")
    assert caller.steps >= wanted
