"""The ring of signing keys over time, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.embedded import Embedded
from app.errors import SigningKeyNotFound
from app.keys import KeyRing, UnsealError
from app.model import DAY, HOUR, MINUTE
from app.runtime import now_ms
from app.store.registry import RedisRegistry
from app.store.wire import open_wire

SECRET = b"a secret of forty characters for testing"


@pytest.fixture
async def registry(own_server: Embedded) -> AsyncIterator[RedisRegistry]:
    wire = await open_wire(own_server.url, 5_000)
    yield RedisRegistry(wire)
    await wire.close()


async def states(ring: KeyRing, now: int) -> list[str]:
    return [str(key["state"]) for key in await ring.states(now)]


async def test_processes_that_start_together_agree_on_the_first_key(registry: RedisRegistry) -> None:
    rings, now = [KeyRing(registry, SECRET) for _ in range(20)], now_ms()
    signers = await asyncio.gather(*(ring.signer(now) for ring in rings))
    assert len({signer.kid for signer in signers}) == 1


async def test_the_next_key_is_published_before_it_signs_and_the_old_one_outlives_its_tokens(
    registry: RedisRegistry,
) -> None:
    ring, now = KeyRing(registry, SECRET), now_ms()
    first = (await ring.signer(now)).kid
    second = await ring.rotate(now)
    assert await ring.rotate(now) == second
    assert await states(ring, now) == ["next", "active"]
    assert (await ring.signer(now + 5 * MINUTE)).kid == first
    later = now + 6 * MINUTE
    assert (await ring.signer(later)).kid == second
    assert await states(ring, later) == ["active", "retired"]
    assert not await ring.rotate_if_due(later + DAY)
    assert await ring.rotate_if_due(later + DAY + 5 * MINUTE)
    assert [key["kid"] for key in (await ring.jwks(later + DAY + 6 * MINUTE))["keys"]] == [second]


async def test_a_key_of_fourteen_days_is_replaced(registry: RedisRegistry) -> None:
    ring, now = KeyRing(registry, SECRET), now_ms()
    await ring.signer(now)
    assert not await ring.rotate_if_due(now + 14 * DAY - 1)
    assert await ring.rotate_if_due(now + 14 * DAY)
    assert await states(ring, now + 14 * DAY) == ["next", "active"]


async def test_removal_is_known_everywhere_within_a_second(registry: RedisRegistry) -> None:
    ring, other, now = KeyRing(registry, SECRET), KeyRing(registry, SECRET), now_ms()
    first = str((await other.signer(now)).kid)
    await ring.remove(first, now)
    assert first not in await other.verifiers(now + 1_000)
    assert (await other.signer(now + 1_000)).kid != first
    with pytest.raises(SigningKeyNotFound):
        await ring.remove(first, now)


async def test_after_a_removal_the_next_key_signs_and_without_one_the_one_that_everybody_knows(
    registry: RedisRegistry,
) -> None:
    ring, now = KeyRing(registry, SECRET), now_ms()
    first = str((await ring.signer(now)).kid)
    second = await ring.rotate(now)
    later = now + HOUR
    assert (await ring.signer(later)).kid == second
    third = await ring.rotate(later)
    await ring.remove(second, later)
    assert (await ring.signer(later)).kid == third
    await ring.remove(third, later)
    assert (await ring.signer(later)).kid == first
    await ring.remove(first, later)
    assert (await ring.signer(later)).kid not in (first, second, third)


async def test_the_public_set_holds_public_members_only(registry: RedisRegistry) -> None:
    keys = (await KeyRing(registry, SECRET).jwks(now_ms()))["keys"]
    assert [set(key) for key in keys] == [{"kty", "crv", "x", "kid", "use", "alg"}]


async def test_another_secret_opens_nothing(registry: RedisRegistry) -> None:
    await KeyRing(registry, SECRET).signer(now_ms())
    with pytest.raises(UnsealError):
        await KeyRing(registry, b"another secret of forty characters here!").signer(now_ms())
