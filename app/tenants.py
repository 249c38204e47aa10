"""Tenants, their policies and their API keys. What is read often is remembered for half a second, so that every
process knows a change within `PROPAGATION_MS`."""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from app import durations
from app.errors import ApiKeyNotFound, Conflict, InvalidApiKey, TenantNotFound, ValidationError
from app.model import MAX_SESSIONS_PER_USER, PROPAGATION_MS, RETRY_MS, ApiKey, Policy, Rules, Tenant, base32, new_id
from app.store.base import Registry, SessionStore

_KEY_FORM: Final = re.compile(r"sk_(live|test)_([0-9A-Z]{16})_([0-9A-Z]{40})([0-9A-Z]{7})", re.ASCII)
_ATTEMPTS: Final = 10
_REMEMBER_MS: Final = PROPAGATION_MS // 2

_BOUNDS_S: Final = {
    "session_duration": (60, 400 * 86_400),
    "access_token_ttl": (30, 86_400),
    "idle_timeout": (5, 400 * 86_400),
    "refresh_grace": (0, 60),
}

Value = TypeVar("Value")


class Tenants:
    def __init__(self, registry: Registry, store: SessionStore, pepper: bytes) -> None:
        self._registry = registry
        self._store = store
        self._pepper = pepper
        self._tenants = _Recent(registry.tenant)
        self._keys = _Recent(registry.api_key)

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
        """Tenants by id, above `after`; deleted ones are left out, so a page may be short."""
        found = await self._registry.tenants(after, limit)
        return [tenant for tenant in found if tenant.deleted_at is None]

    async def rename(self, tenant_id: str, name: str, now: int) -> Tenant:
        return await self._change(tenant_id, lambda tenant: msgspec.structs.replace(tenant, name=name))

    async def delete(self, tenant_id: str, now: int) -> None:
        """End a tenant: its keys are refused and its sessions dead at once; the worker clears up. A try that failed
        half-way may be repeated. Raises `TenantNotFound` once it is done."""
        tenant = await self._registry.tenant(tenant_id)
        if tenant is None or tenant.deleted_at is not None:
            raise TenantNotFound
        await self._registry.mark_pending(tenant_id, now + RETRY_MS)
        await self._store.cut_off(tenant_id, now)
        await self._change(tenant_id, lambda tenant: msgspec.structs.replace(tenant, deleted_at=now))
        await self._registry.mark_pending(tenant_id, now + 2 * PROPAGATION_MS)

    async def set_policy(self, tenant_id: str, changes: dict[str, Any], now: int) -> Tenant:
        """Merge `changes` (DESIGN §5) into the policy. Raises `ValidationError` and then changes nothing."""
        merged((await self.get(tenant_id, now)).policy, changes)
        await self._registry.mark_pending(tenant_id, now + RETRY_MS)
        tenant = await self._change(tenant_id, lambda tenant: tenant.with_policy(merged(tenant.policy, changes), now))
        await self._registry.mark_pending(tenant_id, now + PROPAGATION_MS)
        return tenant

    async def create_key(
        self, tenant_id: str, name: str, now: int, mode: Literal["live", "test"] = "live"
    ) -> tuple[ApiKey, str]:
        """A new API key and its text, which is not kept. Raises `TenantNotFound`."""
        await self.get(tenant_id, now)
        key_id, secret = base32(secrets.randbits(80), 16), base32(secrets.randbits(200), 40)
        text = f"sk_{mode}_{key_id}_{secret}"
        key = ApiKey(
            id=key_id,
            tenant_id=tenant_id,
            name=name,
            digest=self._digest(key_id, secret),
            hint=f"sk_{mode}_…{secret[-4:]}",
            created_at=now,
        )
        await self._registry.put_api_key(key)
        return key, text + _checksum(text)

    async def api_keys(self, tenant_id: str, now: int) -> list[ApiKey]:
        await self.get(tenant_id, now)
        return await self._registry.api_keys(tenant_id)

    async def revoke_key(self, tenant_id: str, key_id: str, now: int) -> None:
        """Refused by every process within `PROPAGATION_MS`. Repeatable. Raises `ApiKeyNotFound`."""
        key = await self._registry.api_key(key_id)
        if key is None or key.tenant_id != tenant_id:
            raise ApiKeyNotFound
        if key.revoked_at is None:
            await self._registry.put_api_key(msgspec.structs.replace(key, revoked_at=now))
        self._keys.forget(key_id)

    async def authenticate(self, api_key: str, now: int) -> Tenant:
        """The tenant of an API key. A damaged one is refused without asking the store. Raises `InvalidApiKey`."""
        form = _KEY_FORM.fullmatch(api_key)
        if form is None or _checksum(api_key[:-7]) != form[4]:
            raise InvalidApiKey
        key = await self._keys.get(form[2], now)
        digest = self._digest(form[2], form[3])
        if not hmac.compare_digest(digest, key.digest if key else bytes(32)) or key is None or key.revoked_at:
            raise InvalidApiKey
        try:
            return await self.get(key.tenant_id, now)
        except TenantNotFound:
            raise InvalidApiKey from None

    async def _change(self, tenant_id: str, change: Callable[[Tenant], Tenant]) -> Tenant:
        """Read, change, write if nobody else wrote meanwhile; else again."""
        for _ in range(_ATTEMPTS):
            tenant = await self._registry.tenant(tenant_id)
            if tenant is None or tenant.deleted_at is not None:
                raise TenantNotFound
            changed = msgspec.structs.replace(change(tenant), version=tenant.version + 1)
            if await self._registry.put_tenant(changed):
                self._tenants.forget(tenant_id)
                return changed
        raise Conflict

    def _digest(self, key_id: str, secret: str) -> bytes:
        return hmac.digest(self._pepper, f"{key_id}\0{secret}".encode(), "sha256")


def merged(policy: Policy, changes: dict[str, Any]) -> Policy:
    """`policy` with `changes` as the API takes them. Raises `ValidationError` naming the field."""
    values: dict[str, Any] = {}
    for name, value in changes.items():
        if name in _BOUNDS_S:
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
    low, high = _BOUNDS_S[name]
    if value is None and name == "idle_timeout":
        return None
    duration = durations.seconds(value)
    if duration is None or not low <= duration <= high:
        bounds = f"{durations.text(low)} to {durations.text(high)}"
        raise ValidationError(f'{name} must be a duration like "15m" or seconds, {bounds}', field=name)
    return duration


def _agree(policy: Policy) -> None:
    """Settings that would make each other meaningless are refused."""
    if policy.access_token_ttl_s > policy.session_duration_s:
        raise ValidationError("access_token_ttl may not exceed session_duration", field="access_token_ttl")
    if policy.idle_timeout_s is not None and policy.idle_timeout_s > policy.session_duration_s:
        raise ValidationError("idle_timeout may not exceed session_duration", field="idle_timeout")


def _checksum(text: str) -> str:
    return base32(zlib.crc32(text.encode()), 7)


class _Recent(Generic[Value]):
    """What was read less than half a second ago; one read in flight per key; bounded."""

    _MOST: Final = 10_000

    def __init__(self, read: Callable[[str], Awaitable[Value]]) -> None:
        self._read = read
        self._known: dict[str, tuple[Value, int]] = {}
        self._reading: dict[str, asyncio.Task[Value]] = {}

    async def get(self, key: str, now: int) -> Value:
        known = self._known.get(key)
        if known is not None and 0 <= now - known[1] < _REMEMBER_MS:
            return known[0]
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.create_task(self._load(key, now))
        return await asyncio.shield(task)

    def forget(self, key: str) -> None:
        self._known.pop(key, None)
        self._reading.pop(key, None)

    async def _load(self, key: str, now: int) -> Value:
        task = asyncio.current_task()
        try:
            value = await self._read(key)
            if self._reading.get(key) is task:
                if len(self._known) >= self._MOST:
                    self._known.clear()
                self._known[key] = (value, now)
            return value
        finally:
            if self._reading.get(key) is task:
                del self._reading[key]
