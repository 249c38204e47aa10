"""Answers, except the session itself, which is `schema.SessionView`."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from app import durations
from app.api.limits import rfc3339
from app.api.schema import SessionView
from app.errors import SessionNotFound
from app.model import SCOPES, ApiKey, Scope, Session, Tenant
from app.sessions import Issued, SessionList, Verification


class Answer(msgspec.Struct, kw_only=True):
    """What this service says."""


class IssuedView(Answer):
    """`expires_in`: seconds, of the access token."""

    session: SessionView
    access_token: str
    expires_in: int
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105
    evicted: list[str] = []

    @classmethod
    def of(cls, issued: Issued) -> IssuedView:
        return cls(
            session=SessionView.of(issued.session),
            access_token=issued.access_token,
            expires_in=issued.expires_in,
            refresh_token=issued.refresh_token or "",
            evicted=issued.evicted,
        )


class UpdatedView(Answer):
    """With a token for the backend that serves the user; an operator gets none, who would be the user with it."""

    session: SessionView
    access_token: str | UnsetType = UNSET
    expires_in: int | UnsetType = UNSET
    token_type: str | UnsetType = UNSET

    @classmethod
    def of(cls, issued: Issued, with_token: bool) -> UpdatedView:
        if not with_token:
            return cls(session=SessionView.of(issued.session))
        return cls(
            session=SessionView.of(issued.session),
            access_token=issued.access_token,
            expires_in=issued.expires_in,
            token_type="Bearer",  # noqa: S106
        )


class Updated(Answer):
    updated: int
    session_ids: list[str]


class WhyInvalid(Answer):
    code: str
    message: str


class VerificationView(Answer):
    """`payload`: the token's claims. All four are always there."""

    valid: bool
    payload: dict[str, Any] | None = None
    session: SessionView | None = None
    error: WhyInvalid | None = None

    @classmethod
    def unknown(cls) -> VerificationView:
        """For what has not even the form of a session id."""
        return cls(valid=False, error=WhyInvalid(code=SessionNotFound.code, message=SessionNotFound.title))

    @classmethod
    def of(cls, found: Verification) -> VerificationView:
        if not found.valid:
            return cls(valid=False, error=WhyInvalid(code=found.code or "", message=found.message or ""))
        session = None if found.session is None else SessionView.of(found.session)
        return cls(valid=True, payload=found.claims, session=session)


class Pagination(Answer):
    limit: int
    has_more: bool
    next_cursor: str | None = None


class SessionPage(Answer):
    data: list[SessionView]
    pagination: Pagination

    @classmethod
    def of(cls, found: SessionList, limit: int, own: Session | None = None) -> SessionPage:
        """With `own` each session says whether it is the caller's current one."""
        return cls(
            data=[SessionView.of(session, None if own is None else session.id == own.id) for session in found.sessions],
            pagination=Pagination(limit=limit, has_more=found.has_more, next_cursor=found.next_cursor),
        )


class Revoked(Answer):
    """`session_ids` stays empty when a whole tenant was revoked."""

    revoked: int
    session_ids: list[str]


class Accepted(Answer):
    accepted: int


class ConfigView(Answer):
    session_duration: str
    access_token_ttl: str
    max_sessions_per_user: int | None
    idle_timeout: str | None
    on_limit: str
    refresh_grace: str

    @classmethod
    def of(cls, tenant: Tenant) -> ConfigView:
        policy = tenant.policy
        return cls(
            session_duration=durations.text(policy.session_duration_s),
            access_token_ttl=durations.text(policy.access_token_ttl_s),
            max_sessions_per_user=policy.max_sessions_per_user,
            idle_timeout=None if policy.idle_timeout_s is None else durations.text(policy.idle_timeout_s),
            on_limit=policy.on_limit,
            refresh_grace=durations.text(policy.refresh_grace_s),
        )


class TenantView(Answer):
    id: str
    name: str
    created_at: str
    config: ConfigView

    @classmethod
    def of(cls, tenant: Tenant) -> TenantView:
        return cls(
            id=tenant.id,
            name=tenant.name,
            created_at=rfc3339(tenant.created_at),
            config=ConfigView.of(tenant),
        )


class TenantPage(Answer):
    data: list[TenantView]
    pagination: Pagination


class ApiKeyView(Answer):
    """`last_used_at` to the minute. `key` is the secret itself: in the answer to its creation, and never again."""

    id: str
    tenant_id: str
    name: str
    hint: str
    scopes: list[Scope]
    created_at: str
    last_used_at: str | None
    expires_at: str | None
    revoked_at: str | None
    key: str | UnsetType = UNSET

    @classmethod
    def new(cls, key: ApiKey, text: str) -> ApiKeyView:
        return cls.of(key, None, text)

    @classmethod
    def of(cls, key: ApiKey, used: int | None, text: str | None = None) -> ApiKeyView:
        return cls(
            id=key.id,
            tenant_id=key.tenant_id,
            name=key.name,
            hint=key.hint,
            scopes=[scope for scope in SCOPES if key.may(scope)],
            created_at=rfc3339(key.created_at),
            last_used_at=None if used is None else rfc3339(used),
            expires_at=None if key.expires_at is None else rfc3339(key.expires_at),
            revoked_at=None if key.revoked_at is None else rfc3339(key.revoked_at),
            key=UNSET if text is None else text,
        )


class ApiKeyList(Answer):
    data: list[ApiKeyView]


class SigningKeyView(Answer):
    kid: str
    state: str
    created_at: str
    sign_from: str


class SigningKeyList(Answer):
    data: list[SigningKeyView]


class Rotated(Answer):
    """The key that will sign once every JWKS cache can know it."""

    kid: str


class Health(Answer):
    status: str


class Jwks(Answer):
    keys: list[dict[str, str]]


class ServerMetadata(Answer):
    """RFC 8414 §2."""

    issuer: str
    jwks_uri: str
    token_endpoint: str
    response_types_supported: list[str]
    grant_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    service_documentation: str
