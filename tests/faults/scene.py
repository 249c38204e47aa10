"""A whole deployment on loopback: a server, a wire that can be troubled, two processes of the API, a worker."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from app.embedded import Embedded
from app.model import SHARDS
from app.store.log import EventLog
from app.store.wire import Wire, open_wire
from tests.faults.crowd import LIMIT, Crowd
from tests.faults.proxy import Proxy
from tests.service import Api, Backend, Process, environment

FULL: Final = os.environ.get("FAULTS") == "full"
"""Whether this is `make test-faults`, which goes further than `make test`."""
SEED: Final = int(os.environ.get("SEED", "0")) or int.from_bytes(os.urandom(3))
_SETTINGS: Final = {"REDIS_TIMEOUT_MS": "500", "HELLOJOHN_LOG": "error"}


class Scene:
    """`async with Scene(folder)`; `url` instead of a server of its own stands for a cluster, which has no proxy."""

    def __init__(self, folder: Path, url: str | None = None, processes: int = 2, workers: int = 1) -> None:
        self.folder = folder
        self.server = Embedded(folder / "valkey")
        self._url = url
        self._processes, self._workers = processes, workers
        self._stack = AsyncExitStack()
        self.apis: list[Api] = []
        self.workers: list[Process] = []
        self.crowd: Crowd | None = None

    async def __aenter__(self) -> Scene:
        self.server.start()
        self._stack.callback(self.server.stop)
        self.proxy = await Proxy(self.server.port).start()
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

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def api(self, **more: str) -> Api:
        return Api(self.through, **_SETTINGS, **more)

    def worker(self, **more: str) -> Process:
        own = {"ARQ_REDIS_URL": self.server.url, "HELLOJOHN_ISSUER": "https://sessions.example", **_SETTINGS, **more}
        return Process("worker.main", environment(self.through, **own))

    @property
    def urls(self) -> list[str]:
        return [api.url for api in self.apis]

    async def ends(self) -> list[tuple[str, str]]:
        """Every end event of the tenant, as (session, reason)."""
        log = EventLog(self.wire)
        shards = await asyncio.gather(*(log.present(shard, "-") for shard in range(SHARDS)))
        found = [event for shard in shards for _, event in shard if event.tenant_id == self.backend.tenant_id]
        return sorted((event.session_id, event.reason) for event in found if event.session_id and event.reason)

    def _end(self) -> None:
        for process in [*self.workers, *self.apis]:
            process.stop(signal.SIGKILL)


def report(capsys: Any, line: str) -> None:
    """Say what was checked, whatever pytest does with the output."""
    with capsys.disabled():
        print(f"\n  {line}", flush=True)
