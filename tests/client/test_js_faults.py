"""The JavaScript client while its feed is cut, its service killed and its process stopped: nothing revoked passes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from app.embedded import Embedded
from tests.client.probe import Probe, install
from tests.faults.proxy import Proxy
from tests.service import Api, Backend

FULL = os.environ.get("FAULTS") == "full"
COUNT, CUT_S = (10_000, 30.0) if FULL else (1_000, 6.0)


class Wire:
    """A proxy in a thread of its own, for tests that wait for processes."""

    def __init__(self, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.proxy = Proxy(port)
        asyncio.run_coroutine_threadsafe(self.proxy.start(), self._loop).result()
        self.url = f"http://127.0.0.1:{self.proxy.port}"

    def tell(self, act: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(act)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.proxy.stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("js"))


@pytest.fixture
def api(own_server: Embedded) -> Iterator[Api]:
    process = Api(own_server.url)
    yield process
    process.stop()


@pytest.fixture
def backend(api: Api) -> Backend:
    return api.tenant()


@pytest.fixture
def wire(api: Api) -> Iterator[Wire]:
    wire = Wire(api.port)
    yield wire
    wire.stop()


@pytest.fixture
def start(installed: Path, backend: Backend, wire: Wire) -> Iterator[Callable[..., Probe]]:
    """Starts verifiers of the backend whose stream goes through the wire; all of their calls with `url=wire.url`."""
    probes: list[Probe] = []

    def begin(**options: Any) -> Probe:
        probes.append(Probe(installed, backend, wire.url, **options))
        probes[-1].ready()
        return probes[-1]

    yield begin
    for probe in probes:
        probe.stop()


def sessions(backend: Backend, count: int) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(backend.create, [f"usr_{number % 50}" for number in range(count)]))


def revoke(backend: Backend, created: list[dict[str, Any]]) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = [f"/v1/sessions/{each['session']['id']}" for each in created]
        assert {answer.status_code for answer in pool.map(lambda path: backend.call("DELETE", path), paths)} <= {204}


def wait_fresh(probe: Probe, seconds: float = 20) -> None:
    probe.send("ready")
    assert probe.answer(seconds) == {}


@pytest.mark.slow
def test_a_cut_with_many_revocations_and_everything_killed_lets_nothing_revoked_pass(
    own_server: Embedded, api: Api, backend: Backend, wire: Wire, start: Callable[..., Probe]
) -> None:
    created = sessions(backend, COUNT + 20)
    tokens = [each["access_token"] for each in created]
    dead, alive = tokens[:COUNT], tokens[COUNT:]
    probe = start(maxStaleness=3)
    assert set(probe.codes(*tokens[:: COUNT // 50])) == {"good"}
    wire.tell(wire.proxy.cut)
    until = time.monotonic() + CUT_S
    revoke(backend, created[: COUNT // 2])
    api.stop(signal.SIGKILL)
    own_server.stop(crash=True)
    own_server.start()
    second = Api(own_server.url)
    try:
        backend.api = second
        revoke(backend, created[COUNT // 2 : COUNT])
        while time.monotonic() < until:
            assert set(probe.codes(*alive)) <= {"good", "verifier_stale"}
            time.sleep(0.1)
        assert set(probe.codes(*dead)) == {"verifier_stale"}
        wire.proxy.target = second.port
        wire.tell(wire.proxy.heal)
        while not probe.state()["fresh"]:
            assert "good" not in probe.codes(*dead[:50])
        assert set(probe.codes(*dead)) == {"session_revoked"}
        assert set(probe.codes(*alive)) == {"good"}
    finally:
        second.stop()


@pytest.mark.slow
def test_a_stopped_process_wakes_up_stale_and_stays_so_until_it_has_truly_heard(
    backend: Backend, wire: Wire, start: Callable[..., Probe]
) -> None:
    dead, alive = sessions(backend, 2)
    tokens = [dead["access_token"], alive["access_token"]]
    probe = start(maxStaleness=2)
    assert probe.codes(*tokens) == ["good", "good"]
    probe.child.send_signal(signal.SIGSTOP)
    time.sleep(1)
    revoke(backend, [dead])
    time.sleep(6)
    wire.tell(lambda: setattr(wire.proxy, "delay_s", 0.5))
    for _ in range(30):
        probe.send("verify", tokens=tokens)
    probe.child.send_signal(signal.SIGCONT)
    codes = [tuple(verdict.get("code", "good") for verdict in probe.answer()) for _ in range(30)]
    assert {second for _, second in codes} == {"verifier_stale"}
    assert {first for first, _ in codes} <= {"verifier_stale", "session_revoked"}
    wire.tell(lambda: setattr(wire.proxy, "delay_s", 0.0))
    wait_fresh(probe)
    assert probe.codes(*tokens) == ["session_revoked", "good"]


@pytest.mark.slow
def test_a_frozen_wire_is_given_up_and_what_it_held_back_makes_nothing_fresh(
    backend: Backend, wire: Wire, start: Callable[..., Probe]
) -> None:
    dead, alive = sessions(backend, 2)
    tokens = [dead["access_token"], alive["access_token"]]
    probe = start(maxStaleness=3)
    wire.tell(wire.proxy.freeze)
    time.sleep(0.2)
    revoke(backend, [dead])
    probe.wait(alive["access_token"], "verifier_stale", 6)
    time.sleep(5)
    wire.tell(wire.proxy.heal)
    while not probe.state()["fresh"]:
        assert probe.code(tokens[0]) != "good"
    assert probe.codes(*tokens) == ["session_revoked", "good"]


@pytest.mark.slow
def test_what_lies_in_buffers_on_a_slow_link_makes_it_stale_in_time(
    backend: Backend, wire: Wire, start: Callable[..., Probe]
) -> None:
    (gone,) = sessions(backend, 1)
    for _ in range(60):
        backend.create("usr_many")
    wire.tell(lambda: setattr(wire.proxy, "rate", 20_000))
    probe = start(maxStaleness=5)
    for number in range(6):
        claims = {"n": number, "pad": "x" * 900}
        assert backend.call("POST", "/v1/users/usr_many/claims", json={"claims": claims}).status_code == 200
        time.sleep(0.5)
    revoke(backend, [gone])
    revoked, seen = time.monotonic(), set()
    while (code := probe.code(gone["access_token"])) != "session_revoked":
        since = time.monotonic() - revoked
        assert code == "verifier_stale" or since < 5.2, f"{code} {since:.1f} s after its end"
        assert since < 60
        seen.add(code)
        time.sleep(0.02)
    assert "verifier_stale" in seen, "the link was not slow enough to tell"
    wait_fresh(probe)


@pytest.mark.slow
def test_past_the_staleness_each_policy_does_what_it_says(
    api: Api, backend: Backend, wire: Wire, start: Callable[..., Probe]
) -> None:
    dead, alive = sessions(backend, 2)
    tokens = [dead["access_token"], alive["access_token"]]
    probes = {policy: start(maxStaleness=2, onStale=policy) for policy in ("ask", "refuse", "allow")}
    assert all(probe.codes(*tokens) == ["good", "good"] for probe in probes.values())
    wire.tell(wire.proxy.cut)
    revoke(backend, [dead])
    path = f"/v1/sessions/{alive['session']['id']}"
    assert backend.call("PATCH", path, json={"role": "admin"}).status_code == 200
    time.sleep(2.5)
    assert {policy: probe.codes(*tokens) for policy, probe in probes.items()} == {
        "ask": ["session_revoked", "good"],
        "refuse": ["verifier_stale", "verifier_stale"],
        "allow": ["good", "good"],
    }
    assert probes["ask"].claims(alive["access_token"])["role"] == "admin"
    api.stop(signal.SIGKILL)
    assert probes["ask"].codes(*tokens) == ["service_unavailable", "service_unavailable"]
    assert probes["allow"].codes(*tokens) == ["good", "good"]


def test_a_log_that_has_lost_entries_takes_back_no_end(
    own_server: Embedded, backend: Backend, wire: Wire, start: Callable[..., Probe]
) -> None:
    before, meanwhile, alive = sessions(backend, 3)
    tokens = [each["access_token"] for each in (before, meanwhile, alive)]
    probe = start(maxStaleness=30)
    revoke(backend, [before])
    probe.wait(tokens[0], "session_revoked")
    wait_beat(probe)
    wire.tell(wire.proxy.cut)
    with redis.Redis.from_url(own_server.url) as store:
        assert store.delete(*store.scan_iter("hj:{*}:events", count=10_000)) == 1
    revoke(backend, [meanwhile])
    wire.tell(wire.proxy.heal)
    probe.wait(tokens[1], "session_revoked")
    wait_beat(probe)
    assert probe.codes(*tokens) == ["session_revoked", "session_revoked", "good"]


def wait_beat(probe: Probe) -> None:
    """Until one more heartbeat has come: the lag has become less."""
    last = probe.state()["lag"]
    while (lag := probe.state()["lag"]) >= last:
        last = lag
        time.sleep(0.01)
