"""What the operator and the tenants themselves administer: tenants, policies, API keys, signing keys."""

from __future__ import annotations

import re
from typing import Final

from app.api.auth import is_tenant_id
from app.api.call import Call
from app.api.operation import Operation
from app.api.schema import ConfigChange, NewApiKey, PageQuery, TenantName
from app.api.views import (
    ApiKeyList,
    ApiKeyView,
    ConfigView,
    Pagination,
    Rotated,
    SigningKeyList,
    SigningKeyView,
    Stats,
    TenantPage,
    TenantView,
)
from app.api.limits import rfc3339
from app.errors import (
    ApiKeyNotFound,
    Conflict,
    SigningKeyNotFound,
    TenantNotFound,
    ValidationError,
)
from app.model import Tenant

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


async def own_config(call: Call) -> ConfigView:
    return ConfigView.of(call.tenant)


async def change_own_config(call: Call) -> ConfigView:
    body: ConfigChange = call.body
    return ConfigView.of(await call.runtime.tenants.set_policy(call.tenant.id, body.changes(), call.now))


async def stats(call: Call) -> Stats:
    counts = await call.runtime.sessions.stats(call.tenant, call.now)
    return Stats(
        active=counts.get("active", 0),
        created=counts.get("created", 0),
        ended={name[6:]: count for name, count in counts.items() if name.startswith("ended:")},
    )


async def page(call: Call) -> TenantPage:
    query: PageQuery = call.query
    if query.cursor is not None and not is_tenant_id(query.cursor):
        raise ValidationError("cursor is not one of this list", field="cursor")
    after, found = query.cursor or "", list[Tenant]()
    while len(found) <= query.limit and (more := await call.runtime.tenants.page(after, 101)):
        after = more[-1].id
        found += more
    has_more, found = len(found) > query.limit, found[: query.limit]
    return TenantPage(
        data=[TenantView.of(tenant) for tenant in found],
        pagination=Pagination(
            limit=query.limit, has_more=has_more, next_cursor=found[-1].id if has_more else None
        ),
    )


async def create(call: Call) -> TenantView:
    body: TenantName = call.body
    return TenantView.of(await call.runtime.tenants.create(body.name, call.now))


async def get(call: Call) -> TenantView:
    return TenantView.of(await call.runtime.tenants.get(tenant_id(call), call.now))


async def rename(call: Call) -> TenantView:
    body: TenantName = call.body
    return TenantView.of(await call.runtime.tenants.rename(tenant_id(call), body.name, call.now))


async def delete(call: Call) -> None:
    await call.runtime.tenants.delete(tenant_id(call), call.now)


async def config(call: Call) -> ConfigView:
    return ConfigView.of(await call.runtime.tenants.get(tenant_id(call), call.now))


async def change_config(call: Call) -> ConfigView:
    body: ConfigChange = call.body
    tenant = await call.runtime.tenants.set_policy(tenant_id(call), body.changes(), call.now)
    return ConfigView.of(tenant)


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


def tenant_id(call: Call) -> str:
    """From the path. Raises `TenantNotFound` for what has not the form of an id."""
    text = call.path["tenant_id"]
    if not is_tenant_id(text):
        raise TenantNotFound
    return text
