"""A refresh and a bulk revoke that a backend may repeat under an `Idempotency-Key`: they happen once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.embedded import Embedded
from app.errors import Conflict, SessionNotFound, StoreUnavailable
from app.model import HOUR, SECOND, new_id
from app.replays import Replays
from app.store.replays import ReplayStore
from app.store.wire import Wire, open_wire
from tests.api.world import World, a_world, bearer
from tests.servers import command

REFRESH, REVOKE = "/v1/sessions/refresh", "/v1/sessions/revoke"


@pytest.fixture
async def world(own_server: Any) -> AsyncIterator[World]:
    async with a_world(own_server.url) as found:
        yield found


@pytest.fixture
async def wire(world: World) -> AsyncIterator[Wire]:
    found = await open_wire(world.runtime.settings.redis_url, 2_000)
    yield found
    await found.close()


async def ask(world: World, path: str, named: str, key: str | None = None, **json: Any) -> httpx.Response:
    """As the first backend, unless `key` says whose."""
    signed = world.credentials[0].sent if key is None else bearer(key)
    return await world.http.post(path, json=json, headers={**signed, "Idempotency-Key": named})


async def test_a_repeated_refresh_gets_the_first_answer_and_is_no_theft(world: World) -> None:
    token = (await world.session("own")).refresh_token
    first = await ask(world, REFRESH, "k", refresh_token=token)
    assert first.status_code == 200, first.text
    successor = first.json()["refresh_token"]
    for _ in range(2):  # the successor is used, and its successor too: without the key this would be a reuse
        successor = (await ask(world, REFRESH, new_id("k"), refresh_token=successor)).json()["refresh_token"]
    again = await ask(world, REFRESH, "k", refresh_token=token)
    assert (again.status_code, again.content) == (200, first.content)
    assert (await world.http.post(REFRESH, json={"refresh_token": successor})).status_code == 200


async def test_a_repeated_revoke_spares_who_has_signed_in_since(world: World) -> None:
    old = await world.session("own")
    first = await ask(world, REVOKE, "k", user_id="u1")
    assert old.session.id in first.json()["session_ids"]
    new = await world.session("own")
    again = await ask(world, REVOKE, "k", user_id="u1")
    assert (again.status_code, again.content) == (200, first.content)
    assert (await world.runtime.sessions.verify(world.own, world.now, session_id=new.session.id)).valid
    assert (await ask(world, REVOKE, "another", user_id="u1")).json()["session_ids"] == [new.session.id]


async def test_a_name_belongs_to_one_request_of_one_key_to_one_operation(world: World) -> None:
    _, other = await world.key(world.own)
    _, foreign = await world.key(world.foreign)
    one, two = (await world.session("own")).refresh_token, (await world.session("own")).refresh_token
    assert (await ask(world, REFRESH, "k", refresh_token=one)).status_code == 200
    refused = await ask(world, REFRESH, "k", refresh_token=two)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    for key in (other, foreign):
        assert (await ask(world, REFRESH, "k", key, refresh_token="rt_x")).json()["code"] == "refresh_token_invalid"
    assert (await ask(world, REVOKE, "k", user_id="u8")).status_code == 200
    for bad in ("", "x" * 256, "a b"):
        assert (await ask(world, REVOKE, bad, user_id="u8")).json()["code"] == "malformed_request"


async def test_a_repeat_may_be_written_in_another_way(world: World) -> None:
    """Proxies and JSON libraries change white space and the order of members."""
    headers = {**world.credentials[0].sent, "Idempotency-Key": "k", "Content-Type": "application/json"}
    await world.session("own")
    bodies = (b'{"user_id":"u1","reason":"admin"}', b'{ "reason": "admin", "user_id": "u1" }')
    answers = [await world.http.post(REVOKE, content=body, headers=headers) for body in bodies]
    assert [answer.status_code for answer in answers] == [200, 200], [answer.text for answer in answers]
    assert answers[0].json()["session_ids"] and answers[0].content == answers[1].content


async def test_what_was_refused_is_not_remembered(world: World) -> None:
    missing = await ask(world, REFRESH, "k", refresh_token="rt_" + "A" * 200)
    assert missing.json()["code"] == "refresh_token_invalid"
    token = (await world.session("own")).refresh_token
    assert (await ask(world, REFRESH, "k", refresh_token=token)).status_code == 200


async def test_who_sends_no_api_key_has_the_refresh_protocol_alone(world: World, wire: Wire) -> None:
    token = (await world.session("own")).refresh_token
    named = {"Idempotency-Key": "k"}
    answers = [await world.http.post(REFRESH, json={"refresh_token": token}, headers=named) for _ in range(2)]
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert [page async for page in wire.scan("hj:replay:*")] == []


async def test_answers_lie_sealed_and_not_for_long(world: World, wire: Wire) -> None:
    token = (await world.session("own")).refresh_token
    answer = (await ask(world, REFRESH, "a-telling-name", refresh_token=token)).json()
    [[key]] = [page async for page in wire.scan("hj:replay:*")]
    kept = await wire.call(key.decode(), "GET", key)
    for told in (answer["refresh_token"], answer["access_token"], answer["session"]["id"], "a-telling-name", token):
        assert told is not None and told.encode() not in key + kept
    assert 0 < await wire.call(key.decode(), "PTTL", key) <= HOUR


async def test_a_repeat_that_meets_the_first_is_told_so(wire: Wire) -> None:
    replays, begun, go = Replays(ReplayStore(wire), bytes(32)), asyncio.Event(), asyncio.Event()

    async def act() -> bytes:
        begun.set()
        await go.wait()
        return b"done"

    scope = (new_id("tnt"), "k")
    first = asyncio.create_task(replays.once(scope, (b"{}",), HOUR, act))
    await begun.wait()
    with pytest.raises(Conflict):
        await replays.once(scope, (b"{}",), HOUR, act)
    go.set()
    assert await first == await replays.once(scope, (b"{}",), HOUR, act) == b"done"


async def test_a_full_memory_keeps_nobody_from_ending_or_refreshing(world: World, own_server: Embedded) -> None:
    token = (await world.session("own")).refresh_token
    command(own_server, "CONFIG", "SET", "maxmemory", "1")
    refreshed = [await ask(world, REFRESH, "r", refresh_token=token) for _ in range(2)]
    assert [answer.status_code for answer in refreshed] == [200, 200]
    assert refreshed[0].content == refreshed[1].content
    revoked = [await ask(world, REVOKE, "k", user_id="u1") for _ in range(2)]
    assert [answer.status_code for answer in revoked] == [200, 200]
    assert revoked[0].json()["session_ids"] and revoked[0].content == revoked[1].content


@pytest.mark.parametrize("error", [StoreUnavailable, SessionNotFound, RuntimeError, asyncio.CancelledError])
async def test_a_call_that_broke_off_may_be_made_again(wire: Wire, error: type[BaseException]) -> None:
    """At once where it was refused; after the claim has lapsed where the process died or failed."""
    replays, scope = Replays(ReplayStore(wire), bytes(32)), (new_id("tnt"), "k")

    async def fail() -> bytes:
        raise error

    async def act() -> bytes:
        return b"done"

    with pytest.raises(error):
        await replays.once(scope, (b"{}",), HOUR, fail)
    if error in (RuntimeError, asyncio.CancelledError):
        [[key]] = [page async for page in wire.scan("hj:replay:*")]
        assert 0 < await wire.call(key.decode(), "PTTL", key) <= 10 * SECOND
        await wire.call(key.decode(), "DEL", key)
    assert await replays.once(scope, (b"{}",), HOUR, act) == b"done"


async def test_answers_outlive_the_replacement_of_the_secret_and_no_other_secret_opens_them(wire: Wire) -> None:
    scope, old, new = (new_id("tnt"), "k"), b"o" * 32, b"n" * 32

    async def act() -> bytes:
        return b"first"

    async def other() -> bytes:
        raise AssertionError("it has happened already")

    await Replays(ReplayStore(wire), old).once(scope, (b"{}",), HOUR, act)
    assert await Replays(ReplayStore(wire), new, old).once(scope, (b"{}",), HOUR, other) == b"first"
    with pytest.raises(Conflict):
        await Replays(ReplayStore(wire), new).once(scope, (b"{}",), HOUR, other)
