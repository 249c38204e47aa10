"""Statistics: what the scripts have counted in each shard, added up per tenant; and the living counted anew."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from app.runtime import Runtime

_TRIES: Final = 200
_PAUSE_S: Final = 0.5
_log = logging.getLogger("worker.statistics")


async def collect_statistics(ctx: dict[str, Any]) -> None:
    """A killed worker may lose the counts of one call; the next one that starts counts anew."""
    runtime: Runtime = ctx["runtime"]
    await runtime.upkeep.collect(runtime.clock())


async def recount(ctx: dict[str, Any]) -> int:
    """By how many sessions the statistics were wrong. Waits for whoever collects."""
    runtime: Runtime = ctx["runtime"]
    lock: asyncio.Lock = ctx["counting"]
    if lock.locked():
        return 0
    async with lock:
        for _ in range(_TRIES):
            wrong = await runtime.upkeep.recount(runtime.clock())
            if wrong is not None:
                if wrong:
                    _log.warning("the statistics were wrong by %d sessions; they are right again", wrong)
                return wrong
            await asyncio.sleep(_PAUSE_S)
    _log.error("somebody else has been counting for too long; not counting anew")
    return 0
