"""The API as a process: `python -m app.main`. Under another ASGI server: the factory `app.main:application`."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType

import msgspec
import uvicorn

from app.api import docs, openapi
from app.api.call import Site
from app.api.http import Door, Lifespan
from app.api.logs import Log
from app.api.metrics import Metrics
from app.api.operations import OPERATIONS
from app.log import set_up
from app.runtime import Runtime, now_ms, open_runtime
from app.selfcheck import self_check
from app.settings import SettingError, Settings


def create_app(runtime: Runtime) -> Door:
    """The API over a runtime that someone else opened and will close."""
    return _door(runtime.settings, runtime)


def application() -> Door:
    """The API with settings from the environment; its lifespan opens and closes the runtime."""
    settings = Settings.from_env()

    @asynccontextmanager
    async def lifespan(door: Door) -> AsyncIterator[None]:
        async with open_runtime(settings) as runtime:
            door.site.runtime = runtime
            try:
                yield
            finally:
                door.site.runtime = None

    return _door(settings, None, lifespan)


def _door(settings: Settings, runtime: Runtime | None, lifespan: Lifespan | None = None) -> Door:
    encoded = openapi.encoded(OPERATIONS)
    site = Site(Metrics(), encoded, docs.render(msgspec.json.decode(encoded)), runtime)
    return Door(OPERATIONS, site, now_ms, Log(settings.log_level), lifespan)


class _Server(uvicorn.Server):
    """Tells the door at the first signal, so that readiness turns false and streams end by themselves."""

    def __init__(self, config: uvicorn.Config, door: Door) -> None:
        super().__init__(config)
        self._door = door

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._door.site.closing = True
        super().handle_exit(sig, frame)


def _calm_collector() -> None:
    """Full passes of the garbage collector stop a process with thousands of open streams for tens of milliseconds, and
    hardly anything here lies in cycles. What lives since the start is never looked at again (Python: `gc.freeze`)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)


def main() -> None:
    """Serve until SIGTERM or SIGINT; requests under way have ten seconds to finish."""
    try:
        settings = Settings.from_env()
        set_up(settings.log_level)
        self_check(settings)
        door = application()
    except SettingError as error:
        sys.exit(str(error))
    config = uvicorn.Config(
        door,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_level=settings.log_level,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    _calm_collector()
    _Server(config, door).run()


if __name__ == "__main__":
    main()
