"""Who calls: a tenant's backend, an end user, or the operator. Credentials come in one header and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from app.api import hints
from app.errors import (
    InsufficientScope,
    InvalidApiKey,
    InvalidToken,
    MissingToken,
    Problem,
    TenantMismatch,
    TenantNotFound,
)
from app.model import ApiKey, Scope, Session, Tenant

if TYPE_CHECKING:
    from app.runtime import Runtime

Credential = Literal["key", "user", "admin", "key_or_admin", "optional_key", "none"]
"""`optional_key`: a refresh token in the body is the credential; a key sent along must be good."""

_ALLOWED: Final[dict[Credential, frozenset[str]]] = {
    "key": frozenset({"key"}),
    "user": frozenset({"user"}),
    "admin": frozenset({"admin"}),
    "key_or_admin": frozenset({"key", "admin"}),
}
_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
_TENANT_ID: Final = re.compile(r"tnt_[0-9A-Z]{26}", re.ASCII)


class Caller(msgspec.Struct, frozen=True):
    """`kind` decides what is allowed, with a key also its scopes; `tenant` is what a key, a user or the operator's
    header stands for; `subject` an operator who came by way of the OIDC provider."""

    kind: Literal["key", "user", "admin", "nobody"]
    tenant: Tenant | None = None
    session: Session | None = None
    tenant_id: str | None = None
    key: ApiKey | None = None
    subject: str | None = None

    @property
    def actor(self) -> str:
        """Who it is on record: the id of an API key, `oidc:<subject>`, or `admin`."""
        if self.key is not None:
            return self.key.id
        return "admin" if self.subject is None else f"oidc:{self.subject}"


NOBODY: Final = Caller("nobody")
Holder = Callable[[int], Awaitable[Caller]]
"""Who calls, as of a moment (epoch ms), where no header says it: whoever is signed in to the dashboard."""


def is_tenant_id(text: str) -> bool:
    return _TENANT_ID.fullmatch(text) is not None


async def identify(
    credential: Credential,
    scope: Scope | None,
    headers: dict[bytes, bytes],
    running: Callable[[], Runtime],
    now: int,
    holder: Holder | None = None,
) -> Caller:
    """Raises the 401s, `InsufficientScope` and `TenantMismatch`, which never tells whether a tenant exists.
    `running` is asked once there is something to check."""
    if credential == "optional_key":
        return await _presenter(scope, headers, running, now, holder)
    if holder is None:
        token = bearer(headers, credential)
        caller = await _shown(token, credential, running(), now)
    else:
        token, caller = "", await holder(now)
    if caller.kind not in _ALLOWED[credential]:
        raise InsufficientScope(detail=token and hints.misplaced(token, credential))
    if caller.key is not None and not caller.key.may(scope):
        raise InsufficientScope(scope)
    named = headers.get(b"x-tenant-id")
    if caller.tenant is not None:
        _match(caller.tenant, named)
        return caller
    if named is not None and credential == "key_or_admin":
        tenant = await running().tenants.get(_tenant_named(named), now)
        return msgspec.structs.replace(caller, tenant=tenant)
    return caller


async def holder_of(token: str, runtime: Runtime, now: int) -> Caller:
    """Whom a credential stands for. Raises the 401s."""
    if token.startswith("sk_"):
        key, tenant = await runtime.api_keys.authenticate(token, now)
        return Caller("key", tenant, key=key)
    if token.startswith("mk_"):
        if not runtime.settings.is_admin_key(token):
            raise InvalidApiKey
        return Caller("admin")
    return Caller("user", *await runtime.sessions.authenticate(token, now))


def carries_admin_key(headers: dict[bytes, bytes], runtime: Runtime) -> bool:
    """Whether `Authorization` has the operator's key, also where a call does not look at it."""
    form = _BEARER.fullmatch(headers.get(b"authorization", b""))
    return form is not None and runtime.settings.is_admin_key(form[1].decode())


async def _shown(token: str, credential: Credential, runtime: Runtime, now: int) -> Caller:
    """`holder_of`, whose refusals say so where it is plain that the call takes another kind of credential."""
    try:
        return await holder_of(token, runtime, now)
    except Problem as refused:
        if refused.status == 401 and (hint := hints.misplaced(token, credential)):
            raise type(refused)(hint, genuine=refused.genuine) from None
        raise


async def _presenter(
    scope: Scope | None,
    headers: dict[bytes, bytes],
    running: Callable[[], Runtime],
    now: int,
    holder: Holder | None,
) -> Caller:
    """Of a refresh token, which is the credential itself. A backend may add its key or its tenant, and is then
    held to it; an expired access token that a browser sends along is not looked at."""
    named = headers.get(b"x-tenant-id")
    form = _BEARER.fullmatch(headers.get(b"authorization", b""))
    caller = NOBODY
    if holder is not None:
        caller = await holder(now)
    elif form is not None and form[1].startswith(b"sk_"):
        caller = await holder_of(form[1].decode(), running(), now)
    if caller.key is not None and caller.tenant is not None:
        if not caller.key.may(scope):
            raise InsufficientScope(scope)
        _match(caller.tenant, named)
        return msgspec.structs.replace(caller, tenant_id=caller.tenant.id)
    return NOBODY if named is None else Caller("nobody", tenant_id=named.decode("latin-1"))


def bearer(headers: dict[bytes, bytes], credential: Credential) -> str:
    """The token of `Authorization` (RFC 6750 §2.1). Raises `MissingToken`, `InvalidToken`, `InvalidApiKey`."""
    sent = headers.get(b"authorization", b"")
    if sent[:6].lower() != b"bearer":
        raise MissingToken(hints.absent(headers, credential))
    form = _BEARER.fullmatch(sent)
    if form is None:
        raise (InvalidToken if credential == "user" else InvalidApiKey)(hints.malformed(credential))
    return form[1].decode()


def _match(tenant: Tenant, named: bytes | None) -> None:
    if named is not None and named != tenant.id.encode():
        raise TenantMismatch


def _tenant_named(named: bytes) -> str:
    text = named.decode("latin-1")
    if not is_tenant_id(text):
        raise TenantNotFound
    return text
