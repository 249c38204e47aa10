"""API keys of tenants: made, rotated, revoked, and recognised.

A key is `sk_<mode>_<id>_<200-bit secret><checksum>`. The checksum lets a typing error or a scanner's find be dropped
without asking the store, which holds a keyed digest and nothing else of the secret.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
import zlib
from functools import lru_cache
from typing import Final, Literal

import msgspec

from app import durations
from app.errors import ApiKeyNotFound, Conflict, InvalidApiKey, TenantNotFound, ValidationError
from app.model import MINUTE, SECOND, ApiKey, Scope, Tenant, base32
from app.recent import Recent
from app.store.base import Registry
from app.tenants import Tenants

Mode = Literal["live", "test"]

MAX_KEYS: Final = 50
"""Living keys of one tenant, and as many successors."""
LIFE_S: Final = (60, 3_650 * 86_400)
OVERLAP_S: Final = (0, 90 * 86_400)
"""Bounds in seconds, both included: of a key's life, and of how long a replaced one goes on."""
_FORM: Final = re.compile(r"sk_(live|test)_([0-9A-Z]{16})_([0-9A-Z]{40})([0-9A-Z]{7})", re.ASCII)
_NOTED: Final = 10_000
_REMEMBERED: Final = 1_000
"""Backends show the same few keys with every call: what follows from a text alone is worked out once."""


class ApiKeys:
    """`peppers`: the digests of new keys are made with the first, those made with the others are recognised too."""

    def __init__(self, registry: Registry, tenants: Tenants, *peppers: bytes) -> None:
        self._registry = registry
        self._tenants = tenants
        self._peppers = peppers
        self._known = Recent(registry.api_key)
        self._noted: dict[str, int] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def create(
        self,
        tenant_id: str,
        name: str,
        now: int,
        mode: Mode = "live",
        scopes: frozenset[Scope] | None = None,
        expires_in: object = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its text, which is not kept. `expires_in`: a duration. Raises `TenantNotFound`,
        `ValidationError`, and `Conflict` where a tenant has `MAX_KEYS`."""
        life = None if expires_in is None else _duration("expires_in", expires_in, LIFE_S)
        if await self._count(tenant_id, now) >= MAX_KEYS:
            raise Conflict(f"A tenant has at most {MAX_KEYS} living API keys")
        return await self._make(tenant_id, name, now, mode, scopes, life)

    async def all(self, tenant_id: str, now: int) -> list[tuple[ApiKey, int | None]]:
        """A tenant's keys, dead ones too, each with when it was last used, to the minute."""
        keys, uses = await self._of(tenant_id, now), await self._registry.api_key_uses(tenant_id)
        return [(key, uses.get(key.id)) for key in keys]

    async def rotate(self, tenant_id: str, key_id: str, overlap: object, now: int) -> tuple[ApiKey, str]:
        """A successor with the same name, scopes and length of life; the old key goes on for `overlap` at the longest.
        Raises `ApiKeyNotFound` for a key that lives no more, `Conflict` where a tenant has twice `MAX_KEYS`."""
        overlap_ms = _duration("overlap", overlap, OVERLAP_S)
        old = await self._living(tenant_id, key_id, now)
        if await self._count(tenant_id, now) >= 2 * MAX_KEYS:
            raise Conflict("Too many replaced API keys of this tenant go on; revoke some")
        mode = _mode(old)
        life = None if old.expires_at is None else old.expires_at - old.created_at
        made = await self._make(tenant_id, old.name, now, mode, old.scopes, life)
        last = now + overlap_ms if old.expires_at is None else min(old.expires_at, now + overlap_ms)
        await self._registry.change_api_key(key_id, lambda key: msgspec.structs.replace(key, expires_at=last))
        self._known.forget(key_id)
        return made

    async def revoke(self, tenant_id: str, key_id: str, now: int) -> None:
        """Refused by every process within `PROPAGATION_MS`. Repeatable. Raises `ApiKeyNotFound`."""
        await self._own(tenant_id, key_id)
        await self._registry.change_api_key(
            key_id, lambda key: key if key.revoked_at else msgspec.structs.replace(key, revoked_at=now)
        )
        self._known.forget(key_id)

    async def authenticate(self, text: str, now: int) -> tuple[ApiKey, Tenant]:
        """A living key and its tenant. A damaged one is refused without asking the store. Raises `InvalidApiKey`,
        which says the same of keys that are unknown, wrong, revoked or expired.

        Every wrong key costs one read of the store, so that the time tells nothing: neither whether there is a key of
        that id, nor whether it is in use."""
        mode, key_id, secret = _parts(text)
        remembered = self._known.remembers(key_id, now)
        key = await self._known.get(key_id, now)
        digest = self._fitting(mode, key_id, secret, key)
        if digest is None and remembered:
            key = await self._registry.api_key(key_id)
            digest = self._fitting(mode, key_id, secret, key)
        if digest is None or key is None:
            raise InvalidApiKey
        tenant = await self._tenant(key, now)
        if now - self._noted.get(key.id, 0) >= MINUTE:
            self._note(key, digest, now)
        return key, tenant

    async def living(self, key_id: str, now: int) -> tuple[ApiKey, Tenant]:
        """What `authenticate` has given once, as it is now. Raises `InvalidApiKey` as it does."""
        key = await self._known.get(key_id, now)
        if key is None:
            raise InvalidApiKey
        return key, await self._tenant(key, now)

    async def flush(self) -> None:
        """Wait for what is being noted."""
        await asyncio.gather(*self._noting, return_exceptions=True)

    async def _tenant(self, key: ApiKey, now: int) -> Tenant:
        """Whose key it is. Raises `InvalidApiKey` if either lives no more."""
        if not key.lives(now):
            raise InvalidApiKey(genuine=True)
        try:
            return await self._tenants.get(key.tenant_id, now)
        except TenantNotFound:
            raise InvalidApiKey(genuine=True) from None

    async def _make(
        self, tenant_id: str, name: str, now: int, mode: Mode, scopes: frozenset[Scope] | None, life: int | None
    ) -> tuple[ApiKey, str]:
        key_id, secret = base32(secrets.randbits(80), 16), base32(secrets.randbits(200), 40)
        text = f"sk_{mode}_{key_id}_{secret}"
        text += checksum(text)
        key = ApiKey(
            id=key_id,
            tenant_id=tenant_id,
            name=name,
            digest=_digest(self._peppers[0], key_id, secret),
            hint=f"sk_{mode}_…{text[-4:]}",
            created_at=now,
            scopes=scopes,
            expires_at=None if life is None else now + life,
        )
        await self._registry.put_api_key(key)
        return key, text

    async def _of(self, tenant_id: str, now: int) -> list[ApiKey]:
        await self._tenants.get(tenant_id, now)
        return await self._registry.api_keys(tenant_id)

    async def _count(self, tenant_id: str, now: int) -> int:
        return sum(key.lives(now) for key in await self._of(tenant_id, now))

    async def _own(self, tenant_id: str, key_id: str) -> ApiKey:
        key = await self._registry.api_key(key_id)
        if key is None or key.tenant_id != tenant_id:
            raise ApiKeyNotFound
        return key

    async def _living(self, tenant_id: str, key_id: str, now: int) -> ApiKey:
        await self._tenants.get(tenant_id, now)
        key = await self._own(tenant_id, key_id)
        if not key.lives(now):
            raise ApiKeyNotFound
        return key

    def _fitting(self, mode: str, key_id: str, secret: str, key: ApiKey | None) -> bytes | None:
        """The digest that a good key should have; `None` for a wrong secret, or the mode of another key."""
        kept = bytes(32) if key is None or mode != _mode(key) else key.digest
        digests = [_digest(pepper, key_id, secret) for pepper in self._peppers]
        good = [hmac.compare_digest(digest, kept) for digest in digests]
        return digests[0] if any(good) else None

    def _note(self, key: ApiKey, digest: bytes, now: int) -> None:
        """Beside the request, at most once a minute for each key; what is lost with the store is not repeated."""
        if len(self._noted) >= _NOTED:
            self._noted.clear()
        self._noted[key.id] = now
        task = asyncio.create_task(self._keep(key, digest, now))
        self._noting.add(task)
        task.add_done_callback(self._done)

    async def _keep(self, key: ApiKey, digest: bytes, now: int) -> None:
        """That a key was used; and its digest under the first pepper, if it is under another."""
        await self._registry.note_api_key_use(key.tenant_id, key.id, now)
        if digest != key.digest:
            await self._registry.change_api_key(key.id, lambda old: msgspec.structs.replace(old, digest=digest))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._noting.discard(task)
        if not task.cancelled():
            task.exception()


def _mode(key: ApiKey) -> Mode:
    """The mode in the text of a key; its hint begins with it."""
    return "test" if key.hint.startswith("sk_test_") else "live"


@lru_cache(_REMEMBERED)
def _parts(text: str) -> tuple[str, str, str]:
    """Mode, id and secret of a key without a typing error, whoever made it. Raises `InvalidApiKey`."""
    form = _FORM.fullmatch(text)
    if form is None or checksum(text[:-7]) != form[4]:
        raise InvalidApiKey
    return form[1], form[2], form[3]


@lru_cache(_REMEMBERED)
def _digest(pepper: bytes, key_id: str, secret: str) -> bytes:
    return hmac.digest(pepper, f"{key_id}\0{secret}".encode(), "sha256")


def checksum(text: str) -> str:
    """What ends the text of a key."""
    return base32(zlib.crc32(text.encode()), 7)


def _duration(name: str, value: object, bounds: tuple[int, int]) -> int:
    """In milliseconds. Raises `ValidationError`."""
    duration, (low, high) = durations.seconds(value), bounds
    if duration is None or not low <= duration <= high:
        raise ValidationError(f"{name} must be {durations.within(bounds)}", field=name)
    return duration * SECOND
