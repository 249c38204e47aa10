"""How old what a verifier knows may be, by a clock that no one sets and that also counts while the machine sleeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from .forks import reset_in_child

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
_BEAT_S: Final = 0.1
_NEVER: Final = float("-inf")

clock: Final[Callable[[], float]] = time.monotonic if _CLOCK is None else partial(time.clock_gettime, _CLOCK)
"""Seconds from an arbitrary beginning."""


class Freshness:
    """`until`: what is known is fresh enough before that time. The verifier's quick path compares it and no more."""

    def __init__(self, max_staleness: float) -> None:
        self.until = _NEVER
        self._max = max_staleness
        self._as_of = _NEVER
        self._keys_until = _NEVER
        self._complete = True
        reset_in_child(self)

    def after_fork(self) -> None:
        """Nothing is fresh in a forked child: the feed is followed in the parent."""
        self._as_of = self.until = _NEVER

    @property
    def ready(self) -> bool:
        """Whether the feed has been followed up to some moment since the last snapshot began."""
        return self._as_of > _NEVER

    @property
    def lag(self) -> float:
        """Seconds: how old what is known of revocations can be at most; infinite before the first time."""
        return clock() - self._as_of

    def confirm(self, as_of: float) -> None:
        """Everything that happened up to `as_of` is known."""
        self._as_of = max(self._as_of, as_of)
        self._settle()

    def doubt(self) -> None:
        """A snapshot has begun: nothing is known up to date until the next `confirm`."""
        self._as_of = _NEVER
        self._settle()

    def keys_good_until(self, moment: float) -> None:
        self._keys_until = moment
        self._settle()

    def complete(self, complete: bool) -> None:
        """Whether all that was heard could be kept; without room for it nothing is fresh."""
        self._complete = complete
        self._settle()

    def _settle(self) -> None:
        self.until = min(self._as_of + self._max, self._keys_until) if self._complete else _NEVER


class Steps:
    """Notices that the wall clock was set: it has parted from `clock` by more than `limit` seconds since then."""

    def __init__(self, wall: Callable[[], float], limit: float) -> None:
        self._wall = wall
        self._limit = limit
        self._offset = wall() - clock()

    def noticed(self) -> bool:
        """Whether there was a step since the last one that was noticed."""
        offset = self._wall() - clock()
        if abs(offset - self._offset) <= self._limit:
            return False
        self._offset = offset
        return True


class Pulse:
    """A timer that notices when the event loop stood still: the process was stopped, or something blocked it.

    What is read from a socket afterwards may have lain in the kernel all the while, so it says nothing about now.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._last = clock()
        self._gap = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stalls = 0

    def start(self) -> None:
        self._last = clock()
        self._timer = asyncio.get_running_loop().call_later(_BEAT_S, self._beat)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def limit(self) -> float:
        """Seconds: a standstill that is longer counts."""
        return self._limit

    @property
    def slack(self) -> float:
        """Seconds: what is read now was sent at most so long ago. Fades as slowly as a standstill lasted."""
        return clock() - self._last + self._gap

    @property
    def stalls(self) -> int:
        """Counts standstills longer than the limit, one under way included."""
        return self._stalls + (clock() - self._last > self._limit)

    def _beat(self) -> None:
        now = clock()
        standstill = now - self._last
        self._stalls += standstill > self._limit
        self._gap = max(standstill, self._gap - standstill)
        self._last = now
        self._timer = asyncio.get_running_loop().call_later(_BEAT_S, self._beat)
