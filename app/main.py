"""The API as a process: `python -m app.main`. Under another ASGI server: the factory `app.main:application`."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import msgspec
import uvicorn

from app.api import docs, openapi
from app.api.call import Site
from app.api.failures import Failures
from app.api.http import Door, Lifespan
from app.api.logs import Log
from app.api.metrics import Metrics
from app.api.operations import OPERATIONS
from app.clock import Clock, uptime_ms
from app.log import refuse, set_up
from app.protocol import GuardedProtocol
from app.runtime import Runtime, now_ms, open_runtime
from app.selfcheck import check, self_check, warn_of_issuer, warn_of_unknown
from app.settings import SettingError, Settings

if TYPE_CHECKING:
    from app.api.oidc import Provider

_DRAIN_S: Final = 1.0
_BACKLOG: Final = 2_048
_log = logging.getLogger("app")


def create_app(runtime: Runtime) -> Door:
    """The API over a runtime that someone else opened and will close."""
    return _door(runtime.settings, runtime.clock, runtime)


def application(checked: bool = False) -> Door:
    """The API with settings from the environment; its lifespan opens and closes the runtime. Until the store has been
    `checked` everything that needs it is a 503."""
    settings, clock = Settings.from_env(), Clock(now_ms, uptime_ms)
    warn_of_unknown()
    warn_of_issuer(settings)

    @asynccontextmanager
    async def lifespan(door: Door) -> AsyncIterator[None]:
        async with open_runtime(settings, clock) as runtime, clock.compared_with(runtime.registry.clock):
            door.site.runtime = runtime if checked else None
            waiting = asyncio.create_task(asyncio.sleep(0) if checked else _serve_once_fit(door, runtime))
            try:
                yield
            finally:
                door.site.runtime = None
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)

    return _door(settings, clock, None, lifespan)


async def _serve_once_fit(door: Door, runtime: Runtime) -> None:
    """A process that finds late that it must not serve ends as if it had been told to."""
    try:
        while not await check(runtime.settings):
            pass
        door.site.runtime = runtime
    except SettingError as error:
        _log.error("%s", error)
        signal.raise_signal(signal.SIGTERM)


def _door(
    settings: Settings, clock: Callable[[], int], runtime: Runtime | None, lifespan: Lifespan | None = None
) -> Door:
    encoded = openapi.encoded(OPERATIONS)
    failures = Failures(settings.failures_per_minute, settings.proxies)
    origins = frozenset(origin.encode() for origin in settings.origins)
    site = Site(
        Metrics(),
        encoded,
        docs.render(msgspec.json.decode(encoded)),
        runtime,
        failures=failures,
        admin_port=settings.admin_port,
        provider=_provider(settings),
        origins=origins,
    )
    return Door(OPERATIONS, site, clock, Log(settings.log_level), lifespan)


def _provider(settings: Settings) -> Provider | None:
    """What it takes is loaded by those who use it."""
    if settings.oidc is None:
        return None
    from app.api.oidc import Provider

    return Provider(settings.oidc, settings.operators_url)


class _Server(uvicorn.Server):
    """Drains: at the first signal readiness turns false and streams end, but for a moment it goes on serving, and each
    answer asks to close its connection. Then it takes no new connection, and for as long again it serves those it has,
    so that none is cut while a request is on its way. With nobody connected both are short; a second signal skips them.
    """

    def __init__(self, config: uvicorn.Config, door: Door) -> None:
        super().__init__(config)
        self._site = door.site
        self._until = 0.0
        self._listening = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, on the operator's port too if there is one."""
        await super().startup(sockets)
        if self._site.admin_port is None:
            return
        try:
            listener = await asyncio.get_running_loop().create_server(
                lambda: GuardedProtocol(self.config, self.server_state, self.lifespan.state),
                **self._place(self._site.admin_port),
                backlog=self.config.backlog,
            )
        except OSError as error:
            _log.error("ADMIN_PORT: %s", error)
            await self.shutdown()
            sys.exit(1)
        self.servers.append(listener)

    def _place(self, port: int) -> dict[str, Any]:
        sock = dual_stack(self.config.host, port)
        return {"host": self.config.host, "port": port} if sock is None else {"sock": sock}

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._site.closing:
            super().handle_exit(sig, frame)
        else:
            self._site.closing, self._until = True, monotonic() + _DRAIN_S

    async def on_tick(self, counter: int) -> bool:
        if self._site.closing and self._drained():
            self.should_exit = True
        if counter % 10 == 0:
            GuardedProtocol.look_after(self.server_state.connections)
        return await super().on_tick(counter)

    def _drained(self) -> bool:
        if self.server_state.connections and monotonic() < self._until:
            return False
        if self._listening:
            for server in self.servers:
                server.close()
            self._listening, self._until = False, monotonic() + _DRAIN_S
            return False
        return True


def dual_stack(host: str, port: int) -> socket.socket | None:
    """A socket that takes IPv6 and IPv4 connections where `host` is `::`, else `None`. Raises `OSError`."""
    if host != "::" or not socket.has_dualstack_ipv6():
        return None
    return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)


def _end(*_: object) -> None:
    """Of a signal before the server or the worker's loop takes them. As process 1 there is no default action."""
    raise SystemExit(0)


def calm_collector() -> None:
    """Full passes of the garbage collector stop a process with thousands of open streams for tens of milliseconds, and
    hardly anything here lies in cycles. What lives since the start is never looked at again (Python: `gc.freeze`)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)


def main() -> None:
    """Serve until SIGTERM or SIGINT; then drain, and what is still under way has ten seconds to finish."""
    signal.signal(signal.SIGTERM, _end)
    try:
        settings = Settings.from_env()
        set_up(settings.log_level)
        door = application(self_check(settings))
    except SettingError as error:
        refuse(error, 1)
    config = uvicorn.Config(
        door,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,  # its lines go where all others go
        server_header=False,
        proxy_headers=False,
        log_level=settings.log_level,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    calm_collector()
    try:
        listener = dual_stack(settings.host, settings.port)
    except OSError as error:
        refuse(f"HOST and PORT: {error}", 1)
    with suppress(KeyboardInterrupt):  # uvicorn has shut down and hands the signal on
        _Server(config, door).run(None if listener is None else [listener])


if __name__ == "__main__":
    main()
