"""Access tokens, read: the one verification routine, used by the service and by its consumers alike.

Pure: no I/O and no clock. A strict gate stands before the library (RFC 8725 §3; RFC 7515 §4): compact form, canonical
base64url, a header of exactly `alg`, `typ` and `kid`, no member twice, bounded depth and size.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry
from joserfc.jws import deserialize_compact as open_compact

ALGORITHM: Final = "EdDSA"
TYPE: Final = "at+jwt"
RESERVED: Final = frozenset(
    "iss aud sub exp iat nbf jti session_id sid tenant_id org_id role mfa_verified act cnf scope "
    "client_id auth_time acr amr".split()
)
"""Names that custom claims may never use."""

_MAX_CHARS: Final = 4_096
_MAX_DEPTH: Final = 8
_SKEW_S: Final = 5
_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}", re.ASCII)
_KID: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_TEXTS: Final = ("iss", "aud", "sub", "jti", "session_id", "tenant_id")


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


def verify(token: str, keys: Mapping[str, OKPKey], issuer: str, audience: str | None, now_s: int) -> dict[str, Any]:
    """The claims of a good token. `keys` maps `kid` to public key; `audience` `None` takes the token's own tenant.

    Raises `InvalidAccessToken`. No leeway past `exp`, five seconds for clocks that run ahead.
    """
    header, payload = _gate(token)
    key = keys.get(header["kid"])
    if key is None:
        raise InvalidAccessToken("invalid_token", "the key is not known")
    try:
        open_compact(token, key, algorithms=[ALGORITHM], registry=REGISTRY)
    except (JoseError, ValueError):
        raise InvalidAccessToken("invalid_token", "the signature is not valid") from None
    return _checked(payload, issuer, audience, now_s)


def _gate(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and payload of a well-formed token, not yet to be believed."""
    if len(token) > _MAX_CHARS or _FORM.fullmatch(token) is None:
        raise InvalidAccessToken("invalid_token", "the token has not the form of a compact JWS")
    header, payload, signature = token.split(".")
    _bytes(signature)
    head = _object(header)
    if head.keys() != {"alg", "typ", "kid"} or head["alg"] != ALGORITHM or head["typ"] != TYPE:
        raise InvalidAccessToken("invalid_token", "the header is not one of ours")
    if not isinstance(head["kid"], str) or _KID.fullmatch(head["kid"]) is None:
        raise InvalidAccessToken("invalid_token", "the key is not known")
    return head, _object(payload)


def _bytes(part: str) -> bytes:
    raw = urlsafe_b64decode(part + "=" * (-len(part) % 4)) if len(part) % 4 != 1 else b""
    if urlsafe_b64encode(raw).decode().rstrip("=") != part:
        raise InvalidAccessToken("invalid_token", "base64url must be canonical")
    return raw


def _object(part: str) -> dict[str, Any]:
    raw = _bytes(part)
    if raw.count(b"{") + raw.count(b"[") > 256:
        raise InvalidAccessToken("invalid_token", "too much nesting")
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InvalidAccessToken("invalid_token", "not a JSON object") from None
    if not isinstance(value, dict) or _depth(value) > _MAX_DEPTH:
        raise InvalidAccessToken("invalid_token", "not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def _checked(claims: dict[str, Any], issuer: str, audience: str | None, now_s: int) -> dict[str, Any]:
    """RFC 9068 §4: every required claim present and of its type, for us, and in time."""
    if any(not isinstance(claims.get(name), str) or not claims[name] for name in _TEXTS):
        raise InvalidAccessToken("invalid_token", "a claim is missing")
    dates = [claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)]
    if any(type(date) is not int for date in dates):
        raise InvalidAccessToken("invalid_token", "a date is not a whole number")
    if claims["iss"] != issuer or claims["aud"] != (audience or claims["tenant_id"]):
        raise InvalidAccessToken("invalid_token", "the token is for someone else")
    if claims["tenant_id"] != claims["aud"]:
        raise InvalidAccessToken("invalid_token", "the token is for someone else")
    if max(claims["iat"], claims.get("nbf", 0)) > now_s + _SKEW_S:
        raise InvalidAccessToken("invalid_token", "the token is of the future")
    if claims["exp"] <= now_s:
        raise InvalidAccessToken("token_expired", "The access token has expired")
    return claims
