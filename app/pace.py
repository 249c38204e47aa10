"""Work in the background that makes way: it rests as soon as others make it slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Final

_FORGETS: Final = 1.001
"""Each stretch: what was possible once may not be any more."""


class Pace:
    """The quickest that a piece of work has ever gone is what it takes alone. What a stretch takes beyond that is
    others' work that it waited behind, or made wait: so long it rests, and never longer than it worked. The idea of
    a scavenger transport, which yields to a queue before others feel it (RFC 6817, LEDBAT)."""

    def __init__(self) -> None:
        self._quickest = float("inf")

    @asynccontextmanager
    async def stretch(self, pieces: int) -> AsyncIterator[None]:
        """Around the work on `pieces` alike; the rest follows it."""
        began = perf_counter()
        yield
        if pieces:
            took = perf_counter() - began
            self._quickest = min(self._quickest * _FORGETS, took / pieces)
            await asyncio.sleep(took - self._quickest * pieces)
