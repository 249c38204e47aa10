"""Work in the background that makes way: it rests as soon as others make it slow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Final

_REMEMBERED: Final = 500
_ALONE: Final = 0.1


class Pace:
    """What the quickest tenth of its recent stretches needed is what a piece of work takes alone; the very quickest is
    luck. What a stretch takes beyond that is others' work that it waited behind, or made wait: so long it rests, and
    never longer than it worked. The idea of a scavenger transport, which yields to a queue before others feel it
    (RFC 6817, LEDBAT). `clock` gives seconds, `sleep` waits as many."""

    def __init__(
        self,
        clock: Callable[[], float] = perf_counter,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._recent = deque[float](maxlen=_REMEMBERED)

    @asynccontextmanager
    async def stretch(self, pieces: int) -> AsyncIterator[None]:
        """Around the work on `pieces` alike; the rest follows it."""
        began = self._clock()
        yield
        if pieces:
            took = self._clock() - began
            self._recent.append(took / pieces)
            alone = sorted(self._recent)[int(len(self._recent) * _ALONE)] * pieces
            await self._sleep(took - alone)
