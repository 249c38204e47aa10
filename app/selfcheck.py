"""What a process checks before it serves: the store is fit, and secret, issuer and retention are the deployment's own.

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
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

from app.errors import StoreUnavailable
from app.keys import UnsealError
from app.log import Lasting
from app.model import HOUR
from app.runtime import open_runtime
from app.settings import BARE, PREFIX, SettingError, Settings
from app.store.deployment import keep_shared, read_shared
from app.store.health import Finding, examine
from app.store.wire import Wire, open_wire

_PATIENCE_S: Final = 5.0
_PAUSE_S: Final = 0.2
_SHARED: Final = {
    "issuer": ("HELLOJOHN_ISSUER", "issuer"),
    "retention_hours": ("HELLOJOHN_RETENTION_HOURS", "retention"),
}
"""Field in the store → its setting and its topic in `HELLOJOHN_ACCEPT`."""
_waiting: Final = Lasting()
NAMES: Final = frozenset(
    PREFIX + name
    for name in (
        "ACCEPT ADMIN_KEY DASHBOARD_URL DATA ENV FAILURES_PER_MINUTE GEOIP_FILE ISSUER LOG OIDC_ALLOWED OIDC_CLIENT_ID "
        "OIDC_CLIENT_SECRET OIDC_ISSUER OIDC_SCOPE ORIGINS OTHER_ADMIN_KEY OTHER_SECRET PROXIES READS_PER_MINUTE "
        "RETENTION_HOURS SECRET URL VERIFIES_PER_MINUTE WRITES_PER_MINUTE"
    ).split()
)
"""All settings that begin so; `HELLOJOHN_URL` is for those who call the service."""
_LINK: Final = re.compile(
    PREFIX + r"(\w+_)?(SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=[0-9]+|PORT=\w+://.*|PORT_[0-9]+_(TCP|UDP)(_\w+)?=.*)"
)
_log = logging.getLogger("app.selfcheck")


def self_check(settings: Settings) -> bool:
    """`check` before there is an event loop."""
    return asyncio.run(check(settings))


async def check(settings: Settings) -> bool:
    """Whether the store has answered within five seconds; longer where REDIS_TIMEOUT_MS leaves a try more time. Raises
    `SettingError` where this process must not serve; then nothing has been written."""
    wire = await open_wire(settings.redis_url, settings.redis_timeout_ms, primary_only=False)
    async with open_runtime(settings, wire=wire) as runtime:
        try:
            async with asyncio.timeout(max(_PATIENCE_S, 1 + 1.5 * settings.redis_timeout_ms / 1_000)):
                while True:
                    try:
                        _judge(settings, await examine(wire, runtime.clock()))
                        _compare(settings, await read_shared(wire))
                        await runtime.keys.signer(runtime.clock())
                        await _keep_shared(settings, wire)
                        return True
                    except StoreUnavailable:
                        await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            if _waiting.came(monotonic()):
                _log.warning("nothing is served until the store at %s answers and is fit", settings.redis_url.place)
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
    names = sorted(name for name in env if name.startswith(PREFIX) and name not in NAMES)
    return {name: _nearest(name) for name in names if not _LINK.fullmatch(f"{name}={env[name]}")}


def _nearest(name: str) -> str | None:
    """Compared without what all of them have in common."""
    known = {known.removeprefix(PREFIX): known for known in (*sorted(NAMES), *BARE)}
    return next((known[near] for near in get_close_matches(name.removeprefix(PREFIX), known, 1, 0.75)), None)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _shared(settings: Settings) -> dict[str, str]:
    """What every process of a deployment must have alike. A process that signs no tokens may have no issuer."""
    hours = {"retention_hours": str(settings.retention_ms // HOUR)}
    return {"issuer": settings.issuer, **hours} if settings.issuer else hours


def _compare(settings: Settings, stored: Mapping[str, str]) -> None:
    """Raises `SettingError` for all that differs and is not accepted."""
    refused = []
    for name, value in _shared(settings).items():
        setting, topic = _SHARED[name]
        if topic not in settings.accepted and stored.get(name, value) != value:
            way_out = f"set the same, or to change it for all of them HELLOJOHN_ACCEPT={topic}"
            refused.append(f"{setting} differs from that of the other processes on this store; {way_out}")
    if refused:
        raise SettingError(". ".join(refused))


async def _keep_shared(settings: Settings, wire: Wire) -> None:
    """Also where two processes with different values start at once on a new store: one of them is refused."""
    replaced = [name for name, (_, topic) in _SHARED.items() if topic in settings.accepted]
    _compare(settings, await keep_shared(wire, _shared(settings), replaced))


def _judge(settings: Settings, findings: list[Finding]) -> None:
    refused = []
    for finding in findings:
        if settings.environment == "production" and finding.topic not in settings.accepted:
            refused.append(f"{finding.text} (to accept it: HELLOJOHN_ACCEPT={finding.topic})")
        else:
            _log.warning("%s", finding.text)
    if refused:
        raise SettingError("REDIS_URL names a server that is not fit: " + "; ".join(refused))
