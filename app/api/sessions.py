"""What a tenant's backend asks of sessions."""

from __future__ import annotations

from typing import Any, Final

from app.api import strict_json
from app.api.call import Call
from app.api.operation import Operation
from app.api.request import idempotency_key
from app.api.schema import (
    Activity,
    CreateSession,
    EndSession,
    Refresh,
    RevokeQuery,
    RevokeSessions,
    SessionsQuery,
    SessionView,
    UpdateSession,
    UserPath,
    Verify,
)
from app.api.sides import PUBLIC
from app.api.views import Accepted, IssuedView, Revoked, SessionPage, Updated, UpdatedView, VerificationView
from app.audit import Action
from app.errors import (
    Conflict,
    IdempotencyKeyReused,
    RefreshTokenInvalid,
    RefreshTokenReused,
    SessionEnded,
    SessionExpired,
    SessionLimitReached,
    SessionNotFound,
    SessionRevoked,
    StoreUnavailable,
    TenantNotFound,
    TooManyFailures,
)
from app.model import DAY, HOUR, is_session_id


async def create(call: Call) -> IssuedView:
    body: CreateSession = call.body
    key = idempotency_key(call.context.headers)
    return IssuedView.of(await call.runtime.sessions.create(call.tenant, body.new_session(), call.now, key, call.by))


async def refresh(call: Call) -> IssuedView:
    body: Refresh = call.body
    issued = await call.runtime.sessions.refresh(body.refresh_token, call.now, call.caller.tenant_id)
    if issued.regressed:
        call.context.site.metrics.regressed()
    return IssuedView.of(issued)


async def end(call: Call) -> None:
    body: EndSession = call.body
    await call.runtime.sessions.sign_out(body.refresh_token, call.now)


async def verify(call: Call) -> VerificationView:
    body: Verify = call.body
    if body.session_id is not None and not is_session_id(body.session_id):
        return VerificationView.unknown()
    found = await call.runtime.sessions.verify(call.tenant, call.now, token=body.token, session_id=body.session_id)
    return VerificationView.of(found)


async def page(call: Call) -> SessionPage:
    query: SessionsQuery = call.query
    found = await call.runtime.sessions.page(
        call.tenant,
        call.now,
        user_id=query.user_id,
        status=query.status,
        limit=query.limit,
        cursor=query.cursor,
    )
    return SessionPage.of(found, query.limit)


async def get(call: Call) -> SessionView:
    return SessionView.of(await call.runtime.sessions.get(call.tenant, session_id(call), call.now))


async def update(call: Call) -> UpdatedView:
    body: UpdateSession = call.body
    issued = await call.runtime.sessions.update(call.tenant, session_id(call), body.changes(), call.now, call.by)
    await _record(call, "session.updated", session_id(call), {"changed": [*body.changes()]})
    return UpdatedView.of(issued, with_token=not call.by_operator)


async def update_user(call: Call) -> Updated:
    body: UpdateSession = call.body
    user_id = strict_json.shaped({"user_id": call.path["user_id"]}, UserPath).user_id
    changed = await call.runtime.sessions.update_user(call.tenant, user_id, body.changes(), call.now, call.by)
    await _record(call, "sessions.updated", user_id, {"changed": [*body.changes()], "updated": len(changed)})
    return Updated(updated=len(changed), session_ids=changed)


async def delete(call: Call) -> None:
    query: RevokeQuery = call.query
    reason = query.reason or ("admin" if call.caller.kind == "admin" else "revoked")
    await call.runtime.sessions.revoke(call.tenant, session_id(call), reason, call.now, call.by)
    await _record(call, "session.revoked", session_id(call), {"reason": reason})


async def revoke(call: Call) -> Revoked:
    body: RevokeSessions = call.body
    if body.user_id is None:
        call.confirm(call.tenant.name)
        ended_all = await call.runtime.sessions.revoke_all(call.tenant, call.now, call.by)
        await call.audit("sessions.revoked", call.tenant.id, call.tenant.id, after={"revoked": ended_all})
        return Revoked(revoked=ended_all, session_ids=[])
    ended = await call.runtime.sessions.revoke_user(
        call.tenant, body.user_id, body.except_session_id, body.reason or "user_revoked", call.now, call.by
    )
    await _record(call, "sessions.revoked", body.user_id, {"revoked": len(ended)})
    return Revoked(revoked=len(ended), session_ids=ended)


def tenant_wide(body: RevokeSessions) -> bool:
    return body.all


async def activity(call: Call) -> Accepted:
    body: Activity = call.body
    return Accepted(accepted=await call.runtime.sessions.activity(call.tenant, body.session_ids, call.now))


async def _record(call: Call, action: Action, target: str, after: dict[str, Any]) -> None:
    """What operators do to a user's sessions. A backend's own calls are too many for it, and they have their events."""
    if call.by_operator:
        await call.audit(action, target, call.tenant.id, after=after)


def session_id(call: Call) -> str:
    """From the path. What has not the form of an id names nothing: raises `SessionNotFound`."""
    text = call.path["session_id"]
    if not is_session_id(text):
        raise SessionNotFound
    return text


OPERATIONS: Final = (
    Operation(
        method="POST",
        path="/v1/sessions/verify",
        name="verifySession",
        summary="Is this access token, or this session, good now? The answer is 200 also when it is not: see `valid`",
        handler=verify,
        credential="key",
        scope="sessions:verify",
        body=Verify,
        answer=VerificationView,
    ),
    Operation(
        method="POST",
        path="/v1/sessions",
        name="createSession",
        summary="Begin a session after a sign-in",
        handler=create,
        credential="key",
        scope="sessions:write",
        status=201,
        body=CreateSession,
        answer=IssuedView,
        errors=(SessionLimitReached, SessionEnded, IdempotencyKeyReused, Conflict),
        repeatable=True,
    ),
    Operation(
        method="GET",
        path="/v1/sessions",
        name="listSessions",
        summary="A user's or the tenant's sessions, newest first; active ones unless status says otherwise",
        handler=page,
        credential="key_or_admin",
        scope="sessions:read",
        query=SessionsQuery,
        answer=SessionPage,
        errors=(TenantNotFound,),
    ),
    Operation(
        method="POST",
        path="/v1/sessions/refresh",
        name="refreshSession",
        summary="Exchange a refresh token for its successor and a new access token",
        handler=refresh,
        credential="optional_key",
        scope="sessions:write",
        body=Refresh,
        answer=IssuedView,
        errors=(
            RefreshTokenInvalid,
            RefreshTokenReused,
            SessionRevoked,
            SessionExpired,
            IdempotencyKeyReused,
            Conflict,
        ),
        repeatable=True,
        kept_ms=HOUR,
    ),
    Operation(
        method="POST",
        path="/v1/sessions/end",
        name="endSession",
        summary="Sign out with the refresh token, which is the credential; repeatable, and also when it has expired",
        handler=end,
        credential="none",
        status=204,
        body=EndSession,
        errors=(RefreshTokenInvalid, TooManyFailures, StoreUnavailable),
        side=PUBLIC,
    ),
    Operation(
        method="POST",
        path="/v1/sessions/revoke",
        name="revokeSessions",
        summary="End all sessions of a user, or of the tenant",
        handler=revoke,
        credential="key_or_admin",
        scope="sessions:write",
        body=RevokeSessions,
        answer=Revoked,
        errors=(TenantNotFound, IdempotencyKeyReused, Conflict),
        repeatable=True,
        kept_ms=DAY,
        step_up=tenant_wide,
    ),
    Operation(
        method="POST",
        path="/v1/sessions/activity",
        name="reportActivity",
        summary="Sessions that a local verifier saw in use",
        handler=activity,
        credential="key",
        scope="sessions:verify",
        body=Activity,
        answer=Accepted,
    ),
    Operation(
        method="GET",
        path="/v1/sessions/{session_id}",
        name="getSession",
        summary="One session, alive or ended",
        handler=get,
        credential="key_or_admin",
        scope="sessions:read",
        answer=SessionView,
        errors=(
            TenantNotFound,
            SessionNotFound,
        ),
    ),
    Operation(
        method="PATCH",
        path="/v1/sessions/{session_id}",
        name="updateSession",
        summary="Change what the tokens of a living session say; null clears",
        handler=update,
        credential="key_or_admin",
        scope="sessions:write",
        body=UpdateSession,
        answer=UpdatedView,
        errors=(TenantNotFound, SessionNotFound, SessionEnded),
    ),
    Operation(
        method="POST",
        path="/v1/users/{user_id}/claims",
        name="updateUserSessions",
        summary="Change what the tokens of all living sessions of a user say; null clears",
        handler=update_user,
        credential="key_or_admin",
        scope="sessions:write",
        body=UpdateSession,
        answer=Updated,
        errors=(TenantNotFound,),
    ),
    Operation(
        method="DELETE",
        path="/v1/sessions/{session_id}",
        name="revokeSession",
        summary="End one session; repeatable",
        handler=delete,
        credential="key_or_admin",
        scope="sessions:write",
        status=204,
        query=RevokeQuery,
        errors=(
            TenantNotFound,
            SessionNotFound,
        ),
    ),
)
