"""Every row of the API. The order of the paths with a name in them is the order of the routes."""

from __future__ import annotations

from typing import Final

from app.api import audit, embed, events, keys, me, overview, public, sessions, tenants, timeline
from app.api.operation import Operation

OPERATIONS: Final[tuple[Operation, ...]] = (
    *sessions.OPERATIONS,
    *timeline.OPERATIONS,
    *events.OPERATIONS,
    *me.OPERATIONS,
    *tenants.OPERATIONS,
    *overview.OPERATIONS,
    *keys.OPERATIONS,
    *audit.OPERATIONS,
    *public.OPERATIONS,
    *embed.OPERATIONS,
)
