"""Tenants and their policies. What is read often is remembered for half a second, so that every process knows a change
within `PROPAGATION_MS`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import msgspec

from app import durations
from app.errors import Conflict, PreconditionFailed, TenantNotFound, Unreadable, ValidationError
from app.model import (
    MAX_SESSIONS_PER_USER,
    MIN_IDLE_MS,
    PROPAGATION_MS,
    RETRY_MS,
    SECOND,
    Policy,
    Rules,
    Tenant,
    new_id,
)
from app.recent import Recent
from app.store.base import Registry, SessionStore

BOUNDS_S: Final = {
    "session_duration": (60, 400 * 86_400),
    "access_token_ttl": (30, 86_400),
    "idle_timeout": (MIN_IDLE_MS // SECOND, 400 * 86_400),
    "refresh_grace": (0, 60),
}
"""Of the durations in a policy, in seconds, both included."""
_ATTEMPTS: Final = 10
_log: Final = logging.getLogger(__name__)


class Change(NamedTuple):
    """What a tenant was and what it is now; the same, version included, if it was so already."""

    before: Tenant
    after: Tenant


class Tenants:
    def __init__(self, registry: Registry, store: SessionStore) -> None:
        self._registry = registry
        self._store = store
        self._tenants = Recent(registry.tenant)

    async def create(self, name: str, now: int) -> Tenant:
        tenant = Tenant(id=new_id("tnt"), name=name, created_at=now, version=1)
        if not await self._registry.put_tenant(tenant):
            raise Conflict
        return tenant

    async def get(self, tenant_id: str, now: int) -> Tenant:
        """A tenant that has not been deleted. Raises `TenantNotFound`."""
        tenant = await self._tenants.get(tenant_id, now)
        if tenant is None or tenant.deleted_at is not None:
            raise TenantNotFound
        return tenant

    async def rules(self, tenant_id: str, now: int) -> Rules | None:
        """A tenant's rules; `None` if it is gone."""
        tenant = await self._tenants.get(tenant_id, now)
        return None if tenant is None or tenant.deleted_at is not None else tenant.rules

    async def page(self, after: str, limit: int) -> list[Tenant]:
        """The first `limit` by id above `after` that are not deleted; fewer only if there are no more."""
        found: list[Tenant] = []
        async with aclosing(self._registry.tenants(after)) as tenants:
            async for tenant in tenants:
                if tenant.deleted_at is None:
                    found.append(tenant)
                if len(found) == limit:
                    break
        return found

    async def rename(self, tenant_id: str, name: str, versions: Container[int] | None = None) -> Change:
        """Raises `PreconditionFailed` if the tenant is at none of `versions`."""
        return await self._change(tenant_id, lambda tenant: msgspec.structs.replace(tenant, name=name), versions)

    async def delete(self, tenant_id: str, now: int) -> None:
        """End a tenant: its keys are refused and its sessions dead at once; the worker clears up. A try that failed
        half-way may be repeated. Raises `TenantNotFound` once it is done."""
        await self._living(tenant_id)
        await self._registry.mark_pending(tenant_id, now + RETRY_MS)
        try:
            await self._store.cut_off(tenant_id, now, "admin")
        except Unreadable as error:  # of a deleted tenant no session is good, cut off or not
            _log.error("tenant %s is deleted, yet not cut off everywhere (%s)", tenant_id, error)
        await self._change(tenant_id, lambda tenant: msgspec.structs.replace(tenant, deleted_at=now))
        await self._registry.mark_pending(tenant_id, now + 2 * PROPAGATION_MS)

    async def bury(self, tenant_id: str) -> None:
        """Forget a deleted tenant whose sessions are all gone. What stays is that its id was used and until when, and
        its audit log. Repeatable."""
        tenant = await self._registry.tenant(tenant_id)
        if tenant is not None and tenant.deleted_at is not None:
            left = Tenant(id=tenant.id, name="", created_at=tenant.created_at, deleted_at=tenant.deleted_at)
            await self._registry.bury_tenant(msgspec.structs.replace(left, version=tenant.version + 1))
            self._tenants.forget(tenant_id)

    async def set_policy(
        self, tenant_id: str, changes: dict[str, Any], now: int, versions: Container[int] | None = None
    ) -> Change:
        """Merge `changes` (DESIGN §5) into the policy; the worker then applies it to the sessions that live. Raises
        `ValidationError`, and `PreconditionFailed` if the tenant is at none of `versions`; both change nothing."""
        if not changes:
            raise ValidationError("nothing to change")
        tenant = await self._living(tenant_id)
        if merged(tenant.policy, changes) == tenant.policy:
            return Change(_at(tenant, versions), tenant)
        await self._registry.mark_pending(tenant_id, now + RETRY_MS)
        change = await self._change(
            tenant_id, lambda tenant: tenant.with_policy(merged(tenant.policy, changes), now), versions
        )
        await self._registry.mark_pending(tenant_id, now + PROPAGATION_MS)
        return change

    async def _change(
        self, tenant_id: str, change: Callable[[Tenant], Tenant], versions: Container[int] | None = None
    ) -> Change:
        """Read, change, write if nobody else wrote meanwhile; else again. `versions`: only one of these. What is so
        already is not written."""
        for _ in range(_ATTEMPTS):
            before = _at(await self._living(tenant_id), versions)
            changed = change(before)
            if changed == before:
                return Change(before, before)
            after = msgspec.structs.replace(changed, version=before.version + 1)
            if await self._registry.put_tenant(after):
                self._tenants.forget(tenant_id)
                return Change(before, after)
        raise Conflict

    async def _living(self, tenant_id: str) -> Tenant:
        """As it is in the registry now: what a change is answered with holds in this process at once, also where
        another had written it. Raises `TenantNotFound`."""
        tenant = await self._registry.tenant(tenant_id)
        self._tenants.forget(tenant_id)
        if tenant is None or tenant.deleted_at is not None:
            raise TenantNotFound
        return tenant


def _at(tenant: Tenant, versions: Container[int] | None) -> Tenant:
    """Raises `PreconditionFailed` if the tenant is at none of `versions`."""
    if versions is not None and tenant.version not in versions:
        raise PreconditionFailed
    return tenant


def merged(policy: Policy, changes: dict[str, Any]) -> Policy:
    """`policy` with `changes` as the API takes them. Raises `ValidationError` naming the field."""
    values: dict[str, Any] = {}
    for name, value in changes.items():
        if name in BOUNDS_S:
            values[f"{name}_s"] = _duration(name, value)
        elif name == "max_sessions_per_user":
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (whole and 1 <= value <= MAX_SESSIONS_PER_USER):
                raise ValidationError(f"{name} must be null or 1 to {MAX_SESSIONS_PER_USER}", field=name)
            values[name] = value
        elif name == "on_limit":
            if value not in ("evict", "reject"):
                raise ValidationError("on_limit must be evict or reject", field=name)
            values[name] = value
        else:
            raise ValidationError(f"{name} is no setting", field=name)
    result: Policy = msgspec.structs.replace(policy, **values)
    _agree(result)
    return result


def _duration(name: str, value: object) -> int | None:
    if value is None and name == "idle_timeout":
        return None
    duration, (low, high) = durations.seconds(value), BOUNDS_S[name]
    if duration is None or not low <= duration <= high:
        raise ValidationError(f"{name} must be {durations.within(BOUNDS_S[name])}", field=name)
    return duration


def _agree(policy: Policy) -> None:
    """Settings that would make each other meaningless are refused."""
    if policy.access_token_ttl_s > policy.session_duration_s:
        raise ValidationError("access_token_ttl may not exceed session_duration", field="access_token_ttl")
    if policy.idle_timeout_s is not None and policy.idle_timeout_s > policy.session_duration_s:
        raise ValidationError("idle_timeout may not exceed session_duration", field="idle_timeout")
