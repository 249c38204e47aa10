"""Keys that the operator administers: API keys of tenants, and the ring that signs access tokens."""

from __future__ import annotations

import re
from typing import Final

from app.api.call import Call
from app.api.limits import rfc3339
from app.api.operation import Operation
from app.api.schema import NewApiKey
from app.api.tenants import tenant_id
from app.api.views import ApiKeyList, ApiKeyView, Rotated, SigningKeyList, SigningKeyView
from app.errors import ApiKeyNotFound, Conflict, SigningKeyNotFound, TenantNotFound

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


async def api_keys(call: Call) -> ApiKeyList:
    found = await call.runtime.tenants.api_keys(tenant_id(call), call.now)
    return ApiKeyList(data=[ApiKeyView.of(key) for key in found])


async def create_api_key(call: Call) -> ApiKeyView:
    body: NewApiKey = call.body
    key, text = await call.runtime.tenants.create_key(tenant_id(call), body.name, call.now, body.mode)
    return ApiKeyView.of(key, text)


async def revoke_api_key(call: Call) -> None:
    key_id = call.path["key_id"]
    if not _ID.fullmatch(key_id):
        raise ApiKeyNotFound
    await call.runtime.tenants.revoke_key(tenant_id(call), key_id, call.now)


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
    return Rotated(kid=await call.runtime.keys.rotate(call.now))


async def remove_signing_key(call: Call) -> None:
    kid = call.path["kid"]
    if not _ID.fullmatch(kid):
        raise SigningKeyNotFound
    await call.runtime.keys.remove(kid, call.now)


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
        errors=(TenantNotFound,),
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
    ),
)
