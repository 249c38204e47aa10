"""Access tokens, read: the one verification routine, used by the service and by its consumers alike.

Pure: no I/O and no clock. A strict gate stands before the library (RFC 8725 §3; RFC 7515 §4): compact form, canonical
base64url, a header of exactly `alg`, `typ` and `kid`, no member twice, bounded depth and size.
"""

from __future__ import annotations

import json
import re
from binascii import a2b_base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry

ALGORITHM: Final = "EdDSA"
TYPE: Final = "at+jwt"
RESERVED: Final = frozenset(
    "iss aud sub exp iat nbf jti session_id sid tenant_id org_id role mfa_verified act cnf scope "
    "client_id auth_time acr amr".split()
)
"""Names that custom claims may never use."""

MAX_DEPTH: Final = 8
"""How deep a token may be nested. The service takes no claims that would make it deeper."""

_LIVE: Final = frozenset({"org_id", "role", "mfa_verified"})
_FIXED: Final = RESERVED - _LIVE

_MAX_CHARS: Final = 8_192
_SKEW_S: Final = 5
_FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})", re.ASCII)
_KID: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_TEXTS: Final = ("iss", "aud", "sub", "jti", "session_id", "tenant_id")
_URLSAFE: Final = bytes.maketrans(b"-_", b"+/")
_LAST: Final = ("", "", "AQgw", "AEIMQUYcgkosw048")
"""By length modulo 4: the letters that canonical base64url may end in, its spare bits being zero (RFC 4648 §3.5)."""


class _EdDSARegistry(JWSRegistry):
    """joserfc warns of the name `EdDSA` (RFC 9864) at each use. It is our wire format: consumers' libraries know no
    other, so the check of the name stays and the warning goes."""

    def get_alg(self, name: str) -> Any:
        if name != ALGORITHM:
            raise ValueError(name)
        return self.algorithms[ALGORITHM]


REGISTRY: Final = _EdDSARegistry(algorithms=[ALGORITHM])


class InvalidAccessToken(Exception):
    """`code` is `invalid_token` or `token_expired`, and stable."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class Misdirected(InvalidAccessToken):
    """A genuine token for another service or tenant than was expected: mostly a setting that is wrong."""

    def __init__(self, claims: dict[str, Any]) -> None:
        super().__init__("invalid_token", f"the token is of issuer {claims['iss']!r} for tenant {claims['aud']!r}")


class UnknownKey(InvalidAccessToken):
    """The token has the form of one of ours, and names a key that was not given."""

    def __init__(self, kid: str) -> None:
        super().__init__("invalid_token", "the key is not known")
        self.kid = kid


def verify(
    token: str, keys: Mapping[str, OKPKey], issuer: str, audience: str | None, now_s: int, skew_s: int = _SKEW_S
) -> dict[str, Any]:
    """The claims of a good token. `keys` maps `kid` to public key; `audience` `None` takes the token's own tenant.

    Raises `InvalidAccessToken`. No leeway past `exp`; `iat` and `nbf` may be up to `skew_s` seconds in the future, for
    a clock here that is behind the issuer's.
    """
    form = _FORM.fullmatch(token) if len(token) <= _MAX_CHARS else None
    if form is None:
        raise InvalidAccessToken("invalid_token", "the token has not the form of a compact JWS")
    head, payload, signature = form.groups()
    kid = _kid(head)
    key = keys.get(kid)
    if key is None:
        raise UnknownKey(kid)
    claims = _object(payload)
    _check_signature(key, _bytes(signature), token[: form.end(2)].encode())
    return _checked(claims, issuer, audience, now_s, skew_s)


def _check_signature(key: OKPKey, signature: bytes, signed: bytes) -> None:
    """Ed25519 (RFC 8037 §3.1) and no other curve, whatever key was handed in."""
    public = key.public_key
    try:
        if isinstance(public, Ed25519PublicKey):
            public.verify(signature, signed)
            return
    except InvalidSignature:
        pass
    raise InvalidAccessToken("invalid_token", "the signature is not valid") from None


@lru_cache(64)
def _kid(head: str) -> str:
    """The key that a header names, if it is a header of ours. All tokens of a key share one header."""
    header = _object(head)
    if header.keys() != {"alg", "typ", "kid"} or header["alg"] != ALGORITHM or header["typ"] != TYPE:
        raise InvalidAccessToken("invalid_token", "the header is not one of ours")
    kid = header["kid"]
    if not isinstance(kid, str) or _KID.fullmatch(kid) is None:
        raise InvalidAccessToken("invalid_token", "the key is not known")
    return kid


def _bytes(part: str) -> bytes:
    """The bytes of canonical base64url; the letters have been checked before."""
    if part[-1] not in _LAST[len(part) % 4] and len(part) % 4:
        raise InvalidAccessToken("invalid_token", "base64url must be canonical")
    return a2b_base64(part.encode().translate(_URLSAFE) + b"==")


def _object(part: str) -> dict[str, Any]:
    raw = _bytes(part)
    try:
        value = _parsed(raw)
        if isinstance(value, dict) and (raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH or depth(value) <= MAX_DEPTH):
            return value
    except (ValueError, RecursionError):
        pass
    raise InvalidAccessToken("invalid_token", "not a JSON object")


def _parsed(raw: bytes) -> Any:
    """What is written exactly as it would be written again hides nothing, a second member of one name least of all:
    so most tokens are read by the quick parser, and the rest by the strict one."""
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        value = None
    return value if msgspec.json.encode(value) == raw else _STRICT.decode(raw.decode())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


def depth(value: Any) -> int:
    """How many objects and arrays lie in each other. Raises `RecursionError`."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def _checked(claims: dict[str, Any], issuer: str, audience: str | None, now_s: int, skew_s: int) -> dict[str, Any]:
    """RFC 9068 §4: every required claim present and of its type, for us, and in time."""
    for name in _TEXTS:
        if type(text := claims.get(name)) is not str or not text:
            raise InvalidAccessToken("invalid_token", "a claim is missing")
    if (
        type(claims.get("exp")) is not int
        or type(claims.get("iat")) is not int
        or type(claims.get("nbf", 0)) is not int
    ):
        raise InvalidAccessToken("invalid_token", "a date is not a whole number")
    if claims["iss"] != issuer or claims["aud"] != (audience or claims["tenant_id"]):
        raise Misdirected(claims)
    if claims["tenant_id"] != claims["aud"]:
        raise Misdirected(claims)
    if max(claims["iat"], claims.get("nbf", 0)) > now_s + skew_s:
        raise InvalidAccessToken("invalid_token", "the token is of the future")
    if claims["exp"] <= now_s:
        raise InvalidAccessToken("token_expired", "The access token has expired")
    return claims


def changed(
    said: dict[str, Any], claims: dict[str, Any] | None, org_id: str | None, role: str | None, mfa: bool | None
) -> dict[str, Any]:
    """A token's claims as a token issued after the change would have them."""
    fixed = {name: value for name, value in said.items() if name in _FIXED}
    texts = {name: value for name, value in (("org_id", org_id), ("role", role)) if value is not None}
    return {**(claims or {}), **fixed, **texts, "mfa_verified": bool(mfa)}
