"""One suite, four stores: a test takes `store` and cannot tell which it got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

import fakeredis
import pytest
from redis.exceptions import ResponseError

from app.client.events import Event, event_of
from app.model import SHARDS
from app.runtime import now_ms
from app.store import keyspace
from app.store.base import SessionStore
from app.store.redis import RedisSessionStore
from app.store.resp import reply_error
from app.store.wire import Argument, Command, Script, Wire, open_wire
from tests.builders import a_tenant
from tests.oracle import OracleStore

STORES = ["oracle", "fakeredis", "valkey", "cluster"]


class FakeWire:
    """A `Wire` over fakeredis, whose scripts run in lupa."""

    server = ""

    def __init__(self, server: fakeredis.FakeServer | None = None) -> None:
        self._redis: Any = fakeredis.FakeAsyncRedis(
            server=server or fakeredis.FakeServer()
        )  # its stubs are of another redis-py
        self._redis.response_callbacks.clear()

    async def call(self, key: str, *command: Argument) -> Any:
        return await _told(self._redis.execute_command(*command))

    async def batch(self, key: str, commands: Sequence[Command]) -> list[Any]:
        return [await self.call(key, *command) for command in commands]

    async def script(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        return await _told(self._redis.eval(script.text, len(keys), *keys, *args))

    async def each(self, *command: Argument) -> list[Any]:
        return [await self._redis.execute_command(*command)]

    async def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        yield await self._redis.execute_command("KEYS", pattern)

    async def close(self) -> None:
        await self._redis.aclose()


async def _told(answer: Awaitable[Any]) -> Any:
    """With the errors of a `Wire`."""
    try:
        return await answer
    except ResponseError as error:
        raise reply_error(str(error)) from None


@pytest.fixture
def now() -> int:
    return now_ms()


@pytest.fixture
def tenant() -> str:
    return a_tenant()


@pytest.fixture(params=STORES)
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Wire | None]:
    """The wire under a store; the oracle has none."""
    if request.param == "oracle":
        yield None
        return
    opened: Wire = FakeWire()
    if request.param != "fakeredis":
        name = "valkey_url" if request.param == "valkey" else "cluster_url"
        opened = await open_wire(request.getfixturevalue(name), 10_000)
    yield opened
    await opened.close()


@pytest.fixture
def store(wire: Wire | None) -> SessionStore:
    return OracleStore() if wire is None else RedisSessionStore(wire)


@pytest.fixture
def announced(store: SessionStore, wire: Wire | None, tenant: str) -> Announced:
    return Announced(store, wire, tenant)


class Announced:
    """The end events of the test's tenant, as (session, reason), from wherever the store writes them."""

    def __init__(self, store: SessionStore, wire: Wire | None, tenant: str) -> None:
        self._store, self._wire, self._tenant = store, wire, tenant

    async def ends(self) -> list[tuple[str, str]]:
        if isinstance(self._store, OracleStore):
            return sorted((sid, reason) for _, sid, reason in self._store.events if sid and reason)
        return sorted((e.session_id, e.reason) for e in await self._events() if e.session_id and e.reason)

    async def cut_offs(self) -> list[int]:
        """Up to when, as the events of cut-offs have it; the oracle's do not say."""
        return [] if self._wire is None else [e.before for e in await self._events() if e.before is not None]

    async def _events(self) -> list[Event]:
        assert self._wire is not None
        keys = [keyspace.events(shard) for shard in range(SHARDS)]
        rows = await asyncio.gather(*(self._wire.call(key, "XRANGE", key, "-", "+") for key in keys))
        events = [event_of(shard, entry) for shard, entries in enumerate(rows) for entry in entries]
        return [event for event in events if event.tenant_id == self._tenant]
