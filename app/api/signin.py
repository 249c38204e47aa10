"""Signing in to the dashboard and out of it, with a key."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Final, Literal

from msgspec import Meta
from msgspec.structs import replace

from app.api.auth import Caller, holder_of
from app.api.call import Call, Header, Reply
from app.api.limits import rfc3339, rfc3339_ms
from app.api.operation import Operation
from app.api.schema import Request
from app.api.sides import check_caller
from app.api.views import Answer
from app.api.visit import COOKIE, Visit, caller_of, token
from app.audit import Action
from app.errors import InvalidApiKey, MissingToken
from app.model import SCOPES, Scope
from app.operators import Identity, Operator, name_of

_ATTRIBUTES: Final = "; Path=/; Secure; HttpOnly; SameSite=Strict"
_CLEARED: Final[tuple[Header, ...]] = (
    (b"set-cookie", f"{COOKIE}={_ATTRIBUTES}; Max-Age=0".encode()),
    (b"clear-site-data", b'"cache", "storage"'),
)


class SignIn(Request):
    key: Annotated[str, Meta(max_length=1_024)]


class TenantRef(Answer):
    id: str
    name: str


class DashboardSession(Answer):
    """`scopes`: of a tenant's key; an admin has none to be held to. `oidc`: renewed at the provider, not with a key.
    `now`: by the clock that the other times are by, which a browser's may differ from."""

    kind: Literal["admin", "key"]
    name: str
    tenant: TenantRef | None
    scopes: list[Scope] | None
    expires_at: str
    idle_until: str
    fresh_until: str
    now: str
    oidc: bool

    @classmethod
    def of(cls, operator: Operator, now: int) -> DashboardSession:
        key, tenant = operator.key, operator.tenant
        return cls(
            kind="admin" if key is None else "key",
            name=operator.identity.name,
            tenant=None if tenant is None else TenantRef(id=tenant.id, name=tenant.name),
            scopes=None if key is None else [scope for scope in SCOPES if key.may(scope)],
            expires_at=rfc3339(operator.expires_at),
            idle_until=rfc3339_ms(operator.idle_until),
            fresh_until=rfc3339(operator.fresh_until),
            now=rfc3339_ms(now),
            oidc=operator.identity.credential == "oidc",
        )


class Options(Answer):
    """What there is to sign in with, beside keys."""

    oidc: bool


async def options(call: Call) -> Options:
    context = call.context
    return Options(oidc=context.site.provider is not None and context.side != "public")


async def get(call: Call) -> DashboardSession:
    visit = Visit(call.context.headers, call.context.site.running, call.now)
    return DashboardSession.of(await visit.operator(), call.now)


async def create(call: Call) -> Reply:
    """A new session in place of the one that the browser had, if any: also how a sign-in is made fresh again."""
    body: SignIn = call.body
    # Where the limit on guesses looks for what was tried.
    call.context.headers[b"authorization"] = b"Bearer " + body.key.encode()
    caller = await holder_of(body.key, call.runtime, call.now) if body.key[:3] in ("sk_", "mk_") else None
    if caller is None:
        raise InvalidApiKey
    identity = call.runtime.operators.admin(body.key)
    if caller.key is not None:
        identity = Identity(credential="key", id=caller.key.id, name=caller.key.name)
    return await begin(call, identity, call.now, name_of(token(call.context.headers)))


async def begin(call: Call, identity: Identity, proven_at: int, old: str | None) -> Reply:
    """A session for whoever has proven to be this, in place of an old one, and on record."""
    operators = call.runtime.operators
    check_caller(Caller("key" if identity.credential == "key" else "admin"), call.context.side)
    value = await operators.sign_in(identity, call.now, proven_at)
    operator = await operators.find(value, call.now)
    await operators.sign_out(old)
    await _record(call, operator, "dashboard.signed_in")
    return call.reply(DashboardSession.of(operator, call.now), 201, cookie(value))


def cookie(value: str) -> Header:
    """Of a browser session; how long it is good is decided here and not there (RFC 6265bis §4.1.3: `__Host-`)."""
    return b"set-cookie", f"{COOKIE}={value}{_ATTRIBUTES}".encode()


async def delete(call: Call) -> Reply:
    """Repeatable; the browser forgets in any case."""
    value, operators = token(call.context.headers), call.runtime.operators
    with suppress(MissingToken):
        operator = await operators.find(value, call.now, use=False)
        await _record(call, operator, "dashboard.signed_out")
    await operators.sign_out(name_of(value))
    return Reply(status=204, headers=_CLEARED)


async def _record(call: Call, operator: Operator, action: Action) -> None:
    caller = caller_of(operator)
    tenant_id = None if caller.tenant is None else caller.tenant.id
    await replace(call, caller=caller).audit(action, caller.actor, tenant_id)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/dashboard/api/options",
        name="getDashboardOptions",
        summary="What there is to sign in with",
        handler=options,
        credential="none",
        answer=Options,
    ),
    Operation(
        method="GET",
        path="/dashboard/api/session",
        name="getDashboardSession",
        summary="Who is signed in",
        handler=get,
        credential="none",
        answer=DashboardSession,
        errors=(MissingToken,),
    ),
    Operation(
        method="POST",
        path="/dashboard/api/session",
        name="createDashboardSession",
        summary="Sign in with a key",
        handler=create,
        credential="none",
        status=201,
        body=SignIn,
        answer=DashboardSession,
        errors=(InvalidApiKey,),
    ),
    Operation(
        method="DELETE",
        path="/dashboard/api/session",
        name="deleteDashboardSession",
        summary="Sign out; repeatable",
        handler=delete,
        credential="none",
        status=204,
    ),
)
