"""The event contract (DESIGN §7): what channel and log carry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from .shards import base32

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


def event_of(shard: int, entry: list[Any]) -> Event:
    """A stream entry as the event that was published for it (DESIGN §7)."""
    stream_id, flat = entry
    fields = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
    said: dict[str, Any] = msgspec.json.decode("{" + fields["c"] + "}") if "c" in fields else {}
    return Event(
        id=f"{base32(shard, 2)}-{stream_id.decode()}",
        type=fields["t"],
        tenant_id=fields["n"],
        user_id=fields.get("u"),
        session_id=fields.get("s"),
        reason=fields.get("r"),
        occurred_at=_rfc3339(int(fields["at"])),
        not_after=int(fields["na"]),
        before=int(fields["b"]) if "b" in fields else None,
        **said,
    )


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
