"""Secrets derived from the deployment's one, and the ring of signing keys.

A key signs from its `sign_from` until the next key's; so the ring's states follow from time alone, and every process
that sees the same ring signs with the same key. Private parts lie in the registry only as AES-256-GCM ciphertext.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc.jwk import OKPKey

from app.errors import Conflict, SigningKeyNotFound
from app.model import DAY, MINUTE, PROPAGATION_MS, SECOND, SealedKey
from app.store.base import Registry

JWKS_MAX_AGE_S: Final = 300
_LEAD: Final = (JWKS_MAX_AGE_S + 60) * SECOND
_PERIOD: Final = 14 * DAY
_KEEP: Final = DAY + 5 * MINUTE
_ATTEMPTS: Final = 10


def derive(secret: bytes, purpose: str) -> bytes:
    """A 256-bit key for one purpose (HKDF, RFC 5869)."""
    return HKDF(SHA256(), 32, None, f"hellojohn {purpose} v1".encode()).derive(secret)


class UnsealError(Exception):
    """A signing key was sealed under another HELLOJOHN_SECRET."""


class _Ring(msgspec.Struct):
    sealed: list[SealedKey]
    opened: dict[str, OKPKey]
    read_at: int


class KeyRing:
    """The signing keys, read again twice per `PROPAGATION_MS` at most, or when somebody must have them as they are now.
    They are sealed under the first of the deployment's secrets and opened under any."""

    def __init__(self, registry: Registry, *deployment: bytes) -> None:
        self._registry = registry
        self._seals = [AESGCM(derive(secret, "signing keys")) for secret in deployment]
        self._ring: _Ring | None = None
        self._reading: asyncio.Task[_Ring] | None = None

    async def signer(self, now: int) -> OKPKey:
        """The key that signs at `now`."""
        ring = await self._current(now)
        return ring.opened[_active(ring.sealed, now).kid]

    async def verifiers(self, now: int, *, fresh: bool = False) -> dict[str, OKPKey]:
        """Every key that may have signed or will sign, by `kid`; the same object as long as the ring is the same.
        `fresh`: as they are now."""
        return (await self._current(now, fresh=fresh)).opened

    async def kids(self, now: int) -> list[str]:
        """The `kid` of every public key, as they are now."""
        return [key.kid for key in (await self._current(now, fresh=True)).sealed]

    async def jwks(self, now: int, *, fresh: bool = False) -> dict[str, Any]:
        """The public keys (RFC 7517 §5, RFC 8037 §2), newest first. `fresh`: as they are now."""
        ring = await self._current(now, fresh=fresh)
        return {
            "keys": [
                {"kty": "OKP", "crv": "Ed25519", "x": key.x, "kid": key.kid, "use": "sig", "alg": "EdDSA"}
                for key in reversed(ring.sealed)
            ]
        }

    async def states(self, now: int) -> list[dict[str, Any]]:
        """`kid`, `state` (next, active, retired), `created_at` and `sign_from` of each key, newest first."""
        ring = await self._current(now)
        active = _active(ring.sealed, now)
        return [
            {
                "kid": key.kid,
                "state": "active" if key is active else "next" if key.sign_from > now else "retired",
                "created_at": key.created_at,
                "sign_from": key.sign_from,
            }
            for key in reversed(ring.sealed)
        ]

    async def rotate(self, now: int) -> str:
        """Publish the next key, which signs once every JWKS cache has had time to see it; the `kid`. Repeatable."""
        for _ in range(_ATTEMPTS):
            ring = await self._current(now, fresh=True)
            if ring.sealed[-1].sign_from > now:
                return ring.sealed[-1].kid
            new = self._make(now, now + _LEAD)
            if await self._put(ring, [*ring.sealed, new]):
                return new.kid
        raise Conflict

    async def rotate_if_due(self, now: int) -> bool:
        """Rotate a key of 14 days, drop those that no living token can name, seal anew those under another secret;
        whether anything changed."""
        ring = await self._current(now, fresh=True)
        if await self._reseal(ring):
            return True
        followers = zip(ring.sealed, ring.sealed[1:], strict=False)
        gone = {key.kid for key, follower in followers if follower.sign_from + _KEEP <= now}
        dropped = bool(gone) and await self._put(ring, [key for key in ring.sealed if key.kid not in gone])
        if ring.sealed[-1].sign_from + _PERIOD <= now:
            await self.rotate(now)
            return True
        return dropped

    async def remove(self, kid: str, now: int) -> None:
        """Emergency: this service refuses tokens of this key within `PROPAGATION_MS`, who follows its feed after
        the next heartbeat, who verifies by JWKS alone once that has been read anew. If it was the active one the next
        takes over at once, else the one before it, which everybody knows, else a new one. Raises `SigningKeyNotFound`.
        """
        for _ in range(_ATTEMPTS):
            ring = await self._current(now, fresh=True)
            if kid not in ring.opened:
                raise SigningKeyNotFound
            active = [key.kid for key in ring.sealed if key.sign_from <= now][-1:]
            rest = [key for key in ring.sealed if key.kid != kid] or [self._make(now, now)]
            if active == [kid] and rest[-1].sign_from > now:
                rest[-1] = msgspec.structs.replace(rest[-1], sign_from=now)
            if await self._put(ring, rest):
                return
        raise Conflict

    async def _current(self, now: int, *, fresh: bool = False) -> _Ring:
        """The ring as it was less than half of `PROPAGATION_MS` ago; `fresh`: as a read finds it that begins after this
        call. There is one read at a time, for all who wait."""
        ring = self._ring
        if ring is not None and not fresh and 0 <= now - ring.read_at < PROPAGATION_MS // 2:
            return ring
        if fresh and self._reading is not None:
            await asyncio.wait({self._reading})
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(now))
            self._reading.add_done_callback(self._forget)
        return await asyncio.shield(self._reading)

    def _forget(self, task: asyncio.Task[_Ring]) -> None:
        if self._reading is task:
            self._reading = None
        if not task.cancelled():
            task.exception()

    async def _read(self, now: int) -> _Ring:
        sealed = await self._registry.signing_keys()
        while not sealed:
            await self._registry.put_signing_keys([self._make(now, now)], frozenset())
            sealed = await self._registry.signing_keys()
        sealed.sort(key=lambda key: (key.sign_from, key.kid))
        known = {} if self._ring is None else self._ring.opened
        opened = {key.kid: known.get(key.kid) or self._open(key) for key in sealed}
        ring = _Ring(sealed, known if opened == known else opened, now)
        if self._reading is asyncio.current_task():
            self._ring = ring
        return ring

    async def _put(self, ring: _Ring, keys: list[SealedKey]) -> bool:
        """Whether nobody else has changed the ring. What was read before, or is still on its way, is forgotten."""
        written = await self._registry.put_signing_keys(keys, frozenset(ring.opened))
        self._ring = self._reading = None
        return written

    def _make(self, now: int, sign_from: int) -> SealedKey:
        key = OKPKey.generate_key("Ed25519", auto_kid=True)
        kid = str(key.kid)
        private = msgspec.json.encode(key.as_dict(private=True))
        sealed = self._sealed(kid, private)
        x = str(key.as_dict(private=False)["x"])
        return SealedKey(kid=kid, x=x, sealed=sealed, created_at=now, sign_from=sign_from)

    def _open(self, key: SealedKey) -> OKPKey:
        return OKPKey.import_key(msgspec.json.decode(self._private(key)[0]))

    def _private(self, key: SealedKey) -> tuple[bytes, int]:
        """What is sealed, and under which secret. Raises `UnsealError`."""
        for under, seal in enumerate(self._seals):
            with suppress(InvalidTag):
                return seal.decrypt(key.sealed[:12], key.sealed[12:], key.kid.encode()), under
        raise UnsealError("the signing keys were sealed under another HELLOJOHN_SECRET")

    def _sealed(self, kid: str, private: bytes) -> bytes:
        nonce = secrets.token_bytes(12)
        return nonce + self._seals[0].encrypt(nonce, private, kid.encode())

    async def _reseal(self, ring: _Ring) -> bool:
        """Bring every key under the first secret; whether any was under another."""
        opened = [(key, *self._private(key)) for key in ring.sealed]
        if not any(under for _, _, under in opened):
            return False
        again = [msgspec.structs.replace(key, sealed=self._sealed(key.kid, private)) for key, private, _ in opened]
        return await self._put(ring, again)


def _active(sealed: list[SealedKey], now: int) -> SealedKey:
    """The newest key that may sign; on a clock behind the others', the oldest there is."""
    return next((key for key in reversed(sealed) if key.sign_from <= now), sealed[0])
