"""The overview, the preview and the timeline, over HTTP against an API and a worker that run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from app.embedded import Embedded
from app.runtime import now_ms
from tests.faults.fill import fill
from tests.servers import command, wait_until
from tests.service import ADMIN_KEY, Api, Backend, Process, environment

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0"
OWN = ("config", "client", "hello", "auth", "select", "ping", "time", "role", "info")
"""What the test itself asks, connections that begin meanwhile, and what each process asks once a second."""
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture
def api(own_server: Embedded) -> Iterator[Api]:
    process = Api(own_server.url)
    yield process
    process.stop()


@pytest.fixture
def worker(own_server: Embedded, api: Api) -> Iterator[Process]:
    process = Process("worker.main", environment(own_server.url))
    yield process
    process.stop()


@pytest.fixture
def acme(api: Api) -> Backend:
    return api.tenant()


def told(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def key_of(backend: Backend) -> str:
    """How a history names the backend's key."""
    listed = backend.api.http.get(f"/v1/admin/tenants/{backend.tenant_id}/api-keys", headers=ADMIN)
    return f"key:{listed.json()['data'][0]['id']}"


@pytest.mark.slow
def test_the_overview_follows_what_happens(api: Api, worker: Process, acme: Backend) -> None:
    other = api.tenant("Other")
    made = [acme.create(f"usr_{n}", user_agent=WINDOWS, country="DE") for n in range(3)]
    acme.create("usr_3", country="FR", device_type="fridge")
    other.create()
    acme.call("DELETE", f"/v1/sessions/{made[0]['session']['id']}?reason=signed_out")

    def overview(headers: dict[str, str] | None = None, query: str = "") -> Any:
        return told(acme.call("GET", f"/v1/admin/overview{query}", headers=headers or {}))

    wait_until(lambda: overview()["sessions"]["active"] == 3, "the worker to collect")
    mine = overview()
    assert mine["active_by_device"] == {"desktop": 2, "other": 1}
    assert mine["active_by_country"] == {"DE": 2, "FR": 1}
    assert (mine["redis"], mine["worker"]) == (None, None), "of the deployment only the operator hears"
    for window, step, many in (("1h", 60, 60), ("24h", 3_600, 24), ("7d", 3_600, 168)):
        series = overview(query=f"?window={window}")["series"]
        assert (series["step_s"], len(series["created"]), sum(series["created"])) == (step, many, 4)
        assert {reason: sum(numbers) for reason, numbers in series["ended"].items()} == {"signed_out": 1}
        begun = datetime.fromisoformat(series["from"]).timestamp()
        assert begun % step == 0
        assert 0 <= datetime.now(UTC).timestamp() - begun - step * (many - 1) < 2 * step
    wait_until(lambda: overview()["sweep"]["last_run_at"] is not None, "the sweep")
    whole = overview(ADMIN)
    assert whole["sessions"]["active"] == 4
    assert whole["worker"]["ok"] is True
    assert whole["redis"]["ok"] is True
    assert whole["redis"]["used_memory"] > 0 and whole["redis"]["latency_ms"] < 1_000
    assert 0 <= whole["sweep"]["lag_ms"] < 5_000
    assert overview({**ADMIN, "X-Tenant-ID": other.tenant_id})["sessions"]["active"] == 1
    assert acme.call("GET", "/v1/admin/overview?window=1y").status_code == 422


@pytest.mark.slow
def test_a_worker_that_is_away_is_said_to_be_and_the_lag_grows(api: Api, worker: Process, acme: Backend) -> None:
    def overview() -> Any:
        return told(acme.call("GET", "/v1/admin/overview", headers=ADMIN))

    wait_until(lambda: overview()["worker"]["ok"] and overview()["sweep"]["last_run_at"], "the worker to begin")
    worker.stop()
    wait_until(lambda: overview()["sweep"]["lag_ms"] > 5_000, "the lag to grow")
    wait_until(lambda: not overview()["worker"]["ok"], "the worker to be missed")
    last = overview()
    assert last["worker"]["last_seen_at"] and last["sweep"]["last_run_at"], "what is known of it stays"


def test_without_a_worker_nothing_is_known_and_nothing_fails(api: Api, acme: Backend) -> None:
    found = told(acme.call("GET", "/v1/admin/overview", headers=ADMIN))
    assert found["worker"] == {"ok": False, "last_seen_at": None}
    assert found["sweep"] == {"lag_ms": None, "last_run_at": None}
    assert found["feed"] == {"lag_ms": None}
    assert found["counted_at"] is None


def test_who_follows_learns_how_far_behind_the_feed_is(api: Api, acme: Backend) -> None:
    with acme.api.http.stream(
        "GET", "/v1/events", headers={"Authorization": f"Bearer {acme.key}", "Accept": "text/event-stream"}
    ) as stream:
        lines = stream.iter_lines()
        next(lines)
        sid = acme.create()["session"]["id"]
        acme.call("DELETE", f"/v1/sessions/{sid}")
        while sid not in next(lines):
            pass
        lag = told(acme.call("GET", "/v1/admin/overview"))["feed"]["lag_ms"]
    assert 0 <= lag < 2_000


def test_a_session_tells_its_life(api: Api, acme: Backend) -> None:
    key = key_of(acme)
    made = acme.create(user_agent=WINDOWS, ip_address="203.0.113.42", country="DE")
    sid = made["session"]["id"]
    told(acme.refresh(made["refresh_token"]))
    told(acme.call("PATCH", f"/v1/sessions/{sid}", json={"role": "owner"}))
    acme.call("DELETE", f"/v1/sessions/{sid}?reason=admin")
    life = told(acme.call("GET", f"/v1/sessions/{sid}/timeline"))["data"]
    assert [(moment["what"], moment["by"]) for moment in life] == [
        ("created", None),
        ("refreshed", "user"),
        ("claims_changed", key),
        ("ended", key),
    ]
    assert [moment["at"] for moment in life] == sorted(moment["at"] for moment in life)
    assert life[0]["detail"]["device_type"] == "desktop" and life[0]["detail"]["country"] == "DE"
    assert life[1]["detail"] == {"count": 1}
    assert life[3]["detail"] == {"reason": "admin", "rule": None}
    assert told(api.http.get(f"/v1/sessions/{sid}/timeline", headers={**ADMIN, "X-Tenant-ID": acme.tenant_id}))
    assert api.tenant("Other").call("GET", f"/v1/sessions/{sid}/timeline").status_code == 404
    assert acme.call("GET", "/v1/sessions/nonsense/timeline").status_code == 404


def test_an_end_says_by_whom_and_under_which_rule(api: Api, acme: Backend) -> None:
    key = key_of(acme)

    def end(sid: str) -> tuple[Any, ...]:
        last = told(acme.call("GET", f"/v1/sessions/{sid}/timeline"))["data"][-1]
        return last["what"], last["by"], last["detail"]["reason"], last["detail"]["rule"]

    told(acme.call("PATCH", "/v1/admin/config", json={"max_sessions_per_user": 1}))
    wait_until(lambda: told(acme.call("GET", "/v1/admin/config"))["max_sessions_per_user"] == 1, "the policy")
    first, second = acme.create("ann")["session"]["id"], acme.create("ann")
    assert end(first) == ("ended", key, "evicted", {"max_sessions_per_user": 1})
    own = {"Authorization": f"Bearer {second['access_token']}"}
    assert api.http.delete("/v1/me/sessions/current", headers=own).status_code == 204
    assert end(second["session"]["id"]) == ("ended", "user", "signed_out", None)
    stolen = acme.create("eve")
    token = stolen["refresh_token"]
    for _ in range(2):
        newer = acme.refresh(token).json()["refresh_token"]
        told(acme.refresh(newer))
        if acme.refresh(token).status_code == 401:
            break
    assert end(stolen["session"]["id"])[1:] == (None, "refresh_token_reused", None)
    third = acme.create("bob")["session"]["id"]
    told(acme.call("POST", "/v1/sessions/revoke", json={"all": True}))
    assert end(third) == ("ended", key, "tenant_revoked", None)


@pytest.mark.slow
def test_time_ends_under_the_rule_of_its_time(api: Api, worker: Process, acme: Backend) -> None:
    told(acme.call("PATCH", "/v1/admin/config", json={"idle_timeout": "5s"}))
    wait_until(lambda: told(acme.call("GET", "/v1/admin/config"))["idle_timeout"] == "5s", "the policy")
    sid = acme.create()["session"]["id"]
    path = f"/v1/sessions/{sid}/timeline"
    wait_until(lambda: told(acme.call("GET", path))["data"][-1]["what"] == "ended", "the timeout")
    told(acme.call("PATCH", "/v1/admin/config", json={"idle_timeout": "1h"}))
    last = told(acme.call("GET", path))["data"][-1]
    assert (last["by"], last["detail"]) == ("worker", {"reason": "idle_timeout", "rule": {"idle_timeout": "5s"}})


def test_a_preview_over_http_changes_nothing(api: Api, acme: Backend) -> None:
    for _ in range(3):
        acme.create("ann")
    found = told(acme.call("POST", "/v1/admin/config/preview", json={"max_sessions_per_user": 1}))
    assert found == {
        "active": 3,
        "evaluated": 3,
        "exact": True,
        "would_end": {"total": 2, "margin": 0, "idle_timeout": 0, "evicted": 2},
    }
    assert told(acme.call("GET", "/v1/admin/config"))["max_sessions_per_user"] is None
    refused = acme.call("POST", "/v1/admin/config/preview", json={"idle_timeout": "soon"})
    assert (refused.status_code, refused.json()["field"]) == (422, "idle_timeout")


@pytest.mark.slow
def test_what_a_look_costs_does_not_depend_on_how_many_there_are(api: Api, own_server: Embedded, acme: Backend) -> None:
    """20,000 sessions more, and no command more but those that look at the preview's sample; none of them scans."""
    sid = acme.create()["session"]["id"]
    looks = (
        ("GET", "/v1/admin/overview?window=7d", None),
        ("GET", f"/v1/sessions/{sid}/timeline", None),
        ("POST", "/v1/admin/config/preview", {"idle_timeout": "1h", "max_sessions_per_user": 1}),
    )
    few = [commands(own_server, acme, *look) for look in looks]
    fill(own_server, acme.tenant_id, 10_000, 2, now_ms(), now_ms() + 10**9)
    many = [commands(own_server, acme, *look) for look in looks]
    assert many[:2] == few[:2]
    assert few[0].total() < 20 and few[1].total() < 15
    assert many[2].total() < 1_024 + 3 * 5_000 + 3 * 1_024
    for look in many:
        assert not {"scan", "keys", "hscan", "zscan", "sscan"} & look.keys()


class Calls(dict[str, int]):
    """How often each command ran."""

    def total(self) -> int:
        return sum(self.values())


def commands(server: Embedded, backend: Backend, method: str, path: str, json: object) -> Calls:
    """What one request makes the server do, the least of three: what is remembered of keys and tenants, for half a
    second, is so by then also where the machine is slow."""
    told(backend.call(method, path, json=json))
    return min((_one(server, backend, method, path, json) for _ in range(3)), key=Calls.total)


def _one(server: Embedded, backend: Backend, method: str, path: str, json: object) -> Calls:
    command(server, "CONFIG", "RESETSTAT")
    told(backend.call(method, path, json=json))
    said = re.findall(r"cmdstat_([a-z|]+):calls=(\d+)", str(command(server, "INFO", "commandstats")))
    return Calls({name: int(calls) for name, calls in said if not name.startswith(OWN)})
