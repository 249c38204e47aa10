"""What a process asks before it serves: is the store fit, and is this deployment's secret the one its keys lie under?

In production a finding stops the process unless `HELLOJOHN_ACCEPT` names its topic; in development it is a warning.
A store that does not answer is no finding: the process starts, answers 503, and asks again until the store comes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from app.errors import StoreUnavailable
from app.keys import UnsealError
from app.runtime import open_runtime
from app.settings import SettingError, Settings, where
from app.store.health import Finding, examine
from app.store.wire import open_wire

_PATIENCE_S: Final = 5.0
_PAUSE_S: Final = 0.2
_PREFIX: Final = "HELLOJOHN_"
NAMES: Final = frozenset(
    _PREFIX + name
    for name in (
        "ACCEPT ADMIN_KEY DASHBOARD_URL DATA ENV FAILURES_PER_MINUTE GEOIP_FILE ISSUER LOG OIDC_ALLOWED OIDC_CLIENT_ID "
        "OIDC_CLIENT_SECRET OIDC_ISSUER OIDC_SCOPE ORIGINS OTHER_SECRET PROXIES READS_PER_MINUTE RETENTION_HOURS "
        "SECRET URL VERIFIES_PER_MINUTE WRITES_PER_MINUTE"
    ).split()
)
"""All settings that begin so; `HELLOJOHN_URL` is for those who call the service."""
_BARE: Final = ("ADMIN_PORT", "ARQ_REDIS_URL", "HOST", "PORT", "REDIS_TIMEOUT_MS", "REDIS_URL")
_LINK: Final = re.compile(
    _PREFIX + r"(\w+_)?(SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=[0-9]+|PORT=\w+://.*|PORT_[0-9]+_(TCP|UDP)(_\w+)?=.*)"
)
_log = logging.getLogger("app.selfcheck")


def self_check(settings: Settings) -> bool:
    """`check` before there is an event loop."""
    return asyncio.run(check(settings))


async def check(settings: Settings) -> bool:
    """Whether the store has answered within five seconds. Raises `SettingError` where this process must not serve; then
    nothing has been written."""
    wire = await open_wire(settings.redis_url, settings.redis_timeout_ms, primary_only=False)
    async with open_runtime(settings, wire=wire) as runtime:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    try:
                        _judge(settings, await examine(wire, runtime.clock()))
                        await runtime.keys.signer(runtime.clock())
                        return True
                    except StoreUnavailable:
                        await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            _log.warning(
                "the store at %s does not answer; nothing is served until it does and has been checked",
                where(settings.redis_url),
            )
            return False
        except UnsealError:
            raise SettingError(
                "HELLOJOHN_SECRET is not the one that this store's signing keys lie under; give the one they were made "
                "with, or an empty store"
            ) from None


def warn_of_issuer(settings: Settings) -> None:
    """In production: whoever can change on the way what verifiers fetch from there has tokens of their own accepted."""
    parts = urlsplit(settings.issuer)
    if settings.environment == "production" and parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        _log.warning(
            "HELLOJOHN_ISSUER is an http:// address: signing keys are fetched from it unprotected; "
            "give the https:// address of your TLS proxy"
        )


def warn_of_unknown(env: Mapping[str, str] = os.environ) -> None:
    """By name alone: the value may be a secret."""
    for name, nearest in unknown(env).items():
        _log.warning("%s is no setting and is ignored%s", name, f"; is {nearest} meant?" if nearest else "")


def unknown(env: Mapping[str, str]) -> dict[str, str | None]:
    """Names that begin as ours do and set nothing, each with the one that may have been meant. Kubernetes sets some of
    its own for a service that is called like this one, with numbers and addresses in them."""
    names = sorted(name for name in env if name.startswith(_PREFIX) and name not in NAMES)
    return {name: _nearest(name) for name in names if not _LINK.fullmatch(f"{name}={env[name]}")}


def _nearest(name: str) -> str | None:
    """Compared without what all of them have in common."""
    known = {known.removeprefix(_PREFIX): known for known in (*sorted(NAMES), *_BARE)}
    return next((known[near] for near in get_close_matches(name.removeprefix(_PREFIX), known, 1, 0.75)), None)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _judge(settings: Settings, findings: list[Finding]) -> None:
    refused = []
    for finding in findings:
        if settings.environment == "production" and finding.topic not in settings.accepted:
            refused.append(f"{finding.text} (to accept it: HELLOJOHN_ACCEPT={finding.topic})")
        else:
            _log.warning("%s", finding.text)
    if refused:
        raise SettingError("REDIS_URL names a server that is not fit: " + "; ".join(refused))
