"""User ids of any Unicode, byte for byte, through every call, the events, both clients and the repair."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import redis

from app.client.events import channel
from app.client.verifier import Verifier
from tests.client.probe import ISSUER, Probe, install
from tests.service import ADMIN_KEY, Api, Backend

JSON = {"Content-Type": "application/json"}
IDS = [
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 family",
    "\u202eevil\u202c \u05d0\u05d1",
    "\ufeffbom\u2028line\u2029",
    unicodedata.normalize("NFC", "Zoe\u0308"),
    unicodedata.normalize("NFD", "Zoe\u0308"),
    "\U0001f600" * 255,
    "\u00e9" * 128,
    "\\" * 255,
    " both ends ",
    " ",
    "../..",
    "%2F",
    "a/b//c/claims",
    "/",
    "x}:session:y{",
    "*[a-z]?",
    "a?b=c#d&e+f g%20",
    "\"quote\" 'n' <b>&amp;",
    "null",
    "\ufffd",
]


@pytest.fixture(scope="module")
def api(valkey_url: str) -> Iterator[Api]:
    process = Api(valkey_url)
    yield process
    process.stop()


@pytest.fixture(scope="module")
def acme(api: Api) -> Backend:
    return api.tenant()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("js"))


def good(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def lines_of(stream: httpx.Response) -> Iterator[bytes]:
    """Cut at line feeds alone: httpx also cuts where Unicode has separators of lines."""
    rest = b""
    for chunk in stream.iter_raw():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def users_of(acme: Backend, user_id: str) -> list[str]:
    listed = good(acme.call("GET", "/v1/sessions", params={"user_id": user_id, "status": "all", "limit": 2}))
    assert {session["user_id"] for session in listed["data"]} <= {user_id}
    return [session["id"] for session in listed["data"]]


@pytest.mark.parametrize("user_id", IDS, ids=range(len(IDS)))
def test_an_id_comes_back_from_every_call(acme: Backend, user_id: str) -> None:
    made = acme.create(user_id)
    again = good(acme.refresh(made["refresh_token"]))
    session_id = made["session"]["id"]
    assert made["session"]["user_id"] == again["session"]["user_id"] == user_id
    assert good(acme.refresh(made["refresh_token"]))["refresh_token"] == again["refresh_token"]
    assert good(acme.refresh(again["refresh_token"]))["session"]["user_id"] == user_id
    verdict = acme.verify(again["access_token"])
    assert (verdict["payload"]["sub"], verdict["session"]["user_id"]) == (user_id, user_id)
    assert users_of(acme, user_id) == [session_id]
    other = acme.create(user_id)["session"]["id"]
    assert users_of(acme, user_id) == [other, session_id]
    page = good(acme.call("GET", "/v1/sessions", params={"user_id": user_id, "limit": 1}))
    more = {"user_id": user_id, "limit": 1, "cursor": page["pagination"]["next_cursor"]}
    assert [session["id"] for session in good(acme.call("GET", "/v1/sessions", params=more))["data"]] == [session_id]
    path = f"/v1/users/{quote(user_id, safe='')}/claims"
    changed = good(acme.call("POST", path, json={"role": "r"}))
    assert sorted(changed["session_ids"]) == sorted([session_id, other])
    operator = {"Authorization": f"Bearer {ADMIN_KEY}", "X-Tenant-ID": acme.tenant_id}
    assert good(acme.api.http.post(path, json={"role": "s"}, headers=operator))["updated"] == 2
    mine = {"Authorization": f"Bearer {again['access_token']}"}
    assert good(acme.api.http.get("/v1/me/sessions", headers=mine))["data"][0]["user_id"] == user_id
    assert good(acme.call("GET", f"/v1/sessions/{session_id}/timeline"))["data"]
    ended = good(acme.call("POST", "/v1/sessions/revoke", json={"user_id": user_id, "except_session_id": other}))
    assert ended["session_ids"] == [session_id]
    assert good(acme.call("POST", "/v1/sessions/revoke", json={"user_id": user_id}))["session_ids"] == [other]
    targets = [entry["target"] for entry in good(acme.call("GET", "/v1/admin/audit", params={"limit": 10}))["data"]]
    assert user_id in targets


def test_events_carry_the_id(api: Api, valkey_url: str) -> None:
    acme = api.tenant()
    begun = good(acme.call("GET", "/v1/events"))
    while begun["pagination"]["has_more"]:
        begun = good(acme.call("GET", "/v1/events", params={"after": begun["pagination"]["next_cursor"]}))
    wanted = []
    with redis.Redis.from_url(valkey_url).pubsub(ignore_subscribe_messages=True) as bell:  # type: ignore[no-untyped-call]
        bell.subscribe(channel(acme.tenant_id))
        bell.get_message(timeout=5)
        for user_id in IDS:
            wanted.append((user_id, acme.create(user_id)["session"]["id"]))
            acme.call("POST", "/v1/sessions/revoke", json={"user_id": user_id})
        rung = [json.loads(message["data"]) for _ in IDS if (message := bell.get_message(timeout=5))]
    assert [(event["user_id"], event["session_id"]) for event in rung] == wanted
    streamed, since = [], {"Last-Event-ID": begun["pagination"]["next_cursor"], "Accept": "text/event-stream"}
    own = {"Authorization": f"Bearer {acme.key}"}
    with acme.api.http.stream("GET", "/v1/events", headers={**own, **since}) as stream:
        for line in lines_of(stream):
            if line.startswith(b"data:") and b"session.revoked" in line:
                event = json.loads(line[5:])
                streamed.append((event["user_id"], event["session_id"]))
            if len(streamed) == len(wanted):
                break
    assert sorted(streamed) == sorted(wanted)
    found: list[tuple[str, str]] = []
    cursor, more = begun["pagination"]["next_cursor"], True
    while more or len(found) < len(wanted):
        page = good(acme.call("GET", "/v1/events", params={"after": cursor, "limit": 100}))
        found += [(event["user_id"], event["session_id"]) for event in page["data"]]
        cursor, more = page["pagination"]["next_cursor"], page["pagination"]["has_more"]
    assert sorted(found) == sorted(wanted)


async def test_both_clients_read_the_id_and_hear_of_its_end(acme: Backend, installed: Path) -> None:
    made = [acme.create(user_id, claims={"more": "x" * 900}) for user_id in IDS]
    tokens = [one["access_token"] for one in made]
    probe = Probe(installed, acme)
    try:
        probe.ready()
        probe.send("verify", tokens=tokens)
        assert [one["claims"]["sub"] for one in probe.answer()] == IDS
    finally:
        probe.stop()
    options: Any = {"url": acme.api.url, "tenant_id": acme.tenant_id, "api_key": acme.key, "issuer": ISSUER}
    async with Verifier(**options) as verifier:
        assert [(await verifier.verify(token)).user_id for token in tokens] == IDS


@pytest.mark.parametrize(
    "user_id",
    ["", "a" * 256, "a\n", "\n", "a\tb", "\x7f", "\x85", "\ufdd0", "\uffff", "\U0001fffe", "\U0010ffff", None, 1],
    ids=ascii,
)
def test_other_ids_are_refused(acme: Backend, user_id: object) -> None:
    answer = acme.call("POST", "/v1/sessions", content=json.dumps({"user_id": user_id}), headers=JSON)
    assert (answer.status_code, answer.json()["field"]) == (422, "user_id"), answer.text


@pytest.mark.parametrize("raw", [b'{"user_id": "\\ud800"}', b'{"user_id": "a\\udc00b"}', b'{"user_id": "\xff"}'])
def test_an_id_that_is_no_unicode_is_refused(acme: Backend, raw: bytes) -> None:
    assert acme.call("POST", "/v1/sessions", content=raw, headers=JSON).status_code in (400, 422)


@pytest.mark.parametrize("path", ["%FF", "%ED%A0%80", "a%C3", "%00", "%0A"])
def test_a_path_that_is_no_unicode_names_no_user(acme: Backend, path: str) -> None:
    assert acme.call("POST", f"/v1/users/{path}/claims", json={"role": "r"}).status_code == 400
