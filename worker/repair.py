"""The nightly pass over every shard: find and mend what no script should leave behind."""

from __future__ import annotations

import logging
from typing import Any, Final

from app.model import SHARDS
from app.runtime import Runtime

_STEP: Final = SHARDS // 10
_log = logging.getLogger("worker.repair")


async def repair(ctx: dict[str, Any]) -> int:
    """How many index entries were mended; 0 on a healthy store."""
    runtime: Runtime = ctx["runtime"]
    mended = 0
    for shard in range(SHARDS):
        mended += await runtime.upkeep.repair(shard, runtime.clock())
        if shard % _STEP == _STEP - 1:
            _log.info("repair: %d of %d shards, %d mended", shard + 1, SHARDS, mended)
    if mended:
        _log.warning("repair mended %d entries", mended)
    return mended
