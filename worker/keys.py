"""Signing keys grow old."""

from __future__ import annotations

import logging
from typing import Any

from app.runtime import Runtime

_log = logging.getLogger("worker.keys")


async def rotate_keys(ctx: dict[str, Any]) -> bool:
    """Publish the next key when the active one is 14 days old, drop the ones no living token names."""
    runtime: Runtime = ctx["runtime"]
    changed = await runtime.keys.rotate_if_due(runtime.clock())
    if changed:
        _log.info("the ring of signing keys changed")
    return changed
