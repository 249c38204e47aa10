"""Tokens, written and read. Access tokens are JWTs (RFC 9068); refresh tokens are opaque to everyone but this file.

A refresh token is `rt_` and the base64url of: version, generation, session, tenant, user, a 256-bit secret and a
128-bit MAC over all of it. The MAC makes forgeries and typing errors visible without asking the store. A successor's
secret is derived from its parent's and its own generation, without chance: a repeated refresh gets the same answer,
though no token is kept, and also where the store has lost what it did.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from typing import Any, Final

import msgspec
from joserfc.jwk import OKPKey

from app.client.claims import ALGORITHM, TYPE, InvalidAccessToken, Misdirected, UnknownKey, verify
from app.errors import InvalidToken, RefreshTokenInvalid, TokenExpired
from app.genuine import Genuine
from app.keys import KeyRing, derive
from app.model import Session, is_session_id, shard_in, shard_of
from app.store.base import Rotation

_SECRET: Final = 32
_MAC: Final = 16
_DIGEST: Final = 16
_LABEL: Final = 2
_MAX_CHARS: Final = 1_536
_HEADS: Final = {1: struct.Struct(">BIBBB"), 2: struct.Struct(">BIBBH")}
"""By version: version, generation, lengths of session, tenant and user. 2 is only for user ids that 1 cannot hold."""
_encode: Final = msgspec.json.Encoder().encode


class AccessTokens:
    def __init__(self, keys: KeyRing, issuer: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._genuine = Genuine()

    async def mint(self, session: Session, ttl_ms: int, now: int) -> tuple[str, int]:
        """A signed token and the seconds it is good for: min(ttl, what is left of the session)."""
        key = await self._keys.signer(now)
        issued = now // 1_000
        expires = min(now + ttl_ms, session.expires_at) // 1_000
        claims: dict[str, Any] = {
            **(session.claims or {}),
            "iss": self._issuer,
            "aud": session.tenant_id,
            "sub": session.user_id,
            "session_id": session.id,
            "tenant_id": session.tenant_id,
            "mfa_verified": bool(session.mfa_verified),
            "iat": issued,
            "exp": expires,
            "jti": secrets.token_urlsafe(16),
        }
        if session.org_id is not None:
            claims["org_id"] = session.org_id
        if session.role is not None:
            claims["role"] = session.role
        return _signed(claims, key), max(0, expires - issued)

    async def read(self, token: str, now: int, audience: str | None, *, expired_too: bool = False) -> dict[str, Any]:
        """The claims of a good token; with `expired_too` also of one that was good until its `exp`.

        For an unknown key the ring is read anew: another process may have made it just now. Raises `InvalidToken`,
        `TokenExpired`."""
        now_s = now // 1_000
        try:
            try:
                return self._read(token, await self._keys.verifiers(now), audience, now_s)
            except UnknownKey:
                return self._read(token, await self._keys.verifiers(now, fresh=True), audience, now_s)
        except InvalidAccessToken as error:
            if error.code != "token_expired":
                raise InvalidToken(genuine=isinstance(error, Misdirected)) from None
        except TokenExpired:
            pass
        if expired_too:  # everything but the time has been checked
            return _claims_in(token)
        raise TokenExpired

    def _read(self, token: str, keys: dict[str, OKPKey], audience: str | None, now_s: int) -> dict[str, Any]:
        if self._genuine.knows(token, keys):
            claims = _claims_in(token)
            if claims["iat"] <= now_s:
                return _in_time(claims, audience, now_s)
        claims = verify(token, keys, self._issuer, audience, now_s)
        self._genuine.note(token)
        return claims


def _signed(claims: dict[str, Any], key: OKPKey) -> str:
    """A JWS in its compact form (RFC 7515 §7.1) by Ed25519 (RFC 8037 §3.1)."""
    text = _header(key.kid) + b"." + _base64url(_encode(claims))
    private: Any = key.private_key
    return (text + b"." + _base64url(private.sign(text))).decode()


@lru_cache(64)
def _header(kid: str) -> bytes:
    return _base64url(_encode({"alg": ALGORITHM, "typ": TYPE, "kid": kid}))


def _claims_in(token: str) -> dict[str, Any]:
    """What a genuine token says."""
    payload = token[token.index(".") + 1 : token.rindex(".")]
    claims: dict[str, Any] = msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def _in_time(claims: dict[str, Any], audience: str | None, now_s: int) -> dict[str, Any]:
    """The claims of a genuine token that is not of the future, if they are for `audience` and good now."""
    if audience is not None and claims["aud"] != audience:
        raise InvalidToken(genuine=True)
    if claims["exp"] <= now_s:
        raise TokenExpired
    return claims


def _base64url(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


class Presented(msgspec.Struct, frozen=True, kw_only=True):
    """A refresh token that we issued, whatever has become of it; `under` which of the deployment's secrets."""

    session_id: str
    tenant_id: str
    user_id: str
    generation: int
    secret: bytes
    under: int = 0


class _Keys(msgspec.Struct, frozen=True):
    """What one deployment secret stands for in refresh tokens. `label` names it in a branch."""

    mac: bytes
    pepper: bytes
    chain: bytes
    first: bytes
    label: bytes

    @classmethod
    def of(cls, secret: bytes) -> _Keys:
        return cls(
            mac=derive(secret, "refresh token MAC"),
            pepper=derive(secret, "refresh token digest"),
            chain=derive(secret, "refresh token successor"),
            first=derive(secret, "refresh token of an idempotency key"),
            label=derive(secret, "refresh token label")[:_LABEL],
        )


class RefreshTokens:
    """`deployment`: the secret that new tokens are made under, then those whose tokens are good as well. A token's MAC
    tells which one it is of; the branch of a rotation tells it of the successor, so that processes which are not yet
    all on the same secret repeat the same answer. A branch is a secret's label; those of earlier versions begin with
    six bytes of chance."""

    def __init__(self, *deployment: bytes) -> None:
        self._keys = [_Keys.of(secret) for secret in deployment]
        self.unders = range(len(deployment))

    def start(self, name: str | None = None, under: int = 0) -> tuple[bytes, bytes]:
        """Secret and digest of a first token: a fresh one, or for a `name` always the same."""
        keys = self._keys[under]
        secret = hmac.digest(keys.first, name.encode(), "sha256") if name else secrets.token_bytes(_SECRET)
        return secret, _digest(keys, secret)

    def first(self, session_id: str, tenant_id: str, user_id: str, secret: bytes, under: int = 0) -> str:
        """The text of a session's first token."""
        return _text(self._keys[under], session_id, tenant_id, user_id, 0, secret)

    def parse(self, text: str) -> Presented:
        """Raises `RefreshTokenInvalid` for everything that this deployment did not issue."""
        raw = _decoded(text)
        body, mac = raw[:-_MAC], raw[-_MAC:]
        good = [hmac.compare_digest(mac, _mac(keys, body)) for keys in self._keys]
        if not any(good):
            raise RefreshTokenInvalid
        head = _HEADS.get(body[0])
        if head is None:
            raise RefreshTokenInvalid
        _, generation, *lengths = head.unpack_from(body)
        fields = body[head.size :]
        if len(fields) != sum(lengths) + _SECRET:
            raise RefreshTokenInvalid
        session_id, tenant_id, user_id = _cut(fields, lengths)
        if not is_session_id(session_id) or shard_in(session_id) != shard_of(tenant_id, user_id):
            raise RefreshTokenInvalid
        return Presented(
            session_id=session_id,
            tenant_id=tenant_id,
            user_id=user_id,
            generation=generation,
            secret=fields[-_SECRET:],
            under=good.index(True),
        )

    def propose(self, presented: Presented, stored: int = 0) -> Rotation:
        """What to ask of the store: the successor one generation above the token and what is `stored`."""
        keys, number = self._keys[0], max(presented.generation, stored) + 1
        return Rotation(
            session_id=presented.session_id,
            tenant_id=presented.tenant_id,
            user_id=presented.user_id,
            generation=presented.generation,
            digest=_digest(self._keys[presented.under], presented.secret),
            number=number,
            successor=_digest(keys, _derived(keys, presented, number, keys.label)),
            branch=keys.label,
        )

    def successor(self, presented: Presented, number: int, branch: bytes) -> str:
        """The successor of the number and under the branch that the store kept; the same for everyone who asks."""
        keys = next((keys for keys in self._keys if branch.endswith(keys.label)), self._keys[0])
        secret = _derived(keys, presented, number, branch)
        owner = presented.session_id, presented.tenant_id, presented.user_id
        return _text(keys, *owner, number, secret)


def _text(keys: _Keys, session_id: str, tenant_id: str, user_id: str, generation: int, secret: bytes) -> str:
    names = [name.encode() for name in (session_id, tenant_id, user_id)]
    version = 1 if len(names[-1]) < 256 else 2
    body = b"".join([_HEADS[version].pack(version, generation, *map(len, names)), *names, secret])
    return "rt_" + urlsafe_b64encode(body + _mac(keys, body)).decode().rstrip("=")


def _mac(keys: _Keys, body: bytes) -> bytes:
    return hmac.digest(keys.mac, body, "sha256")[:_MAC]


def _digest(keys: _Keys, secret: bytes) -> bytes:
    return hmac.digest(keys.pepper, secret, "sha256")[:_DIGEST]


def _derived(keys: _Keys, parent: Presented, number: int, branch: bytes) -> bytes:
    material = parent.secret + number.to_bytes(4) + branch
    return hmac.digest(keys.chain, material, "sha256")


def _decoded(text: str) -> bytes:
    """The bytes of canonical base64url behind `rt_`."""
    if len(text) > _MAX_CHARS or not text.startswith("rt_") or not text.isascii() or len(text) % 4 == 0:
        raise RefreshTokenInvalid
    try:
        raw = urlsafe_b64decode(text[3:] + "=" * (-(len(text) - 3) % 4))
    except ValueError:
        raise RefreshTokenInvalid from None
    canonical = urlsafe_b64encode(raw).decode().rstrip("=") == text[3:]
    if not canonical or len(raw) < _HEADS[2].size + _SECRET + _MAC:
        raise RefreshTokenInvalid
    return raw


def _cut(fields: bytes, lengths: list[int]) -> list[str]:
    texts, start = [], 0
    for length in lengths:
        texts.append(fields[start : start + length].decode())
        start += length
    return texts
