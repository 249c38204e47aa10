"""Who is signed in to the dashboard: sessions of operators and tenants, opaque, short and kept on our side only.

A session stands for the credential that opened it and is no better: the key is looked at anew with each request. The
browser has 256 random bits; Redis has their digest and a record with a MAC over both, so that whoever reads there
finds nothing to sign in with, and whoever writes there cannot make, change or move a record.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, Literal

import msgspec

from app.apikeys import ApiKeys
from app.errors import InvalidApiKey, MissingToken
from app.model import HOUR, MINUTE, SECOND, ApiKey, Tenant
from app.store.dashboard import DashboardSessions

Credential = Literal["admin", "key", "oidc"]

IDLE_MS: Final = 15 * MINUTE
LIFE_MS: Final = 12 * HOUR
FRESH_MS: Final = 10 * MINUTE
STEP_MS: Final = 15 * SECOND
"""A session is stamped at most so often."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_MAC_BYTES: Final = 32


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What has signed in. `id`: of the API key; of the operator's key a fingerprint; the subject at the OIDC provider.
    `grants`: with OIDC, what else may be on the list: a verified address in lower case, `group:<name>`."""

    credential: Credential
    id: str
    name: str
    grants: tuple[str, ...] = ()


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody signed in, as of now. `proven_at`: when the credential was last shown."""

    identity: Identity
    signed_in_at: int
    proven_at: int
    seen_at: int
    key: ApiKey | None = None
    tenant: Tenant | None = None

    @property
    def expires_at(self) -> int:
        """In whole seconds, as it is shown."""
        return (self.signed_in_at + LIFE_MS) // SECOND * SECOND

    @property
    def idle_until(self) -> int:
        return min(self.seen_at + IDLE_MS, self.expires_at)

    @property
    def fresh_until(self) -> int:
        return (self.proven_at + FRESH_MS) // SECOND * SECOND


class _Record(msgspec.Struct, frozen=True):
    identity: Identity
    signed_in_at: int
    proven_at: int
    seen_at: int


class Operators:
    """`allowed`: subjects, addresses and groups of the OIDC provider. `peppers`: records are sealed with the first and
    read with any."""

    def __init__(
        self,
        sessions: DashboardSessions,
        api_keys: ApiKeys,
        admin_keys: Iterable[str],
        allowed: frozenset[str],
        *peppers: bytes,
    ) -> None:
        self._sessions = sessions
        self._api_keys = api_keys
        self._allowed = allowed
        self._peppers = peppers
        self._fingerprints = {_fingerprint(pepper, key) for pepper in peppers for key in admin_keys}

    def admin(self, key: str) -> Identity:
        """The holder of this operator's key. Once the key is removed from the settings its sessions end."""
        return Identity(credential="admin", id=_fingerprint(self._peppers[0], key), name="admin")

    def admits(self, identity: Identity) -> bool:
        """Whether somebody from the OIDC provider is on the list. An entry with an `@` is an address and never a
        subject, which at some providers people choose for themselves."""
        names = {*identity.grants}
        if "@" not in identity.id and not identity.id.startswith("group:"):
            names.add(identity.id)
        return not self._allowed.isdisjoint(names)

    async def sign_in(self, identity: Identity, now: int, proven_at: int) -> str:
        """A new session; its token is returned and not kept. Raises as `find` does."""
        token = secrets.token_urlsafe(32)
        record = _Record(identity, now, proven_at, now)
        await self._check(identity, now)
        name = sha256(token.encode()).hexdigest()
        await self._sessions.put(name, _index(identity), self._seal(name, record), now, IDLE_MS, LIFE_MS)
        return token

    async def find(self, token: str | None, now: int, use: bool = True) -> Operator:
        """Whose session this is; `use` keeps it from ending idle. Raises `MissingToken` for one that is unknown, idle
        for too long, too old, or whose credential is good no more."""
        name = name_of(token)
        record = await self._read(name)
        if name is None or record is None:
            raise MissingToken
        found = await self._operator(record, now)
        if not use or now - record.seen_at < STEP_MS:
            return found
        record = msgspec.structs.replace(record, seen_at=now)
        await self._sessions.keep(name, self._seal(name, record), min(IDLE_MS, found.expires_at - now))
        return msgspec.structs.replace(found, seen_at=now)

    async def sign_out(self, name: str | None) -> None:
        """End what lies under a `name_of`. Repeatable."""
        record = await self._read(name)
        if name is not None and record is not None:
            await self._sessions.drop(name, _index(record.identity))

    async def _read(self, name: str | None) -> _Record | None:
        return None if name is None else self._open(name, await self._sessions.get(name) or b"")

    async def _operator(self, record: _Record, now: int) -> Operator:
        key, tenant = await self._check(record.identity, now)
        found = Operator(
            identity=record.identity,
            signed_in_at=record.signed_in_at,
            proven_at=record.proven_at,
            seen_at=record.seen_at,
            key=key,
            tenant=tenant,
        )
        if now >= found.idle_until:
            raise MissingToken
        return found

    async def _check(self, identity: Identity, now: int) -> tuple[ApiKey | None, Tenant | None]:
        """The credential as it is now. Raises `MissingToken` if it is good no more."""
        if identity.credential == "key":
            try:
                return await self._api_keys.living(identity.id, now)
            except InvalidApiKey:
                raise MissingToken from None
        good = identity.id in self._fingerprints if identity.credential == "admin" else self.admits(identity)
        if not good:
            raise MissingToken
        return None, None

    def _seal(self, name: str, record: _Record) -> bytes:
        raw = msgspec.msgpack.encode(record)
        return _mac(self._peppers[0], name, raw) + raw

    def _open(self, name: str, sealed: bytes) -> _Record | None:
        mac, raw = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        if not any([hmac.compare_digest(mac, _mac(pepper, name, raw)) for pepper in self._peppers]):
            return None
        return msgspec.msgpack.decode(raw, type=_Record)


def name_of(token: str | None) -> str | None:
    """What a session's record lies under: 256 random bits need no slower digest. None for what is no token."""
    return None if token is None or not _TOKEN.fullmatch(token) else sha256(token.encode()).hexdigest()


def _index(identity: Identity) -> str:
    """A subject may hold any character, so it is named by its digest."""
    return f"{identity.credential}:{sha256(identity.id.encode()).hexdigest()[:32]}"


def _fingerprint(pepper: bytes, key: str) -> str:
    return hmac.digest(pepper, key.encode(), "sha256").hex()[:32]


def _mac(pepper: bytes, name: str, raw: bytes) -> bytes:
    return hmac.digest(pepper, f"{name}\0".encode() + raw, "sha256")
