"""The event contract (DESIGN §7): what channel and log carry."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

PATTERN: Final = "hj:revocations:*"

EventType = Literal["session.revoked", "session.expired", "session.updated", "tenant.revoked"]


def channel(tenant_id: str) -> str:
    """The pub/sub channel of one tenant; `PATTERN` follows all."""
    return f"hj:revocations:{tenant_id}"


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that ended or changed a session. Unknown fields are ignored, so the contract may grow.

    `not_after`, epoch seconds: until when an access token of the session could still pass `exp`.
    """

    id: str
    type: EventType
    tenant_id: str
    occurred_at: str
    not_after: int
    user_id: str | None = None
    session_id: str | None = None
    reason: str | None = None
    before: int | None = None
    org_id: str | None = None
    role: str | None = None
    mfa_verified: bool | None = None
    claims: dict[str, Any] | None = None
