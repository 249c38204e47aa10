"""Calls to the service while it may be away: a circuit breaker, and a log that does not repeat itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import httpx

from .errors import ServiceUnavailable
from .freshness import clock

_TIMEOUT_S: Final = 5.0
_REPEAT_S: Final = 60.0
_NEVER: Final = float("-inf")
_log: Final = logging.getLogger("session_client")

KEYS: Final = 1
CALLS: Final = 2
EVENTS: Final = 3
"""What a call needs of the service, in ascending order: a success ends an outage of its own kind and of lesser ones.
Public keys are answered from memory even where the service's store is away."""

Call = Callable[[], Awaitable[httpx.Response]]


class Outage:
    """Logs an outage once when it begins, at most once a minute while it lasts, and once when it ends."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logged_at = _NEVER
        self._began_at: float | None = None
        self._kind = 0

    @property
    def is_logged(self) -> bool:
        """Whether an outage that was logged lasts."""
        return self._began_at is not None

    def failed(self, reason: str, kind: int = CALLS) -> None:
        self._kind = max(self._kind, kind)
        now = clock()
        if now < self._logged_at + _REPEAT_S:
            return
        self._logged_at = now
        if self._began_at is None:
            self._began_at = now
            _log.warning("%s is not available: %s", self._name, reason)
        else:
            _log.warning("%s has not been available for %.0f s: %s", self._name, now - self._began_at, reason)

    def ended(self, kind: int = EVENTS) -> None:
        """A call of this kind succeeded."""
        if kind < self._kind:
            return
        self._kind = 0
        if self._began_at is not None:
            _log.warning("%s is available again after %.0f s", self._name, clock() - self._began_at)
            self._began_at = None


class Breaker:
    """Circuit breaker for calls to the service. A time-out opens it: calls are then refused at once, while one call at
    a time probes the service in the background. Any response closes it."""

    def __init__(self) -> None:
        self.outage = Outage("the session service")
        self._is_open = False
        self._answered_at = _NEVER
        self._probe: asyncio.Task[httpx.Response] | None = None

    async def run(self, call: Call, limit_s: float = _TIMEOUT_S, kind: int = CALLS) -> httpx.Response:
        """Return the response to a call. Raises `ServiceUnavailable` if there is none."""
        if not self._is_open:
            return await self._attempt(call, limit_s, kind)
        if self._probe is None:
            self._probe = asyncio.create_task(self._attempt(call, limit_s, kind))
            self._probe.add_done_callback(self._probed)
        raise ServiceUnavailable

    def answered(self, kind: int = CALLS) -> None:
        """The service has sent something that only it can send."""
        self._close()
        self.outage.ended(kind)

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)

    def _probed(self, task: asyncio.Task[httpx.Response]) -> None:
        self._probe = None
        if not task.cancelled():
            task.exception()

    async def _attempt(self, call: Call, limit_s: float, kind: int) -> httpx.Response:
        began = clock()
        try:
            async with asyncio.timeout(limit_s):
                response = await call()
        except (TimeoutError, httpx.TimeoutException) as error:
            self._is_open = self._is_open or began >= self._answered_at
            self.outage.failed("it does not answer in time", kind)
            raise ServiceUnavailable("the session service does not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, RuntimeError, OSError) as error:
            self._is_open = False
            self.outage.failed(type(error).__name__, kind)
            raise ServiceUnavailable(f"the session service cannot be reached ({type(error).__name__})") from error
        self._close()
        return response

    def _close(self) -> None:
        self._is_open = False
        self._answered_at = clock()
