"""Options of the verifiers, checked when a verifier is constructed. Messages name the option, never its content."""

from __future__ import annotations

import math
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Final, Literal, Required, TypedDict, get_args
from urllib.parse import SplitResult, urlsplit

OnStale = Literal["ask", "refuse", "allow"]

_REDIS_SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")
_TEXTS: Final = ("url", "tenant_id", "api_key", "issuer", "redis_url")
_REQUIRED: Final = ("url", "tenant_id")
_POSITIVE: Final = ("max_staleness", "jwks_max_age", "jwks_timeout")
_SECONDS: Final = (*_POSITIVE, "report_every", "jwks_cooldown", "start_timeout")
_COUNTS: Final = ("max_tokens", "max_revocations", "max_updates")


class Options(TypedDict, total=False):
    """Keyword arguments of `Verifier` and `BlockingVerifier`."""

    url: Required[str]
    tenant_id: Required[str]
    api_key: str | None
    redis_url: str | None
    issuer: str | None
    on_stale: OnStale | None
    max_staleness: float
    report_every: float | None
    max_tokens: int
    max_revocations: int
    max_updates: int
    jwks_max_age: float
    jwks_cooldown: float
    jwks_timeout: float
    start_timeout: float


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Checked options. Blanks and line breaks at the ends of texts are stripped; an empty optional text is unset.

    Raises `TypeError` for an unknown option and for a wrong type, `ValueError` for a wrong value.
    """

    url: str
    tenant_id: str
    api_key: str | None = None
    redis_url: str | None = None
    issuer: str | None = None
    on_stale: OnStale | None = None
    max_staleness: float = 10.0
    report_every: float | None = 5.0
    max_tokens: int = 10_000
    max_revocations: int = 5_000_000
    max_updates: int = 100_000
    jwks_max_age: float = 600.0
    jwks_cooldown: float = 30.0
    jwks_timeout: float = 5.0
    start_timeout: float = 10.0

    def __post_init__(self) -> None:
        for name in _TEXTS:
            self._set(name, _text(name, getattr(self, name)))
        for name in _SECONDS:
            _check_seconds(name, getattr(self, name))
        for name in _COUNTS:
            _check_count(name, getattr(self, name))
        _check_url(self.url)
        if self.redis_url is not None:
            _check_redis_url(self.redis_url)
        self._set("url", self.url.rstrip("/"))
        self._set("issuer", (self.issuer or self.url).rstrip("/"))
        self._set("report_every", self.report_every or None)
        self._set("on_stale", self._policy())

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _policy(self) -> OnStale:
        if self.on_stale is not None and self.on_stale not in get_args(OnStale):
            raise ValueError('on_stale must be "ask", "refuse" or "allow"')
        policy: OnStale = self.on_stale or ("refuse" if self.api_key is None else "ask")
        if self.api_key is None and (self.redis_url is None or policy == "ask"):
            raise ValueError('api_key: an API key is needed to follow the service, and for on_stale="ask"')
        return policy


def check_access(verifier: Any, role: str | None, required: bool) -> None:
    """Check the arguments that the middleware and the dependency share: a wrong one must not let anyone in."""
    if not iscoroutinefunction(getattr(verifier, "verify", None)):
        raise TypeError("verifier must be a Verifier")
    if role is not None and not isinstance(role, str):
        raise TypeError("role must be a string")
    if role is not None and not role.strip():
        raise ValueError("role must not be empty")
    if not isinstance(required, bool):
        raise TypeError("required must be True or False")


def check_paths(public: Any) -> frozenset[str]:
    """Return the public paths. A single string is refused: each of its characters would become a path."""
    if isinstance(public, (str, bytes)):
        raise TypeError("public must be a collection of paths")
    public = [*public]
    if not all(isinstance(path, str) for path in public):
        raise TypeError("public must be a collection of paths")
    if not all(path.startswith("/") for path in public):
        raise ValueError("each path in public must begin with /")
    return frozenset(public)


def _text(name: str, value: Any) -> str | None:
    if value is None and name not in _REQUIRED:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string")
    value = value.strip()
    if not value and name in _REQUIRED:
        raise ValueError(f"{name} must not be empty")
    if any(char.isspace() or not char.isprintable() for char in value):
        raise ValueError(f"{name} must not contain blanks or control characters")
    if name == "api_key" and not value.isascii():
        raise ValueError("api_key must be ASCII")
    return value or None


def _check_seconds(name: str, value: Any) -> None:
    if value is None and name == "report_every":
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds")
    if not math.isfinite(value) or value < 0 or (name in _POSITIVE and value == 0):
        raise ValueError(f"{name} must be a finite number {'above 0' if name in _POSITIVE else 'of 0 or more'}")


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer")
    if value < 0:
        raise ValueError(f"{name} must not be negative")


def _check_url(url: str) -> None:
    parts = _split("url", url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("url must begin with http:// or https:// and name a host")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("url must have no credentials, query or fragment")


def _check_redis_url(url: str) -> None:
    parts = _split("redis_url", url.replace(",", "/", 1) if "+cluster" in url else url)
    if parts.scheme not in _REDIS_SCHEMES:
        raise ValueError(f"redis_url must begin with one of {', '.join(_REDIS_SCHEMES)}, then ://")


def _split(name: str, url: str) -> SplitResult:
    """Split an address. Raises `ValueError` that does not repeat the address: it may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(f"{name} is not a valid address; percent-encode special characters of a password") from None
    return parts
