"""Signing keys that change under verifiers which cache them."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from app.client.errors import InvalidToken, ServiceUnavailable, VerifierStale
from app.client.freshness import clock
from app.client.jwks import KeySet
from app.embedded import Embedded
from app.keys import KeyRing
from app.runtime import now_ms
from app.store.registry import RedisRegistry
from app.store.wire import open_wire
from tests.client.acts import Site, code, until
from tests.service import ADMIN_KEY, SECRET, Api


@pytest.fixture
def api(own_server: Embedded) -> Iterator[Api]:
    process = Api(own_server.url)
    yield process
    process.stop()


@pytest.fixture
def site(api: Api) -> Site:
    return Site(api, None)


class Rotation:
    """The service's own ring of keys, in which the test moves the day of the next one closer."""

    def __init__(self, registry: RedisRegistry) -> None:
        self._registry = registry
        self._ring = KeyRing(registry, SECRET.encode())

    @classmethod
    @asynccontextmanager
    async def of(cls, redis_url: str) -> AsyncIterator[Rotation]:
        wire = await open_wire(redis_url, 5_000)
        try:
            yield cls(RedisRegistry(wire))
        finally:
            await wire.close()

    async def publish(self, lead_ms: int) -> None:
        """Publish a key that signs so soon."""
        now = now_ms()
        await self._ring.rotate(now)
        sealed = sorted(await self._registry.signing_keys(), key=lambda key: key.sign_from)
        sealed[-1] = replace(sealed[-1], sign_from=now + lead_ms)
        assert await self._registry.put_signing_keys(sealed, frozenset(key.kid for key in sealed))


def _kid(token: str) -> str:
    head = token.partition(".")[0]
    return str(json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"])


@pytest.mark.slow
async def test_keys_that_rotate_every_two_seconds_fail_no_verification(site: Site, own_server: Embedded) -> None:
    """The next key is published before it signs, for longer than a cache is old; retired ones stay."""
    kids: set[str] = set()
    async with Rotation.of(own_server.url) as rotation, site.verifier(jwks_max_age=1.0) as verifier:
        tokens: list[str] = []
        for _ in range(4):
            await rotation.publish(2_500)
            end = asyncio.get_running_loop().time() + 2.6
            while asyncio.get_running_loop().time() < end:
                token = (await site.create())["access_token"]
                tokens.append(token)
                kids.add(_kid(token))
                assert verifier.check(token) == await verifier.verify(token)
        assert {await code(verifier, token) for token in tokens} == {"ok"}
    assert len(kids) >= 4


async def test_a_removed_key_is_refused_at_the_next_fetch_also_for_cached_tokens(site: Site, api: Api) -> None:
    token = (await site.create())["access_token"]
    async with site.verifier(jwks_max_age=1.0, jwks_cooldown=0.0) as verifier:
        assert await verifier.verify(token) is await verifier.verify(token)
        await remove(api, _kid(token))
        await until(verifier, token, "invalid_token", 4.0)
        fresh = (await site.create())["access_token"]
        assert _kid(fresh) != _kid(token)
        assert await code(verifier, fresh) == "ok"


@pytest.fixture(params=["http", "redis"])
def follower(request: pytest.FixtureRequest, api: Api, own_server: Embedded) -> Site:
    """Its verifiers believe a set of keys for ten minutes and follow over HTTP or in Redis."""
    return Site(api, own_server.url if request.param == "redis" else None)


async def test_a_removed_key_is_refused_with_the_next_heartbeat_also_for_cached_tokens(
    follower: Site, api: Api
) -> None:
    token = (await follower.create())["access_token"]
    async with follower.verifier() as verifier, follower.verifier(on_stale="allow") as allowing:
        assert [await code(one, token) for one in (verifier, allowing)] == ["ok", "ok"]
        await remove(api, _kid(token))
        took = max(await asyncio.gather(*(until(one, token, "invalid_token", 5.0) for one in (verifier, allowing))))
        assert took < 3.5
        with pytest.raises(InvalidToken):
            verifier.check(token)


async def test_a_key_that_signs_before_anyone_has_heard_of_it_costs_nobody_a_sign_in(follower: Site, api: Api) -> None:
    """The service has one key; it is removed, and the one made in its place signs at once. No set may be fetched anew
    for half a minute yet."""
    token = (await follower.create())["access_token"]
    async with (
        follower.verifier() as asking,
        follower.verifier(on_stale="refuse") as refusing,
        follower.verifier(on_stale="allow") as allowing,
    ):
        verifiers = [asking, refusing, allowing]
        assert [await code(one, token) for one in verifiers] == ["ok", "ok", "ok"]
        await remove(api, _kid(token))
        fresh = (await follower.create())["access_token"]
        assert _kid(fresh) != _kid(token)
        assert await code(asking, fresh) == "ok"
        verdicts: list[set[str]] = [set(), set(), set()]
        end = asyncio.get_running_loop().time() + 6.0
        while asyncio.get_running_loop().time() < end and not all("ok" in seen for seen in verdicts):
            for one, seen in zip(verifiers, verdicts, strict=True):
                seen.add(await code(one, fresh))
            await asyncio.sleep(0.01)
        assert all({"ok"} <= seen <= {"ok", "verifier_stale"} for seen in verdicts)


async def test_who_invents_keys_is_answered_by_nobody_but_once(site: Site) -> None:
    """Each token names another key that no one has heard of."""
    token = (await site.create())["access_token"]
    forged = [_under(f"{number:043}", token) for number in range(200)]
    async with site.verifier() as verifier, site.verifier(on_stale="allow") as allowing:
        before = await _answered(site, "verifySession"), await _answered(site, "getJwks")
        verdicts = Counter([await code(verifier, text) for text in forged])
        assert verdicts == {"invalid_token": 1, "verifier_stale": 199}
        assert {await code(allowing, text) for text in forged} == {"verifier_stale"}
        after = await _answered(site, "verifySession"), await _answered(site, "getJwks")
        assert (after[0] - before[0], after[1] - before[1]) == (1, 0)
        await until(verifier, forged[-1], "invalid_token", 5.0)  # the next heartbeat refutes what came before it
        assert {await code(verifier, text) for text in forged} == {"invalid_token"}
        assert await _answered(site, "getJwks") == after[1]
        assert await code(verifier, token) == "ok"


async def test_each_process_of_the_service_knows_a_key_that_another_has_just_made(
    site: Site, api: Api, own_server: Embedded
) -> None:
    other = Api(own_server.url)
    try:
        old = await site.create()
        backend = site.backend
        assert backend.verify(old["access_token"], other)["valid"]
        await remove(api, _kid(old["access_token"]))
        fresh = (await site.create())["access_token"]
        assert backend.verify(fresh, other)["valid"]
        assert not backend.verify(old["access_token"], other)["valid"]
        names = other.http.get("/.well-known/jwks.json", headers={"Cache-Control": "no-cache"}).json()["keys"]
        assert [key["kid"] for key in names] == [_kid(fresh)]
    finally:
        other.stop()


async def remove(api: Api, kid: str) -> None:
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    gone = await asyncio.to_thread(api.http.delete, f"/v1/admin/signing-keys/{kid}", headers=admin)
    assert gone.is_success


def _under(kid: str, token: str) -> str:
    """The token with another key named in its header."""
    head = json.dumps({"alg": "EdDSA", "typ": "at+jwt", "kid": kid}).encode()
    return urlsafe_b64encode(head).decode().rstrip("=") + token[token.index(".") :]


async def _answered(site: Site, operation: str) -> float:
    """How many calls of it the service has answered."""
    text = (await asyncio.to_thread(site.api.http.get, "/metrics")).text
    lines = [line for line in text.splitlines() if f'operation="{operation}"' in line and "_count" in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


class Jwks:
    """A small real server that says what it likes, and counts how often it is asked."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.status, self.asked, self.headers = 200, 0, ""
        self.hold = asyncio.Event()
        self.hold.set()

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncIterator[tuple[Jwks, httpx.AsyncClient]]:
        jwks = cls()
        server = await asyncio.start_server(jwks._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            yield jwks, http

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        await self.hold.wait()
        body = json.dumps({"keys": self.keys}).encode()
        head = f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{self.headers}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()


def a_key(kid: str, **more: Any) -> dict[str, Any]:
    x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA", **more}


async def test_a_hundred_who_need_an_unknown_key_fetch_once_and_then_not_before_the_cooldown() -> None:
    async with Jwks.serving() as (jwks, http):
        keys = KeySet(http, 600.0, 30.0, lambda gone: None)
        jwks.keys = [a_key("k1")]
        jwks.hold.clear()
        asking = [asyncio.create_task(keys.found("k1")) for _ in range(100)]
        await asyncio.sleep(0.05)
        jwks.hold.set()
        await asyncio.gather(*asking)
        assert (jwks.asked, set(keys.keys)) == (1, {"k1"})
        assert {await keys.found(f"forged {number}") for number in range(100)} == {None}
        assert jwks.asked == 1 and not keys.refutes("forged 0")
        eager = KeySet(http, 600.0, 0.0, lambda gone: None)
        assert (await eager.found("k1"), await eager.found("k2")) == (True, False)
        assert jwks.asked == 3
        await keys.close()
        await eager.close()


async def test_a_fetch_that_fails_keeps_the_keys_and_is_not_repeated_at_once() -> None:
    async with Jwks.serving() as (jwks, http):
        told: list[bool] = []
        keys = KeySet(http, 600.0, 0.0, told.append)
        jwks.keys = [a_key("k1"), a_key("k2")]
        await keys.fetch()
        jwks.status = 503
        with pytest.raises(ServiceUnavailable):
            await keys.fetch()
        with pytest.raises(ServiceUnavailable):
            await keys.found("k3")
        assert jwks.asked == 2 and set(keys.keys) == {"k1", "k2"} and told == [False]
        await keys.close()


async def test_a_key_that_is_no_longer_published_is_gone_and_that_is_told() -> None:
    async with Jwks.serving() as (jwks, http):
        told: list[bool] = []
        keys = KeySet(http, 600.0, 30.0, told.append)
        jwks.keys = [a_key("k1"), a_key("k2")]
        await keys.fetch()
        jwks.keys = [a_key("k2"), a_key("k3")]
        await keys.fetch()
        assert set(keys.keys) == {"k2", "k3"} and told == [False, True]
        assert await keys.found("k1") is False
        await keys.close()


async def test_a_key_is_refuted_by_a_list_that_is_no_older_than_the_first_token_that_names_it() -> None:
    async with Jwks.serving() as (jwks, http):
        keys = KeySet(http, 600.0, 30.0, lambda gone: None)
        jwks.keys = [a_key("k1")]
        await keys.fetch()
        before = clock()
        assert await keys.found("new") is None
        keys.listed(frozenset({"k1"}), before)
        assert await keys.found("new") is None and not keys.refutes("new")
        keys.listed(frozenset({"k1"}), clock())
        assert await keys.found("new") is False and keys.refutes("new")
        assert await keys.found("newer") is None and jwks.asked == 1
        await keys.close()


async def test_of_keys_that_nobody_knows_only_so_many_are_remembered_and_none_that_is_forgotten_is_refuted() -> None:
    async with Jwks.serving() as (_, http):
        keys = KeySet(http, 600.0, 30.0, lambda gone: None)
        await keys.fetch()
        for number in range(3_000):
            assert await keys.found(f"invented {number}") is None
        keys.listed(frozenset({"k1"}), clock())
        assert await keys.found("invented 2999") is False
        assert await keys.found("invented 0") is None
        assert len(keys._strangers._since) == 1_000
        await keys.close()


async def test_a_key_that_is_no_longer_listed_comes_back_by_a_newer_list_only() -> None:
    """An older set may lie in a cache on the way, or with a process that is behind."""
    async with Jwks.serving() as (jwks, http):
        told: list[bool] = []
        keys = KeySet(http, 600.0, 0.0, told.append)
        jwks.keys = [a_key("k1"), a_key("k2")]
        before = clock()
        await keys.fetch()
        keys.listed(frozenset({"k2"}), before)
        assert set(keys.keys) == {"k1", "k2"}
        keys.listed(frozenset({"k2"}), clock())
        assert set(keys.keys) == {"k2"} and await keys.found("k1") is False
        await keys.fetch()
        assert set(keys.keys) == {"k2"} and told == [False, True, False] and jwks.asked == 2
        keys.listed(frozenset({"k1", "k2"}), clock())
        assert set(keys.keys) == {"k1", "k2"} and jwks.asked == 2
        await keys.close()


async def test_a_key_that_is_listed_is_fetched_soon_and_asked_for_less_and_less_often() -> None:
    async with Jwks.serving() as (jwks, http):
        keys = KeySet(http, 600.0, 30.0, lambda gone: None)
        jwks.keys = [a_key("k1")]
        await keys.fetch()
        for _ in range(20):
            keys.listed(frozenset({"k1", "k2"}), clock())
            assert await keys.found("k2") is None or jwks.asked > 1
        for _ in range(45):
            await asyncio.sleep(0.1)
            keys.listed(frozenset({"k1", "k2"}), clock())
        assert 3 <= jwks.asked <= 5
        jwks.keys.append(a_key("k2"))
        await asyncio.sleep(1.0)
        assert await keys.found("k2") is True
        asked = jwks.asked
        await asyncio.sleep(1.5)
        assert jwks.asked == asked
        await keys.close()


async def test_a_key_that_the_service_has_vouched_for_is_fetched_at_once() -> None:
    async with Jwks.serving() as (jwks, http):
        keys = KeySet(http, 600.0, 30.0, lambda gone: None)
        jwks.keys = [a_key("k1")]
        await keys.fetch()
        jwks.keys.append(a_key("k2"))
        assert await keys.found("k2") is None and keys.may_ask() and not keys.may_ask()
        keys.expect("k2")
        await asyncio.sleep(0.2)
        assert set(keys.keys) == {"k1", "k2"} and jwks.asked == 2
        await keys.close()


async def test_keys_of_other_kinds_are_left_to_others() -> None:
    async with Jwks.serving() as (jwks, http):
        keys = KeySet(http, 600.0, 0.0, lambda gone: None)
        rsa = {"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"}
        jwks.keys = [rsa, a_key("enc", use="enc"), a_key("x", crv="X25519"), a_key("bad", x="AA"), a_key("good")]
        await keys.fetch()
        assert set(keys.keys) == {"good"}
        await keys.close()


async def test_keys_that_are_fresh_are_not_fetched_again() -> None:
    async with Jwks.serving() as (jwks, http):
        keys = KeySet(http, 600.0, 30.0, lambda gone: None)
        keeping = asyncio.create_task(keys.keep_fresh())
        await keys.fetch()
        await asyncio.sleep(1.5)
        assert jwks.asked == 1
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await keys.close()


async def test_the_service_may_shorten_the_age_of_its_keys() -> None:
    async with Jwks.serving() as (jwks, http):
        keys = KeySet(http, 600.0, 30.0, lambda gone: None)
        jwks.headers = "cache-control: public, max-age=1\r\n"
        jwks.keys = [a_key("k1")]
        await keys.fetch()
        keeping = asyncio.create_task(keys.keep_fresh())
        jwks.keys = [a_key("k2")]
        for _ in range(300):
            if "k2" in keys.keys:
                break
            await asyncio.sleep(0.01)
        assert set(keys.keys) == {"k2"}
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await keys.close()


async def test_memory_alone_does_not_refuse_a_key_that_only_a_fetch_can_know(site: Site) -> None:
    token = (await site.create())["access_token"]
    async with site.verifier(jwks_cooldown=0.0) as verifier:
        unknown = _under("x" * 43, token)
        with pytest.raises(VerifierStale):
            verifier.check(unknown)
        assert await code(verifier, unknown) == "invalid_token"
        assert verifier.check(token).user_id == "usr_1"
