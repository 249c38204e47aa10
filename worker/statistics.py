"""Statistics: what the scripts have counted in each shard, added up per tenant and hour."""

from __future__ import annotations

from typing import Any

from app.runtime import Runtime


async def collect_statistics(ctx: dict[str, Any]) -> None:
    """A killed worker may lose the counts of one call; nothing but statistics depends on them."""
    runtime: Runtime = ctx["runtime"]
    await runtime.upkeep.collect()
