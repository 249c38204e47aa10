"""Genuine tokens are remembered; verdicts are not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.embedded import Embedded
from app.errors import InvalidToken, TokenExpired
from app.genuine import Genuine
from app.keys import KeyRing
from app.model import HOUR, MINUTE, PROPAGATION_MS, SECOND
from app.runtime import now_ms
from app.store.registry import RedisRegistry
from app.store.wire import open_wire
from app.tokens import AccessTokens
from tests.builders import a_session, a_tenant

SECRET = b"a secret of forty characters for testing"
TENANT = a_tenant()


@pytest.fixture
async def ring(own_server: Embedded) -> AsyncIterator[KeyRing]:
    wire = await open_wire(own_server.url, 5_000)
    yield KeyRing(RedisRegistry(wire), SECRET)
    await wire.close()


async def seen(tokens: AccessTokens, now: int) -> str:
    """A token that `tokens` has verified, and so remembers."""
    token, _ = await tokens.mint(a_session(TENANT, now), HOUR, now)
    first, again = await tokens.read(token, now, TENANT), await tokens.read(token, now, TENANT)
    assert first == again and first["iat"] == now // SECOND
    return token


async def test_a_remembered_token_is_still_only_for_its_audience(ring: KeyRing) -> None:
    tokens, now = AccessTokens(ring, "https://sessions.example"), now_ms()
    token = await seen(tokens, now)
    with pytest.raises(InvalidToken):
        await tokens.read(token, now, a_tenant())


async def test_a_remembered_token_expires_to_the_second(ring: KeyRing) -> None:
    tokens, now = AccessTokens(ring, "https://sessions.example"), now_ms()
    token = await seen(tokens, now)
    expires = (now // SECOND) * SECOND + HOUR
    assert (await tokens.read(token, expires - 1, TENANT))["tenant_id"] == TENANT
    with pytest.raises(TokenExpired):
        await tokens.read(token, expires, TENANT)


async def test_a_remembered_token_is_of_the_future_again_when_the_clock_goes_back(ring: KeyRing) -> None:
    tokens, now = AccessTokens(ring, "https://sessions.example"), now_ms()
    token = await seen(tokens, now)
    assert await tokens.read(token, now - 4 * SECOND, TENANT)
    with pytest.raises(InvalidToken):
        await tokens.read(token, now - MINUTE, TENANT)


async def test_a_remembered_token_falls_with_its_key(ring: KeyRing) -> None:
    tokens, now = AccessTokens(ring, "https://sessions.example"), now_ms()
    token = await seen(tokens, now)
    await ring.remove(str((await ring.signer(now)).kid), now)
    with pytest.raises(InvalidToken):
        await tokens.read(token, now + PROPAGATION_MS, TENANT)


async def test_a_damaged_token_is_not_taken_for_the_remembered_one(ring: KeyRing) -> None:
    tokens, now = AccessTokens(ring, "https://sessions.example"), now_ms()
    token = await seen(tokens, now)
    for place in (5, len(token) // 2, len(token) - 5):
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(InvalidToken):
            await tokens.read(token[:place] + other + token[place + 1 :], now, TENANT)


async def test_the_ring_is_the_same_object_until_a_key_comes_or_goes(ring: KeyRing) -> None:
    now = now_ms()
    before = await ring.verifiers(now)
    assert await ring.verifiers(now + MINUTE) is before
    await ring.rotate(now + MINUTE)
    assert (await ring.verifiers(now + 2 * MINUTE)).keys() > before.keys()


def test_another_ring_forgets_everything() -> None:
    genuine, ring = Genuine(), {"a": 1}
    genuine.knows("t", ring)
    genuine.note("t")
    assert genuine.knows("t", ring)
    assert not genuine.knows("t", {"a": 1})
    assert not genuine.knows("t", ring)


def test_what_is_shown_often_outlives_what_is_not_and_the_number_is_bounded() -> None:
    genuine, ring = Genuine(most=100), {"a": 1}
    assert not genuine.knows("often", ring)
    genuine.note("often")
    for number in range(1_000):
        assert genuine.knows("often", ring)
        genuine.note(f"once {number}")
    known = sum(genuine.knows(f"once {number}", ring) for number in range(1_000))
    assert 0 < known <= 200
