"""What was read a moment ago, so that what hardly ever changes costs the store nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from app.model import PROPAGATION_MS

_REMEMBER_MS: Final = PROPAGATION_MS // 2
_JOIN_MS: Final = 100
"""A read that takes longer is waited for by those who did so before. A store that has gone silent refuses newcomers at
once, and they must not wait for the deadline of somebody who asked before that was known."""

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """What was read less than half a second ago; one read of a key begins in a tenth of a second; bounded."""

    _MOST: Final = 10_000

    def __init__(self, read: Callable[[str], Awaitable[Value]]) -> None:
        self._read = read
        self._known: dict[str, tuple[Value, int]] = {}
        self._reading: dict[str, dict[asyncio.Task[Value], int]] = {}

    async def get(self, key: str, now: int) -> Value:
        if self.remembers(key, now):
            return self._known[key][0]
        reading = self._reading.setdefault(key, {})
        task, began = next(reversed(reading.items()), (None, 0))
        if task is None or not 0 <= now - began < _JOIN_MS:
            task = asyncio.create_task(self._load(key, now, reading))
            reading[task] = now
        return await asyncio.shield(task)

    def remembers(self, key: str, now: int) -> bool:
        """Whether `get` would answer without asking the store."""
        known = self._known.get(key)
        return known is not None and 0 <= now - known[1] < _REMEMBER_MS

    def forget(self, key: str) -> None:
        self._known.pop(key, None)
        self._reading.pop(key, None)

    async def _load(self, key: str, now: int, reading: dict[asyncio.Task[Value], int]) -> Value:
        """What was read before it was forgotten is given to those who wait for it, and not remembered."""
        try:
            value = await self._read(key)
            if self._reading.get(key) is reading:
                if len(self._known) >= self._MOST:
                    self._known.clear()
                self._known[key] = (value, now)
            return value
        finally:
            reading.pop(asyncio.current_task(), None)  # type: ignore[arg-type]
            if not reading and self._reading.get(key) is reading:
                del self._reading[key]
