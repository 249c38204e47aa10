"""Quotas: how many calls of a class an API key has in a minute, all processes together.

No call waits for the store. Each process keeps its own copy of a bucket and spends from that; beside the calls it
tells the store how much it was, at once after a pause and then ten times a second, and hears what the others have
spent. One process alone is exact; several together may let through what they serve before they have heard of each
other. Without the store each goes on by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Final, Literal, Protocol

import msgspec

from app.errors import StoreUnavailable

CallClass = Literal["verify", "read", "write"]

WINDOW_S: Final = 60
_TELL_S: Final = 0.1
_REMEMBERED: Final = 10_000
_ROUNDING: Final = 0.01
"""Of a call: what sums of fractions may be off by."""


class Ledger(Protocol):
    async def spend(self, name: str, seconds: float) -> float:
        """Take what needs `seconds` to come back out of a shared bucket; in how many seconds it will be full."""


class Standing(msgspec.Struct, frozen=True):
    """What a caller is told. `left` calls now; all of `limit` again in `reset` seconds. `retry_after`: seconds until
    the next one is served, 0 if this one is."""

    limit: int
    left: int
    reset: int
    retry_after: int


class _Bucket(msgspec.Struct, eq=False):
    """The generic cell rate algorithm (ITU-T I.371): a bucket is the time at which it will be full again. `untold`:
    calls that the store has not heard of."""

    full_at: float = 0.0
    untold: int = 0


class Quotas:
    """`verifies`, `reads`, `writes`: calls in a minute, 0: no limit. `clock` gives seconds and never jumps."""

    def __init__(
        self, ledger: Ledger, verifies: int, reads: int, writes: int, clock: Callable[[], float] = monotonic
    ) -> None:
        self._ledger = ledger
        self._limits: dict[CallClass, int] = {"verify": verifies, "read": reads, "write": writes}
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._telling: dict[str, asyncio.Task[None]] = {}

    def take(self, key_id: str, kind: CallClass) -> Standing | None:
        """One call of a key; `None` where nothing is limited. A call that is refused takes nothing."""
        limit = self._limits[kind]
        if not limit:
            return None
        name, now, step = f"{key_id}:{kind}", self._clock(), WINDOW_S / limit
        bucket = self._bucket(name)
        full_in = max(0.0, bucket.full_at - now) + step
        if full_in > WINDOW_S + step * _ROUNDING:
            wait = ceil(full_in - WINDOW_S)
            return Standing(limit, 0, wait, wait)
        bucket.full_at = now + full_in
        bucket.untold += 1
        if name not in self._telling:
            self._telling[name] = asyncio.create_task(self._tell(name, bucket, step))
        return Standing(limit, max(0, int((WINDOW_S - full_in) / step + _ROUNDING)), ceil(full_in), 0)

    async def close(self) -> None:
        for task in [*self._telling.values()]:
            task.cancel()
        await asyncio.gather(*self._telling.values(), return_exceptions=True)
        self._telling.clear()

    def _bucket(self, name: str) -> _Bucket:
        found = self._buckets.get(name)
        if found is None:
            if len(self._buckets) >= _REMEMBERED:
                del self._buckets[next(iter(self._buckets))]
            found = self._buckets[name] = _Bucket()
        return found

    async def _tell(self, name: str, bucket: _Bucket, step: float) -> None:
        """Until a tenth of a second has passed without a call."""
        try:
            while bucket.untold:
                count, bucket.untold = bucket.untold, 0
                full_in = await self._ledger.spend(name, count * step)
                bucket.full_at = self._clock() + full_in + bucket.untold * step
                await asyncio.sleep(_TELL_S)
        except StoreUnavailable:
            bucket.untold = 0
        finally:
            self._telling.pop(name, None)
