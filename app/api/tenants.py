"""What the operator and the tenants themselves administer: tenants and policies."""

from __future__ import annotations

from typing import Final

import msgspec

from app.api.auth import is_tenant_id
from app.api.call import Call, Reply
from app.api.operation import Operation, always
from app.api.request import if_match
from app.api.schema import ConfigChange, PageQuery, TenantName
from app.api.views import ConfigView, Pagination, TenantPage, TenantView
from app.errors import Conflict, PreconditionFailed, TenantNotFound, ValidationError
from app.model import Tenant
from app.sessions import Stats


async def own_config(call: Call) -> Reply:
    return _versioned(call.tenant, ConfigView.of(call.tenant))


async def change_own_config(call: Call) -> Reply:
    return await _change_policy(call, call.tenant.id)


async def stats(call: Call) -> Stats:
    return await call.runtime.sessions.stats(call.tenant, call.now)


async def page(call: Call) -> TenantPage:
    query: PageQuery = call.query
    if query.cursor is not None and not is_tenant_id(query.cursor):
        raise ValidationError("cursor is not one of this list", field="cursor")
    found = await call.runtime.tenants.page(query.cursor or "", query.limit + 1)
    has_more, found = len(found) > query.limit, found[: query.limit]
    return TenantPage(
        data=[TenantView.of(tenant) for tenant in found],
        pagination=Pagination(limit=query.limit, has_more=has_more, next_cursor=found[-1].id if has_more else None),
    )


async def create(call: Call) -> TenantView:
    body: TenantName = call.body
    view = TenantView.of(await call.runtime.tenants.create(body.name, call.now))
    await call.audit("tenant.created", view.id, after={"name": view.name})
    return view


async def get(call: Call) -> Reply:
    found = await call.runtime.tenants.get(tenant_id(call), call.now)
    return _versioned(found, TenantView.of(found))


async def rename(call: Call) -> Reply:
    body: TenantName = call.body
    versions = if_match(call.context.headers)
    before, after = await call.runtime.tenants.rename(tenant_id(call), body.name, versions)
    if after != before:
        await call.audit("tenant.renamed", after.id, after.id, {"name": before.name}, {"name": after.name})
    return _versioned(after, TenantView.of(after))


async def delete(call: Call) -> None:
    if call.by_operator:
        call.confirm((await call.runtime.tenants.get(tenant_id(call), call.now)).name)
    await call.runtime.tenants.delete(tenant_id(call), call.now)
    await call.audit("tenant.deleted", tenant_id(call))


async def config(call: Call) -> Reply:
    found = await call.runtime.tenants.get(tenant_id(call), call.now)
    return _versioned(found, ConfigView.of(found))


async def change_config(call: Call) -> Reply:
    return await _change_policy(call, tenant_id(call))


async def _change_policy(call: Call, tenant_id: str) -> Reply:
    body: ConfigChange = call.body
    versions = if_match(call.context.headers)
    before, after = await call.runtime.tenants.set_policy(tenant_id, body.changes(), call.now, versions)
    if after != before:
        await call.audit("config.changed", tenant_id, tenant_id, ConfigView.of(before), ConfigView.of(after))
    return _versioned(after, ConfigView.of(after))


def _versioned(tenant: Tenant, view: msgspec.Struct) -> Reply:
    """With the version of the tenant, name and policy together, as a strong entity tag (RFC 9110 §8.8.3)."""
    return Reply(msgspec.json.encode(view), headers=((b"etag", b'"v%d"' % tenant.version),))


def tenant_id(call: Call) -> str:
    """From the path. Raises `TenantNotFound` for what has not the form of an id."""
    text = call.path["tenant_id"]
    if not is_tenant_id(text):
        raise TenantNotFound
    return text


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/admin/config",
        name="getConfig",
        summary="The tenant's own policy",
        handler=own_config,
        credential="key_or_admin",
        scope="config:read",
        answer=ConfigView,
        errors=(TenantNotFound,),
    ),
    Operation(
        method="PATCH",
        path="/v1/admin/config",
        name="updateConfig",
        summary="Change the tenant's own policy; what is absent stays",
        handler=change_own_config,
        credential="key_or_admin",
        scope="config:write",
        body=ConfigChange,
        answer=ConfigView,
        errors=(TenantNotFound, PreconditionFailed, Conflict),
        conditional=True,
    ),
    Operation(
        method="GET",
        path="/v1/admin/stats",
        name="getStats",
        summary="Active sessions, and those created and ended in the last 24 hours",
        handler=stats,
        credential="key_or_admin",
        scope="stats:read",
        answer=Stats,
        errors=(TenantNotFound,),
    ),
    Operation(
        method="GET",
        path="/v1/admin/tenants",
        name="listTenants",
        summary="All tenants, by id",
        handler=page,
        credential="admin",
        query=PageQuery,
        answer=TenantPage,
    ),
    Operation(
        method="POST",
        path="/v1/admin/tenants",
        name="createTenant",
        summary="Make a tenant with the default policy",
        handler=create,
        credential="admin",
        status=201,
        body=TenantName,
        answer=TenantView,
        errors=(Conflict,),
    ),
    Operation(
        method="GET",
        path="/v1/admin/tenants/{tenant_id}",
        name="getTenant",
        summary="One tenant",
        handler=get,
        credential="admin",
        answer=TenantView,
        errors=(TenantNotFound,),
    ),
    Operation(
        method="PATCH",
        path="/v1/admin/tenants/{tenant_id}",
        name="renameTenant",
        summary="Rename a tenant",
        handler=rename,
        credential="admin",
        body=TenantName,
        answer=TenantView,
        errors=(TenantNotFound, PreconditionFailed, Conflict),
        conditional=True,
    ),
    Operation(
        method="DELETE",
        path="/v1/admin/tenants/{tenant_id}",
        name="deleteTenant",
        summary="End a tenant with its keys and sessions, at once",
        handler=delete,
        credential="admin",
        status=204,
        errors=(TenantNotFound, Conflict),
        step_up=always,
    ),
    Operation(
        method="GET",
        path="/v1/admin/tenants/{tenant_id}/config",
        name="getTenantConfig",
        summary="A tenant's policy",
        handler=config,
        credential="admin",
        answer=ConfigView,
        errors=(TenantNotFound,),
    ),
    Operation(
        method="PATCH",
        path="/v1/admin/tenants/{tenant_id}/config",
        name="updateTenantConfig",
        summary="Change a tenant's policy; what is absent stays",
        handler=change_config,
        credential="admin",
        body=ConfigChange,
        answer=ConfigView,
        errors=(TenantNotFound, PreconditionFailed, Conflict),
        conditional=True,
    ),
)
