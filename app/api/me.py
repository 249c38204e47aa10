"""What end users may do about their own devices, with nothing but their access token."""

from __future__ import annotations

from typing import Final

from app.api.auth import bearer
from app.api.call import Call, Context
from app.api.operation import Operation
from app.api.schema import UserSessionsQuery
from app.api.sessions import session_id
from app.api.views import Revoked, SessionPage
from app.errors import SessionNotFound, TokenExpired


async def page(call: Call) -> SessionPage:
    query: UserSessionsQuery = call.query
    found = await call.runtime.sessions.page(
        call.tenant,
        call.now,
        user_id=call.session.user_id,
        status=query.status,
        limit=query.limit,
        cursor=query.cursor,
    )
    return SessionPage.of(found, query.limit, call.session)


async def delete(call: Call) -> None:
    """Sign out a device. Another user's session is one that does not exist."""
    sessions, own = call.runtime.sessions, call.session
    if call.path["session_id"] in ("current", own.id):
        await sessions.revoke(call.tenant, own.id, "signed_out", call.now, call.by)
        return
    other = await sessions.get(call.tenant, session_id(call), call.now)
    if other.user_id != own.user_id:
        raise SessionNotFound
    await sessions.revoke(call.tenant, other.id, "user_revoked", call.now, call.by)


async def sign_out_expired(context: Context, path: dict[str, str]) -> None:
    """A browser that slept signs out with the token it has. Raises `TokenExpired` for another session than its own."""
    if path["session_id"] != "current":
        raise TokenExpired
    token = bearer(context.headers, "user")
    await context.site.running().sessions.sign_out_by_access_token(token, context.now)


async def revoke(call: Call) -> Revoked:
    own = call.session
    ended = await call.runtime.sessions.revoke_user(call.tenant, own.user_id, own.id, "user_revoked", call.now, call.by)
    return Revoked(revoked=len(ended), session_ids=ended)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/me/sessions",
        name="listMySessions",
        summary="My devices; current marks this one",
        handler=page,
        credential="user",
        query=UserSessionsQuery,
        answer=SessionPage,
    ),
    Operation(
        method="POST",
        path="/v1/me/sessions/revoke",
        name="revokeMyOtherSessions",
        summary="Sign out everywhere but here",
        handler=revoke,
        credential="user",
        answer=Revoked,
    ),
    Operation(
        method="DELETE",
        path="/v1/me/sessions/{session_id}",
        name="revokeMySession",
        summary="Sign out a device; current names this one, also with an access token that has expired",
        handler=delete,
        credential="user",
        status=204,
        errors=(SessionNotFound,),
        expired=sign_out_expired,
    ),
)
