"""The time of a process: its wall clock, unless somebody sets that one wrong.

Beside the wall clock runs one that nobody sets. While the store's clock agrees with the wall clock, how far the two lie
apart is remembered; when they part suddenly, the wall clock was set, and the process goes on from what it remembers
until the store agrees with the wall clock again. The store's clock alone moves nothing: after a failover it may be the
one that is wrong.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from app.errors import StoreUnavailable
from app.model import SECOND, SKEW_MS

_NEVER_SET: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_STEP_MS: Final = SECOND
"""Slewing changes the speed of both clocks alike, so only a step parts them; a leap second is an honest one."""
_EVERY_S: Final = 1.0
_log = logging.getLogger("app.clock")


def uptime_ms() -> int:
    """Milliseconds from an arbitrary beginning, by a clock that nobody sets and that runs while the machine sleeps."""
    return time.clock_gettime_ns(_NEVER_SET) // 1_000_000


class Clock:
    """Called: milliseconds since the epoch. `wall` says so, `uptime` is as `uptime_ms`. Until the store has agreed once
    there is only the wall clock."""

    def __init__(self, wall: Callable[[], int], uptime: Callable[[], int]) -> None:
        self._wall = wall
        self._uptime = uptime
        self._offset: int | None = None
        self._alone = False

    def __call__(self) -> int:
        wall = self._wall()
        if self._offset is None:
            return wall
        remembered = self._uptime() + self._offset
        return wall if abs(wall - remembered) <= _STEP_MS else remembered

    @asynccontextmanager
    async def compared_with(self, store: Callable[[], Awaitable[int]]) -> AsyncIterator[None]:
        """Meanwhile the store, whose time in milliseconds this is, is asked once a second."""
        comparing = asyncio.create_task(self._compare(store))
        try:
            yield
        finally:
            comparing.cancel()
            await asyncio.gather(comparing, return_exceptions=True)

    def compare(self, theirs: int, asked: int) -> None:
        """The store's clock showed `theirs` at a moment between `asked`, by `uptime`, and now. It agrees where the wall
        clock is no further off than `SKEW_MS` whichever moment that was."""
        wall, uptime = self._wall(), self._uptime()
        step = 0 if self._offset is None else wall - uptime - self._offset
        if max(wall - theirs, theirs - wall + uptime - asked) <= SKEW_MS:
            self._agree(step)
            self._offset = wall - uptime
        elif abs(step) > _STEP_MS and not self._alone:
            self._alone = True
            _log.error("the wall clock was set by %d ms, and the store's does not agree: going on without it", step)

    def _agree(self, step: int) -> None:
        if abs(step) > _STEP_MS:
            _log.warning("the wall clock was set by %d ms, and the store's agrees", step)
        elif self._alone:
            _log.warning("the wall clock is right again")
        self._alone = False

    async def _compare(self, store: Callable[[], Awaitable[int]]) -> None:
        """What nobody foresaw is logged and tried again: not asked, the store could never agree with the wall clock."""
        while True:
            asked = self._uptime()
            try:
                self.compare(await store(), asked)
            except StoreUnavailable:
                pass
            except Exception:
                _log.exception("the store's clock could not be read")
            await asyncio.sleep(_EVERY_S)
