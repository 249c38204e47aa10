"""Settings of one process, from the environment, built once and frozen. A wrong value is refused by name."""

from __future__ import annotations

import math
import os
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from app.client.redis_address import AddressError, RedisAddress, parse_address

Network = IPv4Network | IPv6Network
Environment = Literal["development", "production"]
_TOPICS = frozenset({"version", "eviction", "persistence", "clock", "issuer", "retention"})
PREFIX = "HELLOJOHN_"
BARE = ("ADMIN_PORT", "ARQ_REDIS_URL", "HOST", "PORT", "REDIS_TIMEOUT_MS", "REDIS_URL")
"""The settings whose names do not begin with `PREFIX`."""
_MOST = 60_000_000
_BLANKS = re.compile(r"[\x00-\x1f\x7f]")
_DEFAULT_REDIS = parse_address("redis://127.0.0.1:6379/0")


class SettingError(ValueError):
    """A setting is missing or wrong; the message starts with its name."""


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
    def operators_url(self) -> str:
        """The address of this service as a browser of an operator knows it."""
        return self.dashboard_url or self.issuer

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ, *, signs_tokens: bool = True) -> Settings:
        """`signs_tokens`: without a given issuer development derives one from PORT."""
        env = _trimmed(env)
        environment = _choice(env, "HELLOJOHN_ENV", ("development", "production"), "development")
        port = _number(env, "PORT", 8000, 1, 65_535)
        secret, admin_key = _secret(env, environment), _admin_key(env, environment)
        admin_port, oidc = _admin_port(env, port), _oidc(env, environment)
        if admin_key.encode().removeprefix(b"mk_live_") in secret or secret in admin_key.encode():
            raise SettingError("HELLOJOHN_ADMIN_KEY must not be made of HELLOJOHN_SECRET")
        return cls(
            environment=environment,  # type: ignore[arg-type]
            redis_url=_redis_address(env, "REDIS_URL") or _DEFAULT_REDIS,
            arq_redis_url=_redis_address(env, "ARQ_REDIS_URL"),
            secret=secret,
            admin_key=admin_key,
            other_secret=_other_secret(env, environment, secret),
            issuer=_issuer(env, environment, f"http://127.0.0.1:{port}" if signs_tokens else ""),
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
        if usual or not re.fullmatch(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?", origin):
            raise SettingError(f"{name} must list origins such as https://app.example")
    return found


def _file(env: Mapping[str, str], name: str) -> str | None:
    value = env.get(name) or None
    if value is not None and not Path(value).is_file():
        raise SettingError(f"{name} names no file")
    return value


def _secret(env: Mapping[str, str], environment: str) -> bytes:
    value = env.get("HELLOJOHN_SECRET")
    if value:
        return _strong("HELLOJOHN_SECRET", value, value, environment).encode()
    if environment == "production":
        raise SettingError("HELLOJOHN_SECRET is required in production")
    return _kept(env, "secret", secrets.token_urlsafe(48)).encode()


def _other_secret(env: Mapping[str, str], environment: str, secret: bytes) -> bytes | None:
    value = env.get("HELLOJOHN_OTHER_SECRET")
    if not value:
        return None
    if value.encode() == secret:
        raise SettingError("HELLOJOHN_OTHER_SECRET must be another one than HELLOJOHN_SECRET")
    return _strong("HELLOJOHN_OTHER_SECRET", value, value, environment).encode()


def _strong(name: str, value: str, random: str, environment: str) -> str:
    """`value`, whose part `random` nobody could guess. Development asks for its length only."""
    if len(random) < 32:
        raise SettingError(f"{name} must have at least 32 characters")
    if environment == "production" and _guessable(random):
        raise SettingError(f"{name} must be random: make one with `openssl rand -base64 48 | tr +/ -_`")
    return value


def _guessable(text: str) -> bool:
    """Samples, repetitions, rows of a keyboard or an alphabet: what people type when they are asked for a secret."""
    counts = Counter(text)
    bits = -sum(count * math.log2(count / len(text)) for count in counts.values())
    steps = sum(abs(ord(one) - ord(after)) <= 1 for one, after in pairwise(text))
    repeated = len({text[i : i + 4] for i in range(len(text) - 3)}) < 0.8 * (len(text) - 3)
    sample = re.search(
        r"change.?me|example|sample|placeholder|password|replace|insecure|your.?(secret|key)", text, re.I
    )
    return bits < 88 or steps > len(text) / 2 or repeated or sample is not None


def _admin_key(env: Mapping[str, str], environment: str) -> str:
    value = env.get("HELLOJOHN_ADMIN_KEY")
    if value:
        if not re.fullmatch(r"mk_live_[A-Za-z0-9._~+/-]{32,}", value):
            raise SettingError("HELLOJOHN_ADMIN_KEY must be mk_live_ followed by at least 32 characters of a token")
        return _strong("HELLOJOHN_ADMIN_KEY", value, value[8:], environment)
    if environment == "production":
        raise SettingError("HELLOJOHN_ADMIN_KEY is required in production")
    return _kept(env, "admin_key", "mk_live_" + secrets.token_urlsafe(32))


def _issuer(env: Mapping[str, str], environment: str, default: str) -> str:
    if found := _address(env, "HELLOJOHN_ISSUER"):
        return found
    if environment == "production":
        raise SettingError("HELLOJOHN_ISSUER is required in production")
    return default


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
    for name, value in zip((*names, "HELLOJOHN_OIDC_ALLOWED"), (*values, allowed), strict=True):
        if not value:
            raise SettingError(f"{name} is required with the other HELLOJOHN_OIDC settings")
    parts = urlsplit(values[0])
    if parts.scheme != "https" and (environment == "production" or parts.scheme != "http"):
        raise SettingError("HELLOJOHN_OIDC_ISSUER must be an https address")
    return Oidc(
        issuer=values[0],
        client_id=values[1],
        client_secret=values[2],
        allowed=frozenset(word.lower() if "@" in word and not word.startswith("group:") else word for word in allowed),
        scope=env.get("HELLOJOHN_OIDC_SCOPE") or "openid email profile",
    )


def _kept(env: Mapping[str, str], name: str, fresh: str) -> str:
    """In development: a value made once and kept in the data folder with mode 0600."""
    folder = Path(env.get("HELLOJOHN_DATA") or ".data")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{name}.{secrets.token_hex(8)}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(fresh)
    try:
        os.link(draft, folder / name)
    except FileExistsError:
        return (folder / name).read_text().strip()
    finally:
        draft.unlink()
    return fresh
