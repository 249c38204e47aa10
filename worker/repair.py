"""The nightly pass over everything: find and mend what no script should leave behind."""

from __future__ import annotations

import logging
from typing import Any

from app.runtime import Runtime

_log = logging.getLogger("worker.repair")


async def repair(ctx: dict[str, Any]) -> int:
    """How many damages were mended; 0 on a healthy store."""
    runtime: Runtime = ctx["runtime"]
    damages = await runtime.upkeep.repair(runtime.clock())
    for name, count in damages.items():
        _log.warning("repair found %d × %s", count, name)
    _log.info("repair has looked at everything; %d mended", damages.total())
    return damages.total()
