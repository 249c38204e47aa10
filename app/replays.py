"""Calls that a backend may repeat under an `Idempotency-Key` and that get their first answer again
(draft-ietf-httpapi-idempotency-key-header-07).

An answer may hold tokens, so it lies in the store only as AES-256-GCM ciphertext, and not for long.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import blake2b
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.errors import Conflict, IdempotencyKeyReused, Problem, StoreUnavailable
from app.store.hold import MARK_BYTES
from app.store.replays import ReplayStore

_PRINT_BYTES: Final = 16
_CLAIM_BYTES: Final = _PRINT_BYTES + MARK_BYTES
_NONCE_BYTES: Final = 12


class Replays:
    """`keys`: answers are sealed under the first of these 256-bit keys and opened under any."""

    def __init__(self, store: ReplayStore, *keys: bytes) -> None:
        self._store = store
        self._seals = [AESGCM(key) for key in keys]

    async def once(
        self, scope: tuple[str, ...], asked: tuple[bytes, ...], keep_ms: int, act: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        """What `act` answers, or what it answered when it was called for the same `scope` less than `keep_ms` ago.

        `asked`: what the call asks for, then the same in forms that earlier versions stored. Raises
        `IdempotencyKeyReused` if it was none of them then, `Conflict` while the first call is under way. A call
        that failed is not remembered, so `act` must bear repeating where the store did not say what came of it; if its
        process died, it may be made again ten seconds later.
        """
        name, fingerprint = _digest("\0".join(scope).encode()).hex(), _digest(asked[0])
        claim = self._store.claim(name, fingerprint)
        if not await claim.take():
            return self._first(name, [_digest(form) for form in asked], await self._store.get(name))
        async with claim.kept():
            try:
                answer = await act()
            except Problem:
                with suppress(StoreUnavailable):
                    await claim.drop()
                raise
            nonce = secrets.token_bytes(_NONCE_BYTES)
            sealed = self._seals[0].encrypt(nonce, answer, name.encode() + fingerprint)
            await claim.turn(fingerprint + nonce + sealed, keep_ms)
        return answer

    def _first(self, name: str, fingerprints: list[bytes], kept: bytes | None) -> bytes:
        if kept is not None and kept[:_PRINT_BYTES] not in fingerprints:
            raise IdempotencyKeyReused
        if kept is None or len(kept) == _CLAIM_BYTES:
            raise Conflict("A call with this Idempotency-Key is under way")
        fingerprint = kept[:_PRINT_BYTES]
        nonce, sealed = kept[_PRINT_BYTES:][:_NONCE_BYTES], kept[_PRINT_BYTES + _NONCE_BYTES :]
        for seal in self._seals:
            with suppress(InvalidTag):
                return seal.decrypt(nonce, sealed, name.encode() + fingerprint)
        raise Conflict("What came of the first call can no longer be read")


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_PRINT_BYTES).digest()
