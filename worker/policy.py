"""Policy changes and cut-offs, carried out on sessions that already live."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from app.runtime import Runtime

_log = logging.getLogger("worker.policy")


async def apply_policies(ctx: dict[str, Any]) -> int:
    """Walk the sessions of tenants whose policy changed, that were cut off or deleted; how many tenants were done."""
    runtime: Runtime = ctx["runtime"]
    lock: asyncio.Lock = ctx["walking"]
    if lock.locked():
        return 0
    async with lock:
        done = await runtime.upkeep.apply_policies(runtime.clock)
    if done:
        _log.info("walked %d tenants", done)
    return done
