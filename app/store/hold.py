"""A key that belongs to who wrote it first, until they are done or dead."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from app.errors import StoreUnavailable
from app.model import SECOND
from app.store.scripts import SCRIPTS
from app.store.wire import Wire

HOLD_MS: Final = 10 * SECOND
MARK_BYTES: Final = 8


class Hold:
    """`label` is written in front of a random mark of `MARK_BYTES`. It lapses `for_ms` after the last time it was
    prolonged; who has lost it so changes nothing any more. Every method may raise `StoreUnavailable`."""

    def __init__(self, wire: Wire, key: str, label: bytes = b"", for_ms: int = HOLD_MS) -> None:
        self._wire = wire
        self._key = key
        self._mark = label + secrets.token_bytes(MARK_BYTES)
        self._for_ms = for_ms

    async def take(self) -> bool:
        """False where there is something already."""
        return await self._exchange(b"", self._mark, self._for_ms)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Prolong it meanwhile."""
        prolonging = asyncio.create_task(self._prolong())
        try:
            yield
        finally:
            prolonging.cancel()

    async def turn(self, value: bytes, for_ms: int) -> bool:
        """Leave something else in its place; False if it is no longer ours."""
        return await self._exchange(self._mark, value, for_ms)

    async def drop(self) -> bool:
        """False if it is no longer ours."""
        return await self._exchange(self._mark, b"", 0)

    async def _prolong(self) -> None:
        while True:
            await asyncio.sleep(self._for_ms / 3_000)
            with suppress(StoreUnavailable):
                await self.turn(self._mark, self._for_ms)

    async def _exchange(self, expected: bytes, value: bytes, for_ms: int) -> bool:
        return bool(await self._wire.script(SCRIPTS["exchange"], [self._key], [expected, value, for_ms]))
