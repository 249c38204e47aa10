"""Refreshes that a failover undoes: random stories in which the store forgets, and nobody may look like a thief."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from app.model import DAY, MINUTE, Session, Tenant, shard_in
from app.runtime import Runtime, now_ms, open_runtime
from app.sessions import Issued, NewSession
from app.store import keyspace
from app.store.wire import Wire, open_wire
from tests.test_sessions import settings

Moment = list[bytes]


class Past:
    """What the store knows of one session, to be put back: the latest writes are lost first, one script's together."""

    def __init__(self, wire: Wire, session: Session) -> None:
        shard = shard_in(session.id)
        self._wire = wire
        self._keys = [
            keyspace.session(shard, session.id),
            keyspace.user(shard, session.tenant_id, session.user_id),
        ]
        self._moments: list[Moment] = []

    async def keep(self) -> None:
        self._moments.append([await self._wire.call(key, "DUMP", key) for key in self._keys])

    async def lose(self, writes: int) -> None:
        """As many as there are, at the most."""
        del self._moments[max(1, len(self._moments) - writes) :]
        for key, value in zip(self._keys, self._moments[-1], strict=True):
            await self._wire.call(key, "RESTORE", key, 30 * DAY, value, "REPLACE")


@pytest.fixture
async def runtime(valkey_url: str) -> AsyncIterator[Runtime]:
    async with open_runtime(settings(valkey_url)) as opened:
        yield opened


@pytest.fixture
async def tenant(runtime: Runtime) -> Tenant:
    return await runtime.tenants.create("Acme", now_ms())


@pytest.fixture
async def issued(runtime: Runtime, tenant: Tenant) -> Issued:
    return await runtime.sessions.create(tenant, NewSession(user_id="usr_1"), now_ms())


@pytest.fixture
async def past(valkey_url: str, issued: Issued) -> AsyncIterator[Past]:
    wire = await open_wire(valkey_url, 10_000)
    kept = Past(wire, issued.session)
    await kept.keep()
    yield kept
    await wire.close()


@pytest.mark.parametrize("seed", range(6))
async def test_who_keeps_to_the_newest_token_he_was_given_stays_in(
    runtime: Runtime, tenant: Tenant, issued: Issued, past: Past, seed: int
) -> None:
    """Whatever the store loses, however many of the replies get lost, and however late they are asked for again."""
    chance, now, held = random.Random(seed), now_ms(), issued.refresh_token or ""
    for _ in range(150):
        now += chance.choice([1, 9_999, 10_000, MINUTE])
        if chance.random() < 0.3:
            await past.lose(chance.choice([1, 1, 2, 5, 20]))
        answer = await runtime.sessions.refresh(held, now)
        await past.keep()
        if chance.random() < 0.6:
            held = answer.refresh_token or ""
    assert (await runtime.sessions.get(tenant, issued.session.id, now)).end_reason is None


@pytest.mark.parametrize("seed", range(6))
async def test_tabs_that_refresh_together_get_one_token_whatever_is_lost_between_them(
    runtime: Runtime, issued: Issued, past: Past, seed: int
) -> None:
    """Some of the rounds follow a reply that no tab got; the tabs then come later than the grace."""
    chance, now, held = random.Random(seed), now_ms(), issued.refresh_token or ""
    for _ in range(50):
        now += MINUTE
        if chance.random() < 0.5:
            await runtime.sessions.refresh(held, now)
            await past.keep()
            now += MINUTE
        given, lost = list[str](), 0
        for made in range(1, 4):
            now += chance.choice([0, 1, 3_000])
            given.append((await runtime.sessions.refresh(held, now)).refresh_token or "")
            await past.keep()
            if chance.random() < 0.5:
                writes = chance.randint(1, made - lost)
                await past.lose(writes)
                lost += writes
        assert len(set(given)) == 1, seed
        held = given[0]
