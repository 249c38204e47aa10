"""Builders with defaults, so that a test says only what matters to it."""

from __future__ import annotations

import secrets
from typing import Any

from app.model import DAY, SECOND, Session, new_session_id
from app.store import keyspace
from app.store.base import Due, Rotation, SessionStore
from app.store.scripts import SCRIPTS
from app.store.wire import Script, Wire

_ANNOUNCE = Script.of(
    "announce",
    SCRIPTS["revoke"].text.split("-- End one session.")[0]
    + """
for i = 1, tonumber(ARGV[2]) do
  announce({events = KEYS[1], eventids = KEYS[2]}, '00', ARGV[1], tonumber(ARGV[3]),
    {'t', 'session.revoked', 'n', ARGV[1], 's', 's', 'r', 'revoked', 'at', '1', 'na', '2'}, '}')
end
""",
)


def a_tenant() -> str:
    return "tnt_" + secrets.token_hex(13).upper()


def a_session(tenant: str, now: int, user: str = "u1", life: int = 30 * DAY, **more: Any) -> Session:
    sid, expires = new_session_id(tenant, user, now), (now + life) // SECOND * SECOND
    return Session(id=sid, tenant_id=tenant, user_id=user, expires_at=expires, last_active_at=now, **more)


async def announce(wire: Wire, shard: int, tenant: str, count: int = 1, retention: int = DAY) -> None:
    """Write events of one millisecond with the function that every script has for it."""
    await wire.script(
        _ANNOUNCE, [keyspace.events(shard), keyspace.event_ids(shard, tenant)], [tenant, count, retention]
    )


async def all_due(store: SessionStore, at: int) -> list[Due]:
    """Everything whose turn has come."""
    return await store.owners([*await store.due(at, 500)])


def a_rotation(
    session: Session, presented: bytes, generation: int, successor: bytes, branch: bytes, number: int | None = None
) -> Rotation:
    """`number`: the successor's generation where it does not follow the presented one."""
    return Rotation(
        session_id=session.id,
        tenant_id=session.tenant_id,
        user_id=session.user_id,
        generation=generation,
        digest=presented.ljust(16),
        number=generation + 1 if number is None else number,
        successor=successor.ljust(16),
        branch=branch,
    )
