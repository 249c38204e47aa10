"""The ring of signing keys over time, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from app.embedded import Embedded
from app.errors import SigningKeyNotFound
from app.keys import KeyRing, UnsealError
from app.model import DAY, HOUR, MINUTE, SealedKey
from app.runtime import now_ms
from app.store.registry import RedisRegistry
from app.store.wire import Wire, open_wire

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


class Held(RedisRegistry):
    """The registry on a connection whose answers wait on their way."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self.arrive = asyncio.Event()
        self.arrive.set()
        self.reads = 0
        self.before_put: Callable[[], Awaitable[None]] | None = None

    async def put_signing_keys(self, keys: list[SealedKey], seen: frozenset[str]) -> bool:
        if self.before_put is not None:
            await self.before_put()
        return await super().put_signing_keys(keys, seen)

    async def signing_keys(self) -> list[SealedKey]:
        self.reads += 1
        found = await super().signing_keys()
        await self.arrive.wait()
        return found


@pytest.fixture
async def held(own_server: Embedded) -> AsyncIterator[Held]:
    wire = await open_wire(own_server.url, 5_000)
    yield Held(wire)
    await wire.close()


async def test_who_must_have_the_keys_as_they_are_now_has_them(held: Held, registry: RedisRegistry) -> None:
    ring, other, now = KeyRing(held, SECRET), KeyRing(registry, SECRET), now_ms()
    first = str((await ring.signer(now)).kid)
    await other.remove(first, now)
    assert first in await ring.verifiers(now)
    (second,) = await ring.kids(now)
    assert second != first and set(await ring.verifiers(now)) == {second}
    third = await other.rotate(now)
    assert set(await ring.verifiers(now, fresh=True)) == {second, third}
    await other.remove(third, now)
    assert [key["kid"] for key in (await ring.jwks(now, fresh=True))["keys"]] == [second]


async def test_a_hundred_who_must_have_them_share_two_reads_of_which_none_began_before_they_asked(
    held: Held, registry: RedisRegistry
) -> None:
    ring, other, now = KeyRing(held, SECRET), KeyRing(registry, SECRET), now_ms()
    first = str((await ring.signer(now)).kid)
    held.arrive.clear()
    begun = held.reads
    early = asyncio.create_task(ring.kids(now))
    await asyncio.sleep(0.1)  # what it will be told is on its way
    await other.remove(first, now)
    late = [asyncio.create_task(ring.kids(now)) for _ in range(100)]
    await asyncio.sleep(0.1)
    held.arrive.set()
    assert await early == [first]
    assert first not in {kid for kids in await asyncio.gather(*late) for kid in kids}
    assert held.reads == begun + 2


async def test_what_was_on_its_way_when_a_key_was_removed_brings_it_not_back(held: Held) -> None:
    ring, now = KeyRing(held, SECRET), now_ms()
    first = str((await ring.signer(now)).kid)
    slow: list[asyncio.Task[object]] = []

    async def read() -> None:
        held.arrive.clear()
        slow.append(asyncio.create_task(ring.verifiers(now + 500)))
        await asyncio.sleep(0.1)

    held.before_put = read
    await ring.remove(first, now)
    held.arrive.set()
    await asyncio.gather(*slow)
    assert slow and first not in await ring.verifiers(now + 500)


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
