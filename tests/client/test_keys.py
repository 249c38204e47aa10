"""Signing keys that change under verifiers which cache them."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from app.client.errors import ServiceUnavailable, VerifierStale
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
        admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
        gone = await asyncio.to_thread(api.http.delete, f"/v1/admin/signing-keys/{_kid(token)}", headers=admin)
        assert gone.is_success
        await until(verifier, token, "invalid_token", 4.0)
        fresh = (await site.create())["access_token"]
        assert _kid(fresh) != _kid(token)
        assert await code(verifier, fresh) == "ok"


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
        for _ in range(100):
            await keys.found("forged")
        assert jwks.asked == 1 and not keys.wants("forged")
        eager = KeySet(http, 600.0, 0.0, lambda gone: None)
        await eager.found("k1")
        await eager.found("k2")
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
        keys = KeySet(http, 600.0, 0.0, told.append)
        jwks.keys = [a_key("k1"), a_key("k2")]
        await keys.fetch()
        jwks.keys = [a_key("k2"), a_key("k3")]
        await keys.fetch()
        assert set(keys.keys) == {"k2", "k3"} and told == [False, True]
        await keys.close()


async def test_keys_of_other_kinds_are_left_to_others() -> None:
    async with Jwks.serving() as (jwks, http):
        keys = KeySet(http, 600.0, 0.0, lambda gone: None)
        rsa = {"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"}
        jwks.keys = [rsa, a_key("enc", use="enc"), a_key("x", crv="X25519"), a_key("bad", x="AA"), a_key("good")]
        await keys.fetch()
        assert set(keys.keys) == {"good"}
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
        head = json.dumps({"alg": "EdDSA", "typ": "at+jwt", "kid": "x" * 43}).encode()
        unknown = urlsafe_b64encode(head).decode().rstrip("=") + token[token.index(".") :]
        with pytest.raises(VerifierStale):
            verifier.check(unknown)
        assert await code(verifier, unknown) == "invalid_token"
        assert verifier.check(token).user_id == "usr_1"
