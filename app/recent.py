"""What was read a moment ago, so that what hardly ever changes costs the store nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from app.model import PROPAGATION_MS

_REMEMBER_MS: Final = PROPAGATION_MS // 2

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """What was read less than half a second ago; one read in flight per key; bounded."""

    _MOST: Final = 10_000

    def __init__(self, read: Callable[[str], Awaitable[Value]]) -> None:
        self._read = read
        self._known: dict[str, tuple[Value, int]] = {}
        self._reading: dict[str, asyncio.Task[Value]] = {}

    async def get(self, key: str, now: int) -> Value:
        known = self._known.get(key)
        if known is not None and 0 <= now - known[1] < _REMEMBER_MS:
            return known[0]
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.create_task(self._load(key, now))
        return await asyncio.shield(task)

    def forget(self, key: str) -> None:
        self._known.pop(key, None)
        self._reading.pop(key, None)

    async def _load(self, key: str, now: int) -> Value:
        task = asyncio.current_task()
        try:
            value = await self._read(key)
            if self._reading.get(key) is task:
                if len(self._known) >= self._MOST:
                    self._known.clear()
                self._known[key] = (value, now)
            return value
        finally:
            if self._reading.get(key) is task:
                del self._reading[key]
