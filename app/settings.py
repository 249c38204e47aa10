"""Settings of one process, from the environment, built once and frozen. A wrong value is refused by name."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from app.client.redis_address import AddressError, RedisAddress, Secret, parse_address
from app.credentials import SettingError as SettingError
from app.credentials import keep_apart, read_admin_key, read_other_admin_key, read_other_secret, read_secret

Network = IPv4Network | IPv6Network
Environment = Literal["development", "production"]
_TOPICS = frozenset({"version", "eviction", "persistence", "clock", "issuer", "retention"})
PREFIX = "HELLOJOHN_"
BARE = ("ADMIN_PORT", "ARQ_REDIS_URL", "HOST", "PORT", "REDIS_TIMEOUT_MS", "REDIS_URL")
"""The settings whose names do not begin with `PREFIX`."""
_MOST = 60_000_000
_BLANKS = re.compile(r"[\x00-\x1f\x7f]")
_DEFAULT_REDIS = parse_address("redis://127.0.0.1:6379/0")


class Oidc(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's own OpenID provider. `allowed`: subjects, addresses in lower case, and `group:<name>`."""

    issuer: str
    client_id: str
    client_secret: str
    allowed: frozenset[str]
    scope: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`secret` feeds every derived key (HKDF); what was made under `other_secret` is good as well. `issuer` is
    the `iss` of every access token, or empty in a process that signs none and was given none; `dashboard_url`: where
    operators find the dashboard, if elsewhere. `repr` hides every secret."""

    redis_url: RedisAddress
    secret: bytes
    admin_key: str
    issuer: str
    dashboard_url: str | None = None
    other_secret: bytes | None = None
    other_admin_key: str | None = None
    environment: Environment = "development"
    arq_redis_url: RedisAddress | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    admin_port: int | None = None
    geoip_file: str | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    redis_timeout_ms: int = 2_000
    retention_ms: int = 86_400_000
    accepted: frozenset[str] = frozenset()
    proxies: tuple[Network, ...] = ()
    failures_per_minute: int = 300
    oidc: Oidc | None = None
    origins: frozenset[str] = frozenset()
    verifies_per_minute: int = 0
    reads_per_minute: int = 600_000
    writes_per_minute: int = 600_000

    def __repr__(self) -> str:
        return f"Settings(redis_url={self.redis_url!r}, issuer={self.issuer!r}, environment={self.environment!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("redis_url", self.redis_url), ("issuer", self.issuer), ("environment", self.environment)]

    @property
    def queue_address(self) -> RedisAddress:
        """Where the worker keeps its queue."""
        return self.arq_redis_url or self.redis_url

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The one to make things under, then the one that is good as well."""
        return (self.secret,) if self.other_secret is None else (self.secret, self.other_secret)

    @property
    def admin_keys(self) -> tuple[str, ...]:
        """Both are accepted alike."""
        return (self.admin_key,) if self.other_admin_key is None else (self.admin_key, self.other_admin_key)

    def is_admin_key(self, token: str) -> bool:
        """Compared with each in constant time."""
        return any([hmac.compare_digest(token.encode(), key.encode()) for key in self.admin_keys])

    @property
    def operators_url(self) -> str:
        """The address of this service as a browser of an operator knows it."""
        return self.dashboard_url or self.issuer

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ, *, signs_tokens: bool = True) -> Settings:
        """`signs_tokens`: without a given issuer development derives one from PORT."""
        given, env = env, _trimmed(env)
        environment = _choice(env, "HELLOJOHN_ENV", ("development", "production"), "development")
        _require(env, environment)
        port = _number(env, "PORT", 8000, 1, 65_535)
        secret, admin_key = read_secret(env, environment), read_admin_key(env, environment)
        admin_port, oidc = _admin_port(env, port), _oidc(env, environment)
        other_secret, other_admin_key = (
            read_other_secret(env, environment, secret) or _untrimmed_secret(given),
            read_other_admin_key(env, environment),
        )
        keep_apart(
            {"HELLOJOHN_SECRET": secret, "HELLOJOHN_OTHER_SECRET": other_secret},
            {"HELLOJOHN_ADMIN_KEY": admin_key, "HELLOJOHN_OTHER_ADMIN_KEY": other_admin_key},
        )
        return cls(
            environment=environment,  # type: ignore[arg-type]
            redis_url=_redis_address(env, "REDIS_URL") or _DEFAULT_REDIS,
            arq_redis_url=_redis_address(env, "ARQ_REDIS_URL"),
            secret=secret,
            admin_key=admin_key,
            other_secret=other_secret,
            other_admin_key=other_admin_key,
            issuer=_issuer(env, f"http://127.0.0.1:{port}" if signs_tokens else ""),
            dashboard_url=_dashboard_url(env, required=oidc is not None and admin_port is not None),
            host=env.get("HOST") or "127.0.0.1",
            port=port,
            admin_port=admin_port,
            geoip_file=_file(env, "HELLOJOHN_GEOIP_FILE"),
            log_level=_choice(  # type: ignore[arg-type]
                env, "HELLOJOHN_LOG", ("debug", "info", "warning", "error"), "info"
            ),
            redis_timeout_ms=_number(env, "REDIS_TIMEOUT_MS", 2_000, 50, 60_000),
            retention_ms=_number(env, "HELLOJOHN_RETENTION_HOURS", 24, 24, 24 * 90) * 3_600_000,
            accepted=_topics(env, "HELLOJOHN_ACCEPT"),
            proxies=_networks(env, "HELLOJOHN_PROXIES"),
            origins=_origins(env, "HELLOJOHN_ORIGINS"),
            failures_per_minute=_number(env, "HELLOJOHN_FAILURES_PER_MINUTE", 300, 0, 1_000_000),
            oidc=oidc,
            verifies_per_minute=_number(env, "HELLOJOHN_VERIFIES_PER_MINUTE", 0, 0, _MOST),
            reads_per_minute=_number(env, "HELLOJOHN_READS_PER_MINUTE", 600_000, 0, _MOST),
            writes_per_minute=_number(env, "HELLOJOHN_WRITES_PER_MINUTE", 600_000, 0, _MOST),
        )


def _trimmed(env: Mapping[str, str]) -> dict[str, str]:
    """Every value without whitespace at its ends, so that an empty one is an unset one."""
    found = {name: value.strip() for name, value in env.items()}
    for name, value in found.items():
        if (name.startswith(PREFIX) or name in BARE) and _BLANKS.search(value):
            raise SettingError(f"{name} must not contain line breaks or control characters")
    return found


def _untrimmed_secret(given: Mapping[str, str]) -> bytes | None:
    """The secret with the whitespace at its ends, as earlier versions took it: what was made under it stays good."""
    value = given.get("HELLOJOHN_SECRET", "")
    return value.encode() if value.strip() and value != value.strip() else None


def _require(env: Mapping[str, str], environment: str) -> None:
    """Raises `SettingError` for all that production lacks, at once."""
    names = [f"{PREFIX}{name}" for name in ("SECRET", "ADMIN_KEY", "ISSUER") if not env.get(f"{PREFIX}{name}")]
    if names and environment == "production":
        raise SettingError(f"{_listed(names)} required in production")


def _listed(names: list[str]) -> str:
    return f"{names[0]} is" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} are"


def _choice(env: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = env.get(name) or default
    if value not in allowed:
        raise SettingError(f"{name} must be one of {', '.join(allowed)}")
    return value


def _number(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = env.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise SettingError(f"{name} must be a whole number from {low} to {high}")
    return int(text)


def _admin_port(env: Mapping[str, str], port: int) -> int | None:
    found = _number(env, "ADMIN_PORT", port, 1, 65_535)
    return None if found == port else found


def _redis_address(env: Mapping[str, str], name: str) -> RedisAddress | None:
    try:
        return parse_address(env[name]) if env.get(name) else None
    except AddressError as error:
        refusal = f"{name} {error}"
    raise SettingError(refusal)


def _topics(env: Mapping[str, str], name: str) -> frozenset[str]:
    found = frozenset(word for word in env.get(name, "").replace(",", " ").split())
    if found - _TOPICS:
        raise SettingError(f"{name} may name {', '.join(sorted(_TOPICS))}")
    return found


def _networks(env: Mapping[str, str], name: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(word) for word in env.get(name, "").replace(",", " ").split())
    except ValueError:
        raise SettingError(f"{name} must list addresses or networks, such as 10.0.0.0/8") from None


def _origins(env: Mapping[str, str], name: str) -> frozenset[str]:
    """Serialized as a browser does it (RFC 6454 §6.2): scheme and host in small letters, no default port, no path."""
    found = frozenset(word for word in env.get(name, "").replace(",", " ").split())
    for origin in found:
        usual = (origin.startswith("http:") and origin.endswith(":80")) or origin.endswith(":443")
        host = re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?", origin)
        if usual or host is None or (host[1].startswith("[") and not _is_short_ipv6(host[1][1:-1])):
            raise SettingError(f"{name} must list origins such as https://app.example or https://[2001:db8::1]")
    return found


def _is_short_ipv6(text: str) -> bool:
    """Whether this is an IPv6 address as a browser writes it: RFC 5952, without dotted decimals."""
    try:
        short = str(IPv6Address(text))
    except ValueError:
        return False
    return short == text or "." in short


def _file(env: Mapping[str, str], name: str) -> str | None:
    value = env.get(name) or None
    if value is not None and not Path(value).is_file():
        raise SettingError(f"{name} names no file")
    return value


def _issuer(env: Mapping[str, str], default: str) -> str:
    return _address(env, "HELLOJOHN_ISSUER") or default


def _dashboard_url(env: Mapping[str, str], required: bool) -> str | None:
    """An operators' port has an address of its own, and an OpenID provider has to be told which."""
    found = _address(env, "HELLOJOHN_DASHBOARD_URL")
    if required and found is None:
        raise SettingError(
            "HELLOJOHN_DASHBOARD_URL is required with ADMIN_PORT and HELLOJOHN_OIDC_ISSUER: "
            "the address by which operators reach ADMIN_PORT"
        )
    return found


def _address(env: Mapping[str, str], name: str) -> str | None:
    value = env.get(name)
    if not value:
        return None
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise SettingError(f"{name} must be an http(s) address without query")
    return value.rstrip("/")


def _oidc(env: Mapping[str, str], environment: str) -> Oidc | None:
    """All of it or none."""
    names = ("HELLOJOHN_OIDC_ISSUER", "HELLOJOHN_OIDC_CLIENT_ID", "HELLOJOHN_OIDC_CLIENT_SECRET")
    values = [env.get(name, "") for name in names]
    allowed = frozenset(word.strip() for word in env.get("HELLOJOHN_OIDC_ALLOWED", "").split(",") if word.strip())
    if not any(values) and not allowed:
        return None
    given = zip((*names, "HELLOJOHN_OIDC_ALLOWED"), (*values, allowed), strict=True)
    if missing := [name for name, value in given if not value]:
        raise SettingError(f"{_listed(missing)} required with the other HELLOJOHN_OIDC settings")
    parts = urlsplit(values[0])
    if parts.scheme != "https" and (environment == "production" or parts.scheme != "http"):
        raise SettingError("HELLOJOHN_OIDC_ISSUER must be an https address")
    return Oidc(
        issuer=values[0],
        client_id=values[1],
        client_secret=Secret(values[2]),
        allowed=frozenset(word.lower() if "@" in word and not word.startswith("group:") else word for word in allowed),
        scope=env.get("HELLOJOHN_OIDC_SCOPE") or "openid email profile",
    )
