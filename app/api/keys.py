"""Keys that the operator administers: API keys of tenants, and the ring that signs access tokens."""

from __future__ import annotations

import re
from typing import Any, Final

from app.api.call import Call
from app.api.limits import rfc3339
from app.api.operation import Operation, always
from app.api.schema import NewApiKey, RotateApiKey
from app.api.tenants import tenant_id
from app.api.views import ApiKeyList, ApiKeyView, Rotated, SigningKeyList, SigningKeyView
from app.errors import ApiKeyNotFound, Conflict, InsufficientScope, SigningKeyNotFound, TenantNotFound

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


async def api_keys(call: Call) -> ApiKeyList:
    found = await call.runtime.api_keys.all(tenant_id(call), call.now)
    return ApiKeyList(data=[ApiKeyView.of(key, used) for key, used in found])


async def create_api_key(call: Call) -> ApiKeyView:
    body: NewApiKey = call.body
    scopes = None if body.scopes is None else frozenset(body.scopes)
    made = await call.runtime.api_keys.create(tenant_id(call), body.name, call.now, body.mode, scopes, body.expires_in)
    view = ApiKeyView.new(*made)
    await call.audit("api_key.created", view.id, view.tenant_id, after=_terms(view))
    return view


async def rotate_api_key(call: Call) -> ApiKeyView:
    return await _rotate(call, tenant_id(call), _key_id(call))


async def rotate_own_api_key(call: Call) -> ApiKeyView:
    if call.caller.key is None:
        raise InsufficientScope("keys:rotate")
    return await _rotate(call, call.tenant.id, call.caller.key.id)


async def _rotate(call: Call, tenant: str, old: str) -> ApiKeyView:
    body: RotateApiKey = call.body
    view = ApiKeyView.new(*await call.runtime.api_keys.rotate(tenant, old, body.overlap, call.now))
    await call.audit("api_key.rotated", old, view.tenant_id, after={"successor": view.id, **_terms(view)})
    return view


async def revoke_api_key(call: Call) -> None:
    await call.runtime.api_keys.revoke(tenant_id(call), _key_id(call), call.now)
    await call.audit("api_key.revoked", _key_id(call), tenant_id(call))


async def signing_keys(call: Call) -> SigningKeyList:
    return SigningKeyList(
        data=[
            SigningKeyView(
                kid=key["kid"],
                state=key["state"],
                created_at=rfc3339(key["created_at"]),
                sign_from=rfc3339(key["sign_from"]),
            )
            for key in await call.runtime.keys.states(call.now)
        ]
    )


async def rotate_signing_key(call: Call) -> Rotated:
    kid = await call.runtime.keys.rotate(call.now)
    await call.audit("signing_key.rotated", kid)
    return Rotated(kid=kid)


async def remove_signing_key(call: Call) -> None:
    kid = call.path["kid"]
    if not _ID.fullmatch(kid):
        raise SigningKeyNotFound
    await call.runtime.keys.remove(kid, call.now)
    await call.audit("signing_key.removed", kid)


def _terms(view: ApiKeyView) -> dict[str, Any]:
    """What is put on record of a new key: all but the key."""
    return {"name": view.name, "hint": view.hint, "scopes": view.scopes, "expires_at": view.expires_at}


def _key_id(call: Call) -> str:
    """From the path. Raises `ApiKeyNotFound` for what has not the form of an id."""
    text = call.path["key_id"]
    if not _ID.fullmatch(text):
        raise ApiKeyNotFound
    return text


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/admin/tenants/{tenant_id}/api-keys",
        name="listApiKeys",
        summary="A tenant's API keys, without their secrets",
        handler=api_keys,
        credential="admin",
        answer=ApiKeyList,
        errors=(TenantNotFound,),
    ),
    Operation(
        method="POST",
        path="/v1/admin/tenants/{tenant_id}/api-keys",
        name="createApiKey",
        summary="Make an API key; this answer alone shows it",
        handler=create_api_key,
        credential="admin",
        status=201,
        body=NewApiKey,
        answer=ApiKeyView,
        errors=(TenantNotFound, Conflict),
        step_up=always,
    ),
    Operation(
        method="POST",
        path="/v1/admin/tenants/{tenant_id}/api-keys/{key_id}/rotate",
        name="rotateApiKey",
        summary="Make a key's successor, which this answer alone shows; the old key goes on for the overlap",
        handler=rotate_api_key,
        credential="admin",
        status=201,
        body=RotateApiKey,
        answer=ApiKeyView,
        errors=(TenantNotFound, ApiKeyNotFound, Conflict),
        step_up=always,
    ),
    Operation(
        method="POST",
        path="/v1/admin/api-keys/current/rotate",
        name="rotateOwnApiKey",
        summary="Make the successor of the key that asks; this answer alone shows it, the old one goes on for a while",
        handler=rotate_own_api_key,
        credential="key",
        scope="keys:rotate",
        status=201,
        body=RotateApiKey,
        answer=ApiKeyView,
        errors=(ApiKeyNotFound, Conflict),
        step_up=always,
    ),
    Operation(
        method="DELETE",
        path="/v1/admin/tenants/{tenant_id}/api-keys/{key_id}",
        name="revokeApiKey",
        summary="Revoke an API key; repeatable",
        handler=revoke_api_key,
        credential="admin",
        status=204,
        errors=(TenantNotFound, ApiKeyNotFound),
        step_up=always,
    ),
    Operation(
        method="GET",
        path="/v1/admin/signing-keys",
        name="listSigningKeys",
        summary="The key ring, newest first",
        handler=signing_keys,
        credential="admin",
        answer=SigningKeyList,
    ),
    Operation(
        method="POST",
        path="/v1/admin/signing-keys/rotate",
        name="rotateSigningKey",
        summary="Publish the next signing key",
        handler=rotate_signing_key,
        credential="admin",
        answer=Rotated,
        errors=(Conflict,),
        step_up=always,
    ),
    Operation(
        method="DELETE",
        path="/v1/admin/signing-keys/{kid}",
        name="removeSigningKey",
        summary="Emergency: what this key signed is refused",
        handler=remove_signing_key,
        credential="admin",
        status=204,
        errors=(SigningKeyNotFound, Conflict),
        step_up=always,
    ),
)
