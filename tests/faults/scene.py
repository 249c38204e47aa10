"""A whole deployment on loopback: a server, a wire that can be troubled, two processes of the API, a worker."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, TypeVar

from app.embedded import Embedded
from app.errors import StoreUnavailable
from app.model import SHARDS, Rules
from app.runtime import now_ms
from app.store.log import EventLog
from app.store.redis import RedisSessionStore
from app.store.registry import RedisRegistry
from app.store.wire import Wire, open_wire
from tests.faults.crowd import LIMIT, Crowd
from tests.faults.proxy import Proxy
from tests.service import Api, Backend, Process, environment

FULL: Final = os.environ.get("FAULTS") == "full"
"""Whether this is `make test-faults`, which goes further than `make test`."""
SEED: Final = int(os.environ.get("SEED", "0")) or int.from_bytes(os.urandom(3))
_SHARDS_AT_ONCE: Final = 32
"""A million events in one go outlast every deadline."""
Answer = TypeVar("Answer")
_SETTINGS: Final = {"REDIS_TIMEOUT_MS": "500", "HELLOJOHN_LOG": "error"}


class Scene:
    """`async with Scene(folder)`; `url` instead of a server of its own stands for a cluster, which has no proxy.

    `settings` are environment variables of all its processes. On leaving, the repair pass must find nothing to mend,
    if the scene is `judged`.
    """

    def __init__(
        self,
        folder: Path,
        url: str | None = None,
        processes: int = 2,
        workers: int = 1,
        proxy: type[Proxy] = Proxy,
        server: type[Embedded] = Embedded,
        judged: bool = True,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.server = server(folder / "valkey")
        self._url = url
        self._processes, self._workers = processes, workers
        self._proxy, self._judged = proxy, judged
        self._settings = {**_SETTINGS, **settings}
        self._stack = AsyncExitStack()
        self.apis: list[Api] = []
        self.workers: list[Process] = []
        self.crowd: Crowd | None = None

    async def __aenter__(self) -> Scene:
        self.server.start()
        self._stack.callback(self.server.stop)
        self.proxy = await self._proxy(self.server.port).start()
        self._stack.push_async_callback(self.proxy.stop)
        self.through = self._url or f"redis://127.0.0.1:{self.proxy.port}/0"
        for _ in range(self._processes):
            self.apis.append(await asyncio.to_thread(self.api))
        for _ in range(self._workers):
            self.workers.append(self.worker())
        self._stack.callback(self._end)
        self.backend: Backend = await asyncio.to_thread(self.apis[0].tenant)
        answer = await asyncio.to_thread(
            self.backend.call, "PATCH", "/v1/admin/config", json={"max_sessions_per_user": LIMIT}
        )
        assert answer.status_code == 200, answer.text
        self.wire: Wire = await open_wire(self._url or self.server.url, 10_000)
        self._stack.push_async_callback(self.wire.close)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._judged:
                assert await self.damages() == {}
        finally:
            await self._stack.aclose()

    def api(self, **more: str) -> Api:
        return Api(self.through, **{**self._settings, **more})

    def worker(self, **more: str) -> Process:
        own = {"ARQ_REDIS_URL": self.server.url, "HELLOJOHN_ISSUER": "https://sessions.example"}
        return Process("worker.main", environment(self.through, **{**own, **self._settings, **more}))

    @property
    def urls(self) -> list[str]:
        return [api.url for api in self.apis]

    async def ends(self, tenant_id: str | None = None) -> list[tuple[str, str]]:
        """Every end event of the (or another) tenant, as (session, reason), once the server is back."""
        log, wanted = EventLog(self.wire), tenant_id or self.backend.tenant_id

        async def ends_in(shard: int) -> list[tuple[str, str]]:
            events = [entry.event for entry in await log.present(shard, "-") if entry.tenant_id == wanted]
            return [(event.session_id, event.reason) for event in events if event.session_id and event.reason]

        found: list[tuple[str, str]] = []
        for first in range(0, SHARDS, _SHARDS_AT_ONCE):
            shards = range(first, first + _SHARDS_AT_ONCE)
            rows = await answered(lambda shards=shards: asyncio.gather(*map(ends_in, shards)))  # type: ignore[misc]
            found += [end for row in rows for end in row]
        return sorted(found)

    async def damages(self) -> Counter[str]:
        """What the repair pass finds: indexes that do not agree with the sessions, by name."""
        registry, now = RedisRegistry(self.wire), now_ms()

        async def rules_of(tenant_id: str) -> Rules | None:
            tenant = await registry.tenant(tenant_id)
            return None if tenant is None else tenant.rules

        return await answered(lambda: RedisSessionStore(self.wire).repair(rules_of, now))

    def _end(self) -> None:
        for process in [*self.workers, *self.apis]:
            process.stop(signal.SIGKILL)


async def answered(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer, once the wire to the server is back."""
    for _ in range(100):
        try:
            return await ask()
        except StoreUnavailable:
            await asyncio.sleep(0.1)
    raise AssertionError("the server did not come back")


def report(capsys: Any, line: str) -> None:
    """Say what was checked, whatever pytest does with the output."""
    with capsys.disabled():
        print(f"\n  {line}", flush=True)
