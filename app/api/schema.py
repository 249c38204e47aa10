"""Requests and answers, as structs. Requests refuse names they do not know; `SessionView.of` is the only way in
which a session leaves this service."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app import durations
from app.api.limits import (
    COUNTRY,
    IP_ADDRESS,
    MAX_CLAIMS,
    MAX_CLAIMS_BYTES,
    MAX_METADATA_BYTES,
    canonical_country,
    canonical_ip,
    check_claims,
    check_metadata,
    check_session_id,
    known_word,
    rfc3339,
)
from app.apikeys import LIFE_S, OVERLAP_S
from app.client.claims import MAX_DEPTH, RESERVED
from app.errors import ValidationError
from app.model import MAX_SESSIONS_PER_USER, Reason, Scope, Session, Status
from app.sessions import NewSession
from app.tenants import BOUNDS_S

MAX_USER_AGENT: Final = 512
MAX_ACTIVITY: Final = 500
PLANES: Final = range(0, 0x110000, 0x10000)
SESSION_ID: Final = "ses_0[0-9A-HJKMNP-TV-Z]{25}"

# `$(?!\n)` is the end of the text for Python, whose `$` alone would let a last line break pass.
Identifier = Annotated[str, Meta(pattern=r"^[!-~]{1,128}$(?!\n)", description="1-128 visible ASCII characters")]
NONCHARACTERS: Final = "\ufdd0-\ufdef" + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in PLANES)
USER_ID: Final = rf"[^\x00-\x1f\x7f-\x9f{NONCHARACTERS}]{{1,255}}"
"""Unicode but control characters and noncharacters; JSON and paths that are not UTF-8 are refused before."""
UserId = Annotated[
    str,
    Meta(
        pattern=rf"^{USER_ID}\Z",
        description="1-255 characters of Unicode, no control characters or noncharacters, kept as they are",
    ),
]
UserAgent = Annotated[str, Meta(description=f"kept up to {MAX_USER_AGENT} characters")]
IpAddress = Annotated[str, Meta(max_length=128, description=IP_ADDRESS)]
Country = Annotated[str, Meta(max_length=32, description=COUNTRY)]
DeviceType = Annotated[str, Meta(pattern=r"^[ -~]{0,32}$(?!\n)", description="up to 32 printable ASCII characters")]
Name = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,128}$(?!\n)", description="1-128 characters, no control characters")
]
CustomClaims = Annotated[
    dict[str, Any],
    Meta(
        description=f"up to {MAX_CLAIMS} names and {MAX_CLAIMS_BYTES} bytes of JSON, nested up to {MAX_DEPTH} deep; no "
        f"name of these: {' '.join(sorted(RESERVED))}",
        extra_json_schema={"maxProperties": MAX_CLAIMS},
    ),
]
Metadata = Annotated[dict[str, Any], Meta(description=f"up to {MAX_METADATA_BYTES} bytes of JSON")]
AnyId = Annotated[str, Meta(max_length=64, examples=["ses_01HQ3V9K7M2N4P6R8T0W2Y4ABC"])]
SessionId = Annotated[AnyId, Meta(extra_json_schema={"pattern": f"^{SESSION_ID}$"})]
Limit = Annotated[int, Meta(ge=1, le=100)]
Cursor = Annotated[str, Meta(max_length=256, extra_json_schema={"pattern": "^[A-Za-z0-9_-]+$"})]
Duration = (
    Annotated[
        str,
        Meta(
            max_length=16,
            examples=["30s", "15m", "1h", "30d"],
            extra_json_schema={"pattern": "^([1-9][0-9]{0,8}[smhd]|0s)$"},
        ),
    ]
    | Annotated[int, Meta(description="seconds", extra_json_schema={"minimum": 0, "maximum": 10**9})]
)
RevokeReason = Literal["signed_out", "revoked", "admin", "user_revoked"]


def _within(setting: str) -> Meta:
    """The bounds of a duration in a policy, in words."""
    return Meta(description=durations.within(BOUNDS_S[setting]))


class Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What callers send."""


class CreateSession(Request):
    user_id: UserId
    org_id: Identifier | None = None
    role: Identifier | None = None
    mfa_verified: bool | None = None
    user_agent: UserAgent | None = None
    ip_address: IpAddress | None = None
    country: Country | None = None
    device_type: DeviceType | None = None
    claims: CustomClaims | None = None
    metadata: Metadata | None = None

    def new_session(self) -> NewSession:
        """Raises `ValidationError`."""
        check_claims(self.claims)
        check_metadata(self.metadata)
        return NewSession(
            user_id=self.user_id,
            org_id=self.org_id,
            role=self.role,
            mfa_verified=self.mfa_verified,
            user_agent=(self.user_agent or "").strip()[:MAX_USER_AGENT] or None,
            ip_address=None if self.ip_address is None else canonical_ip(self.ip_address),
            country=None if self.country is None else canonical_country(self.country),
            device_type=known_word(self.device_type),
            claims=self.claims,
            metadata=self.metadata,
        )


class UpdateSession(Request):
    """Absent: unchanged. `null`: cleared."""

    org_id: Identifier | UnsetType | None = UNSET
    role: Identifier | UnsetType | None = UNSET
    mfa_verified: bool | UnsetType | None = UNSET
    claims: CustomClaims | UnsetType | None = UNSET
    metadata: Metadata | UnsetType | None = UNSET

    def changes(self) -> dict[str, Any]:
        """Raises `ValidationError`."""
        found = _given(self)
        check_claims(found.get("claims"))
        check_metadata(found.get("metadata"))
        return found


class UserPath(Request):
    """What a path says."""

    user_id: UserId


class Refresh(Request):
    refresh_token: Annotated[str, Meta(max_length=2_048, extra_json_schema={"pattern": "^rt_[A-Za-z0-9_-]+$"})]


class EndSession(Request):
    refresh_token: Annotated[str, Meta(max_length=1_024, extra_json_schema={"pattern": "^rt_[A-Za-z0-9_-]+$"})]


class Verify(Request):
    """Exactly one of both."""

    token: Annotated[str, Meta(max_length=16_384)] | None = None
    session_id: AnyId | None = None

    def __post_init__(self) -> None:
        if (self.token is None) == (self.session_id is None):
            raise ValidationError("Exactly one of token and session_id is needed", field="token")


class RevokeSessions(Request):
    """Exactly one of `user_id` and `all: true`."""

    user_id: UserId | None = None
    all: bool = False
    except_session_id: SessionId | None = None
    reason: RevokeReason | None = None

    def __post_init__(self) -> None:
        if (self.user_id is not None) == self.all:
            raise ValidationError("Exactly one of user_id and all: true is needed", field="user_id")
        if self.all and (self.except_session_id is not None or self.reason is not None):
            raise ValidationError("except_session_id and reason belong to user_id", field="all")
        if self.except_session_id is not None:
            check_session_id(self.except_session_id, "except_session_id")


class Activity(Request):
    session_ids: Annotated[list[SessionId], Meta(min_length=1, max_length=MAX_ACTIVITY)]

    def __post_init__(self) -> None:
        for place, session_id in enumerate(self.session_ids):
            check_session_id(session_id, f"session_ids[{place}]")


class ConfigChange(Request):
    """Durations as strings or as whole seconds. Absent: unchanged."""

    session_duration: Annotated[Duration | UnsetType, _within("session_duration")] = UNSET
    access_token_ttl: Annotated[Duration | UnsetType, _within("access_token_ttl")] = UNSET
    max_sessions_per_user: (
        Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": MAX_SESSIONS_PER_USER})] | UnsetType | None
    ) = UNSET
    idle_timeout: Annotated[Duration | UnsetType | None, _within("idle_timeout")] = UNSET
    on_limit: Literal["evict", "reject"] | UnsetType = UNSET
    refresh_grace: Annotated[Duration | UnsetType, _within("refresh_grace")] = UNSET

    def changes(self) -> dict[str, Any]:
        return _given(self)


class TenantName(Request):
    name: Name


class NewApiKey(Request):
    name: Name
    mode: Literal["live", "test"] = "live"
    scopes: Annotated[list[Scope], Meta(min_length=1, description="absent: all")] | None = None
    expires_in: Annotated[Duration | None, Meta(description=durations.within(LIFE_S))] = None


class RotateApiKey(Request):
    """`overlap`: for how long the old key goes on."""

    overlap: Annotated[Duration, Meta(description=durations.within(OVERLAP_S))] = "1d"


class PageQuery(Request):
    limit: Limit = 20
    cursor: Cursor | None = None


class UserSessionsQuery(PageQuery):
    status: Literal["active", "revoked", "expired", "all"] | None = None


class SessionsQuery(UserSessionsQuery):
    user_id: UserId | None = None


class RevokeQuery(Request):
    reason: Annotated[RevokeReason, Meta(description="absent: revoked, or admin if an operator asks")] | None = None


def _given(request: Request) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(request).items() if value is not UNSET}


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """Eleven fields always, `null` where unknown; the others only where they apply."""

    id: str
    user_id: str
    tenant_id: str
    status: Status
    user_agent: str | None
    ip_address: str | None
    country: str | None
    device_type: str | None
    created_at: str
    last_active_at: str
    expires_at: str
    org_id: str | UnsetType = UNSET
    role: str | UnsetType = UNSET
    mfa_verified: bool | UnsetType = UNSET
    claims: dict[str, Any] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    current: bool | UnsetType = UNSET
    ended_at: str | UnsetType = UNSET
    end_reason: Reason | UnsetType = UNSET

    @classmethod
    def of(cls, session: Session, current: bool | None = None) -> SessionView:
        return cls(
            id=session.id,
            user_id=session.user_id,
            tenant_id=session.tenant_id,
            status=session.status,
            user_agent=session.user_agent,
            ip_address=session.ip_address,
            country=session.country,
            device_type=session.device_type,
            created_at=rfc3339(session.created_at),
            last_active_at=rfc3339(session.last_active_at),
            expires_at=rfc3339(session.expires_at),
            org_id=UNSET if session.org_id is None else session.org_id,
            role=UNSET if session.role is None else session.role,
            mfa_verified=UNSET if session.mfa_verified is None else session.mfa_verified,
            claims=session.claims or UNSET,
            metadata=session.metadata or UNSET,
            current=UNSET if current is None else current,
            ended_at=UNSET if session.ended_at is None else rfc3339(session.ended_at),
            end_reason=UNSET if session.end_reason is None or session.end_reason == "unknown" else session.end_reason,
        )
