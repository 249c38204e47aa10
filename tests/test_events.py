"""The event log over HTTP: pages without holes, streams that resume, each tenant its own."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import httpx
import msgspec
import pytest
from redis import Redis

from app.api.events import patiently
from app.client.events import channel
from app.cursors import Cursors
from app.embedded import Embedded
from app.feed import Item, Reset
from app.keys import derive
from app.model import SHARDS, SealedKey, shard_in
from app.reader import Beat, Bookmark
from app.store import keyspace
from app.store.log import Position
from app.store.wire import open_wire
from tests.builders import announce
from tests.servers import command, commands, wait_until
from tests.service import ADMIN_KEY, SECRET, Api, Backend


@pytest.fixture(scope="module", params=["valkey_url", "cluster_url"])
def store_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def api(store_url: str) -> Iterator[Api]:
    process = Api(store_url)
    yield process
    process.stop()


@pytest.fixture
def backend(api: Api) -> Backend:
    return api.tenant()


class Stream:
    """A client of server-sent events in a thread of its own."""

    def __init__(self, backend: Backend, last_id: str | None = None, query: str = "") -> None:
        self.events: list[dict[str, Any]] = []
        self.beats: list[dict[str, Any]] = []
        self.resets: list[str] = []
        self.last_id = last_id
        self._path = "/v1/events" + query
        self.ready = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._read, args=(backend,), daemon=True)
        self._thread.start()
        assert self.ready.wait(10)

    def _read(self, backend: Backend) -> None:
        headers = {"Authorization": f"Bearer {backend.key}", "Accept": "text/event-stream"}
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        with httpx.stream("GET", backend.api.url + self._path, headers=headers, timeout=20, trust_env=False) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            kind = ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "id":
                    self.last_id = value
                elif name == "data":
                    self._take(kind, json.loads(value))
                if self._stop:
                    return

    def _take(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "heartbeat":
            self.beats.append(data)
            self.ready.set()
        elif kind == "reset":
            self.resets.append(data["reason"])
        else:
            self.events.append(data)

    def until(self, count: int, seconds: float = 10) -> list[dict[str, Any]]:
        end = time.monotonic() + seconds
        while len({event["id"] for event in self.events}) < count and time.monotonic() < end:
            time.sleep(0.01)
        return self.events

    def ended(self, seconds: float) -> bool:
        """Whether the server ends it within that time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def leave(self) -> None:
        """Go with the next message."""
        self._stop = True

    def stop(self) -> None:
        self.leave()
        assert self.ended(10)


def revoke_some(backend: Backend, count: int) -> set[str]:
    ids = {backend.create(f"usr_{number}")["session"]["id"] for number in range(count)}
    for sid in ids:
        assert backend.call("DELETE", f"/v1/sessions/{sid}").status_code == 204
    return ids


def pages(
    backend: Backend, after: str | None = None, limit: int = 7, query: str = ""
) -> tuple[list[dict[str, Any]], str]:
    found: list[dict[str, Any]] = []
    while True:
        begin = f"after={after}" if after else query
        body = backend.call("GET", f"/v1/events?limit={limit}&{begin}").json()
        found += body["data"]
        after = body["pagination"]["next_cursor"]
        if not body["pagination"]["has_more"]:
            return found, str(after)


def test_pages_hold_every_event_once_and_go_on_where_they_ended(backend: Backend) -> None:
    first = revoke_some(backend, 30)
    time.sleep(0.05)
    found, cursor = pages(backend)
    assert sorted(event["session_id"] for event in found) == sorted(first)
    assert len({event["id"] for event in found}) == 30
    second = revoke_some(backend, 5)
    time.sleep(0.05)
    more, _ = pages(backend, cursor)
    assert {event["session_id"] for event in more} == second


def test_many_events_of_one_millisecond_are_all_paged(backend: Backend) -> None:
    ids = {backend.create("usr_many")["session"]["id"] for _ in range(60)}
    assert backend.call("POST", "/v1/sessions/revoke", json={"user_id": "usr_many"}).json()["revoked"] == 60
    time.sleep(0.05)
    found, _ = pages(backend)
    assert sorted(event["session_id"] for event in found) == sorted(ids)


def test_events_say_what_the_contract_says(backend: Backend) -> None:
    created = backend.create("usr_1")
    sid = created["session"]["id"]
    assert backend.call("PATCH", f"/v1/sessions/{sid}", json={"role": "owner", "claims": {"a": 1}}).status_code == 200
    backend.call("POST", "/v1/sessions/revoke", json={"all": True})
    time.sleep(0.05)
    found, _ = pages(backend)
    updated, cut = found[0], found[1]
    assert (updated["type"], updated["role"], updated["claims"]) == ("session.updated", "owner", {"a": 1})
    assert (cut["type"], cut["reason"]) == ("tenant.revoked", "tenant_revoked") and cut["before"] > 0
    assert all(event["occurred_at"].endswith("Z") and event["not_after"] > time.time() for event in found)


def test_an_update_says_all_four_in_the_page_the_stream_and_the_channel(backend: Backend, store_url: str) -> None:
    """`null` where there is none, so that whoever lays one event over another forgets what was cleared."""
    four = ("org_id", "role", "mfa_verified", "claims")
    created = backend.create("usr_1", org_id="org_1", role="m", mfa_verified=True, claims={"a": 1})
    path = f"/v1/sessions/{created['session']['id']}"
    node = store_url.replace("redis+cluster", "redis").split(",")[0]
    with Redis.from_url(node) as store, store.pubsub() as listener:
        listener.subscribe(channel(backend.tenant_id))
        stream = Stream(backend)
        for cleared in ({"org_id": None}, {"role": None, "mfa_verified": None, "claims": None}):
            assert backend.call("PATCH", path, json=cleared).status_code == 200
        assert backend.call("DELETE", path).status_code == 204
        assert backend.call("POST", "/v1/sessions/revoke", json={"all": True}).status_code == 200
        forms = {"stream": list(stream.until(4))}
        published = (message["data"] for message in listener.listen() if message["type"] == "message")
        forms["channel"] = [json.loads(data) for data in islice(published, 4)]
        forms["page"] = pages(backend)[0]
        stream.stop()
    said = [
        {"org_id": None, "role": "m", "mfa_verified": True, "claims": {"a": 1}},
        {"org_id": None, "role": None, "mfa_verified": False, "claims": {}},
    ]
    for form, events in forms.items():
        told = {event["occurred_at"] + event["type"]: event for event in events if event["type"] == "session.updated"}
        assert [{name: event[name] for name in four} for _, event in sorted(told.items())] == said, form
        assert not [event for event in events if event["type"] != "session.updated" and {*four} & {*event}], form
        others = [event for event in events if event["type"] != "session.updated"]
        assert len(others) == 2 and None not in [value for event in others for value in event.values()], form


def test_a_stream_shows_what_happens_and_resumes_without_a_hole(backend: Backend) -> None:
    stream = Stream(backend)
    live = revoke_some(backend, 10)
    assert {event["session_id"] for event in stream.until(10)} == live
    time.sleep(2.5)
    stream.stop()
    missed = revoke_some(backend, 10)
    again = Stream(backend, stream.last_id)
    assert missed <= {event["session_id"] for event in again.until(10)}
    again.stop()


def test_a_snapshot_holds_what_still_matters_and_the_stream_goes_on(backend: Backend) -> None:
    backend.call("PATCH", "/v1/admin/config", json={"session_duration": "60s", "access_token_ttl": "30s"})
    time.sleep(1.1)
    gone = revoke_some(backend, 5)
    backend.call("POST", "/v1/sessions/revoke", json={"all": True})
    stream = Stream(backend, query="?snapshot=true")
    assert stream.resets == ["snapshot"]
    assert {event["session_id"] for event in stream.events if event["type"] == "session.revoked"} == gone
    assert [event["type"] for event in stream.events][-1] == "tenant.revoked"
    assert all(beat["lag_ms"] < 5_000 for beat in stream.beats)
    assert stream.beats[0]["since_open_ms"] < 5_000
    live = revoke_some(backend, 3)
    assert live <= {event.get("session_id") for event in stream.until(9)}
    stream.stop()
    assert {event.get("session_id") for event in pages(backend, query="snapshot=true")[0]} >= gone | live
    assert backend.call("GET", f"/v1/events?snapshot=true&after={stream.last_id}").status_code == 422
    assert backend.call("GET", "/v1/events?snapshot=perhaps").status_code == 422


def test_a_gap_is_said_and_followed_by_a_snapshot(backend: Backend) -> None:
    gone = revoke_some(backend, 4)
    cursors = Cursors(derive(SECRET.encode(), "cursors"))
    now = int(time.time() * 1_000)
    old = cursors.seal(f"{now - 2 * 86_400_000}.0.0", backend.tenant_id, "events")
    invented = cursors.seal(f"{now}.0.0.0V-{now - 1}-7", backend.tenant_id, "events")
    for cursor, reason in ((old, "cursor_expired"), (invented, "cursor_lost")):
        assert backend.call("GET", f"/v1/events?after={cursor}").json()["code"] == reason
        stream = Stream(backend, cursor)
        assert stream.resets == [reason]
        assert {event["session_id"] for event in stream.events} >= gone
        stream.stop()
    metrics = backend.api.http.get("/metrics").text.splitlines()
    assert "hellojohn_state_regressions_total 2.0" in metrics


def test_a_cursor_of_no_log_is_refused_by_the_name_of_where_it_stood(backend: Backend) -> None:
    page = backend.call("GET", "/v1/events?after=foo")
    stream = backend.call("GET", "/v1/events", headers={"Accept": "text/event-stream", "Last-Event-ID": "foo"})
    assert [(page.status_code, page.json()["field"]), (stream.status_code, stream.json()["field"])] == [
        (422, "after"),
        (422, "Last-Event-ID"),
    ]


def test_many_who_come_back_at_once_get_each_event_once(backend: Backend, api: Api) -> None:
    first = Stream(backend)
    time.sleep(2.5)
    gone = revoke_some(backend, 20)
    first.until(20)
    streams = [Stream(backend, first.beats[0]["cursor"]) for _ in range(20)]
    for stream in streams:
        assert {event["session_id"] for event in stream.until(20)} == gone
        assert len(stream.events) == 20
    for stream in [first, *streams]:
        stream.leave()
    assert all(stream.ended(10) for stream in [first, *streams])


def test_each_heartbeat_names_the_keys_there_are(backend: Backend) -> None:
    http, admin = backend.api.http, {"Authorization": f"Bearer {ADMIN_KEY}"}
    stream = Stream(backend)
    old = {key["kid"] for key in http.get("/.well-known/jwks.json").json()["keys"]}
    assert set(stream.beats[0]["kids"]) == old
    for kid in old:
        assert http.delete(f"/v1/admin/signing-keys/{kid}", headers=admin).status_code == 204
    heard = len(stream.beats)
    wait_until(lambda: len(stream.beats) > heard, "the next heartbeat")
    now = {key["kid"] for key in http.get("/.well-known/jwks.json").json()["keys"]}
    assert now and set(stream.beats[heard]["kids"]) == now and not now & old
    stream.stop()


def test_a_ring_that_this_process_cannot_open_breaks_no_stream(own_server: Embedded) -> None:
    """Its heartbeats then say nothing of keys."""
    api = Api(own_server.url)
    stream = Stream(api.tenant())
    try:
        with Redis.from_url(own_server.url) as store:
            [own, *_] = [msgspec.msgpack.decode(raw, type=SealedKey) for raw in store.hvals(keyspace.SIGNING_KEYS)]
            foreign = msgspec.structs.replace(own, kid="another", sealed=bytes(80))
            store.hset(keyspace.SIGNING_KEYS, foreign.kid, msgspec.msgpack.encode(foreign))
        heard = len(stream.beats)
        wait_until(lambda: len(stream.beats) > heard + 1, "two heartbeats more")
        assert "kids" in stream.beats[0] and "kids" not in stream.beats[heard + 1]
    finally:
        stream.stop()
        api.stop()


def test_each_heartbeat_is_dated_from_the_opening_of_its_own_stream(backend: Backend) -> None:
    first = Stream(backend)
    time.sleep(1.5)
    second = Stream(backend)
    time.sleep(4.5)
    dated = [{beat["cursor"]: beat["since_open_ms"] for beat in stream.beats[1:]} for stream in (first, second)]
    shared = dated[0].keys() & dated[1].keys()
    assert shared
    assert all(1_400 < dated[0][cursor] - dated[1][cursor] < 4_000 for cursor in shared)
    first.stop()
    second.stop()


async def test_whoever_waits_for_their_turn_sees_every_second_that_somebody_is_there() -> None:
    beat = Beat(Bookmark(Position(1, 0, 0)), 0.0)

    async def late() -> AsyncGenerator[Sequence[Item], None]:
        yield [Reset("snapshot")]
        await asyncio.sleep(2.5)
        yield [beat]
        await asyncio.sleep(1.5)
        yield [beat]

    given = [list(some) async for some in patiently(late())]
    assert given == [[Reset("snapshot")], [], [], [beat], [beat]]


async def test_who_leaves_while_waiting_leaves_nothing_running() -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncGenerator[Sequence[Item], None]:
        try:
            await asyncio.Event().wait()
            yield []
        finally:
            ended.set()

    items = patiently(endless())
    assert list(await anext(items)) == []
    await items.aclose()
    assert ended.is_set()


def test_a_burst_of_one_tenant_keeps_no_other_waiting(own_server: Embedded) -> None:
    """30,000 events in one shard, as one user's hundred sessions make them whose claims change 300 times."""
    api = Api(own_server.url)
    try:
        loud, quiet = api.tenant("Loud"), api.tenant("Quiet")
        first = revoke_some(quiet, 1)
        follower = Stream(quiet)
        asyncio.run(burst(own_server, loud.tenant_id, shard_in(next(iter(first)))))
        second = revoke_some(quiet, 1)
        assert {event["session_id"] for event in follower.until(1)} == second
        time.sleep(0.05)
        before = commands(own_server)
        page = quiet.call("GET", "/v1/events").json()
        stream = Stream(quiet, query="?snapshot=true")
        asked = commands(own_server) - before
        assert {event["session_id"] for event in page["data"]} == first | second
        assert not page["pagination"]["has_more"]
        assert {event["session_id"] for event in stream.events} == first | second
        assert asked < 5 * SHARDS, "page and snapshot, and the process reads every shard each two seconds"
        for one in (follower, stream):
            one.stop()
    finally:
        api.stop()


async def burst(server: Embedded, tenant_id: str, shard: int) -> None:
    wire = await open_wire(server.url, 10_000)
    for _ in range(300):
        await announce(wire, shard, tenant_id, 100)
    await wire.close()


def test_a_damaged_shard_of_the_log_keeps_no_page_from_the_others(own_server: Embedded) -> None:
    api = Api(own_server.url)
    try:
        backend = api.tenant()
        ids = revoke_some(backend, 12)
        time.sleep(0.05)
        bad = shard_in(next(iter(ids)))
        for key in (keyspace.events(bad), keyspace.event_ids(shard_in(max(ids)), backend.tenant_id)):
            command(own_server, "DEL", key)
            command(own_server, "SET", key, "damaged")
        page = backend.call("GET", "/v1/events").json()
        assert {event["session_id"] for event in page["data"]} == {sid for sid in ids if shard_in(sid) != bad}
        stream = Stream(backend, query="?snapshot=true")
        assert {event["session_id"] for event in stream.events} == {sid for sid in ids if shard_in(sid) != bad}
        stream.stop()
    finally:
        api.stop()


def test_a_stream_goes_on_from_the_middle_of_a_millisecond(backend: Backend) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = {made["session"]["id"] for made in pool.map(backend.create, ["usr_many"] * 1_200)}
    assert backend.call("POST", "/v1/sessions/revoke", json={"user_id": "usr_many"}).json()["revoked"] == 1_200
    time.sleep(0.05)
    page = backend.call("GET", "/v1/events?limit=7").json()
    stream = Stream(backend, page["pagination"]["next_cursor"])
    rest = [event["session_id"] for event in stream.until(1_193)]
    assert sorted([*rest, *(event["session_id"] for event in page["data"])]) == sorted(ids)
    stream.stop()


def test_a_stream_ends_with_the_key_that_opened_it(backend: Backend, api: Api) -> None:
    stream = Stream(backend)
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    key_id = backend.key.split("_")[2]
    path = f"/v1/admin/tenants/{backend.tenant_id}/api-keys/{key_id}"
    assert api.http.delete(path, headers=admin).status_code == 204
    assert stream.ended(6)


def test_a_log_that_lost_its_end_is_noticed(own_server: Embedded) -> None:
    """As after a failover: the entries are gone, the readers have seen them."""
    api = Api(own_server.url)
    try:
        backend = api.tenant()
        stream = Stream(backend)
        first, second = backend.create("usr_1"), backend.create("usr_1")
        backend.call("DELETE", f"/v1/sessions/{first['session']['id']}")
        stream.until(1)
        time.sleep(0.05)
        _, cursor = pages(backend)
        key = keyspace.events(shard_in(first["session"]["id"]))
        assert command(own_server, "DEL", key) == 1
        backend.call("DELETE", f"/v1/sessions/{second['session']['id']}")
        assert [event["session_id"] for event in stream.until(2)] == [
            first["session"]["id"],
            second["session"]["id"],
        ]
        assert backend.call("GET", f"/v1/events?after={cursor}").json()["code"] == "cursor_lost"
        assert Stream(backend, cursor).resets == ["cursor_lost"]
    finally:
        api.stop()


def test_another_tenant_sees_nothing(api: Api, backend: Backend) -> None:
    other = api.tenant("Other")
    revoke_some(backend, 3)
    time.sleep(0.05)
    _, cursor = pages(backend)
    assert pages(other)[0] == []
    assert other.call("GET", f"/v1/events?after={cursor}").status_code == 422


def test_a_cursor_older_than_what_is_kept_is_refused(backend: Backend, api: Api) -> None:
    cursors = Cursors(derive(SECRET.encode(), "cursors"))
    old = cursors.seal(f"{(int(time.time()) - 2 * 86_400) * 1_000}.0.0", backend.tenant_id, "events")
    answer = backend.call("GET", f"/v1/events?after={old}")
    assert (answer.status_code, answer.json()["code"]) == (410, "cursor_expired")


def test_a_stream_outlives_a_redis_restart_and_misses_nothing(own_server: Embedded) -> None:
    api = Api(own_server.url)
    try:
        backend = api.tenant()
        stream = Stream(backend)
        before = revoke_some(backend, 3)
        stream.until(3)
        own_server.stop(crash=True)
        time.sleep(1)
        own_server.start()
        time.sleep(0.5)
        after = revoke_some(backend, 3)
        assert {event["session_id"] for event in stream.until(6)} == before | after
        began = time.monotonic()
        assert api.stop() in (0, -15)
        assert time.monotonic() - began < 6
    finally:
        api.stop()
