"""The sweep: record and announce what time has ended. Enforcement does not wait for it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, Final

from app.errors import WritesRefused
from app.model import SKEW_MS
from app.runtime import Runtime

_BUDGET_MS: Final = 10_000
_log = logging.getLogger("worker.sweep")


async def sweep(ctx: dict[str, Any]) -> int:
    """Pass over the due index until nobody's turn has come or it has been at it for ten seconds; how many had theirs.

    Idempotent and safe to run twice at once. Refuses while this clock and the server's differ by more than 5 s.
    """
    runtime: Runtime = ctx["runtime"]
    await runtime.upkeep.beat(runtime.clock())
    with suppress(WritesRefused):  # has been logged; sweeping goes on
        await runtime.registry.check()
    lock: asyncio.Lock = ctx["sweeping"]
    if lock.locked():
        return 0
    async with lock:
        skew = runtime.clock() - await runtime.registry.clock()
        if abs(skew) > SKEW_MS:
            _log.error("not sweeping: this clock is %d ms off the store's", skew)
            return 0
        begun, total = runtime.clock(), 0
        while settled := await runtime.upkeep.sweep(runtime.clock()):
            total += settled
            if runtime.clock() - begun > _BUDGET_MS:
                break
        if total:
            _log.info("swept %d sessions in %d ms", total, runtime.clock() - begun)
        return total
