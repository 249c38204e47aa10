"""Builders with defaults, so that a test says only what matters to it."""

from __future__ import annotations

import secrets
from typing import Any

from app.model import DAY, SECOND, Session, new_session_id
from app.store.base import Due, Rotation, SessionStore


def a_tenant() -> str:
    return "tnt_" + secrets.token_hex(13).upper()


def a_session(tenant: str, now: int, user: str = "u1", life: int = 30 * DAY, **more: Any) -> Session:
    sid, expires = new_session_id(tenant, user, now), (now + life) // SECOND * SECOND
    return Session(id=sid, tenant_id=tenant, user_id=user, expires_at=expires, last_active_at=now, **more)


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
