"""What the machine can be run against: the API in this process over any store, or as a process over HTTP."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import fakeredis
import msgspec
import uvloop
from starlette.types import Message

from app.api.call import Site
from app.api.http import Door
from app.api.logs import Log
from app.api.metrics import Metrics
from app.api.operations import OPERATIONS
from app.model import shard_of
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from app.store.log import EventLog
from app.store.wire import open_wire
from tests.faults.clock import Clock
from tests.oracle import OracleStore
from tests.service import ADMIN_KEY, Api, environment
from tests.store.conftest import FakeWire

Answer = tuple[int, Any]
Result = TypeVar("Result")


class InProcess:
    """The whole service in this process, on a clock that the machine turns. A restart builds it anew."""

    def __init__(self, redis_url: str | None) -> None:
        """Over a server of its own, which it empties; without one over the oracle, with fakeredis for the tenants."""
        self._url = redis_url
        own = environment(redis_url or "redis://127.0.0.1:1/0", HELLOJOHN_ISSUER="https://sessions.example")
        self._settings = Settings.from_env(own)
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._stack = AsyncExitStack()
        self.now = 0

    def turn(self, now: int) -> None:
        """Set the service's clock, epoch milliseconds."""
        self.now = now

    def reset(self) -> None:
        """Nothing is known any more."""
        self._oracle, self._fake = OracleStore(), fakeredis.FakeServer()
        self._run(self._stack.aclose())
        self._run(self._empty())
        self._run(self._open())

    def call(self, method: str, path: str, body: object = None, key: str = ADMIN_KEY) -> Answer:
        return self._run(self._request(method, path, body, key))

    def work(self) -> None:
        """What the worker does when its turn comes."""

        async def work() -> None:
            await self._runtime.upkeep.apply_policies(lambda: self.now)
            while await self._runtime.upkeep.sweep(self.now):
                pass

        self._run(work())

    def restart(self) -> None:
        """A new process in front of the same data, and a server that has forgotten every script."""
        if self._url is not None:
            self._run(self._wire.each("SCRIPT", "FLUSH"))
        self._run(self._stack.aclose())
        self._run(self._open())

    def fill(self, full: bool) -> bool:
        """Let the server's memory be full, or not any more; whether there is a server."""
        if self._url is not None:
            self._run(self._wire.each("CONFIG", "SET", "maxmemory", "1" if full else "0"))
        return self._url is not None

    def ends(self, tenant_id: str, users: list[str]) -> list[tuple[str, str]]:
        """The end events of some users, from wherever the store writes them."""
        if self._url is None:
            return sorted((sid, reason) for _, sid, reason in self._oracle.events if sid and reason)
        return self._run(self._logged(tenant_id, {shard_of(tenant_id, user) for user in users}))

    def close(self) -> None:
        self._run(self._stack.aclose())
        self._runner.close()

    def _run(self, what: Awaitable[Result]) -> Result:
        async def act() -> Result:
            return await what

        return self._runner.run(act())

    async def _empty(self) -> None:
        if self._url is not None:
            wire = await open_wire(self._url, 10_000)
            await wire.each("CONFIG", "SET", "maxmemory", "0")
            await wire.each("FLUSHALL")
            await wire.close()

    async def _open(self) -> None:
        self._wire = FakeWire(self._fake) if self._url is None else await open_wire(self._url, 10_000)
        store = self._oracle if self._url is None else None
        self._runtime: Runtime = await self._stack.enter_async_context(
            open_runtime(self._settings, lambda: self.now, self._wire, store)
        )
        self._door = Door(OPERATIONS, Site(Metrics(), b"", b"", self._runtime), lambda: self.now, Log("error"))

    async def _request(self, method: str, path: str, body: object, key: str) -> Answer:
        raw, _, query = path.partition("?")
        sent = b"" if body is None else msgspec.json.encode(body)
        headers = [
            (b"host", b"api"),
            (b"authorization", b"Bearer " + key.encode()),
            (b"content-type", b"application/json"),
        ]
        scope = {"type": "http", "method": method, "path": raw, "raw_path": raw.encode(), "headers": headers}
        messages: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": sent, "more_body": False}

        async def send(message: Message) -> None:
            messages.append(message)

        await self._door(scope | {"query_string": query.encode()}, receive, send)
        await self._runtime.sessions.flush()
        answer = messages[1]["body"]
        return messages[0]["status"], msgspec.json.decode(answer) if answer else None

    async def _logged(self, tenant_id: str, shards: set[int]) -> list[tuple[str, str]]:
        log = EventLog(self._wire)
        found = [entry for shard in shards for entry in await log.present(shard, "-")]
        mine = [entry.event for entry in found if entry.tenant_id == tenant_id]
        return sorted((e.session_id, e.reason) for e in mine if e.session_id and e.reason)


class OverHttp(InProcess):
    """The API as a process on a frozen clock; the worker's rounds are still made here, over the same server."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self._clock = Clock(folder / "clock")
        self._server = redis_url
        self._api: Api | None = None
        super().__init__(redis_url)

    def turn(self, now: int) -> None:
        super().turn(now)
        self._clock.freeze(now)

    def reset(self) -> None:
        super().reset()
        self._start()

    def restart(self) -> None:
        super().restart()
        self._start()

    def call(self, method: str, path: str, body: object = None, key: str = ADMIN_KEY) -> Answer:
        assert self._api is not None
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = self._api.http.request(method, path, json=body, headers=headers)
        if path.endswith(("/verify", "/activity")):
            time.sleep(0.05)  # activity is written behind the answer
        return answer.status_code, answer.json() if answer.content else None

    def close(self) -> None:
        self._stop()
        super().close()

    def _start(self) -> None:
        self._stop()
        self._api = Api(self._server, "/.well-known/jwks.json", CLOCK_FILE=str(self._clock.file))

    def _stop(self) -> None:
        if self._api is not None:
            self._api.stop(signal.SIGKILL)
