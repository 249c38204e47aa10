"""The verifier's calls to the service, and the check that a response has the form of ours: a proxy may answer too."""

from __future__ import annotations

import logging
from ipaddress import ip_address, ip_network
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
import msgspec

from .breaker import Breaker
from .errors import REFUSALS, InvalidToken, ServiceUnavailable
from .memory import Claims
from .options import Settings

_TEXTS: Final = ("iss", "aud", "sub", "jti", "session_id", "tenant_id")
_log: Final = logging.getLogger("session_client")


class _Reason(msgspec.Struct):
    code: str


class _Verdict(msgspec.Struct):
    """Response of `POST /v1/sessions/verify`, as far as it is read here."""

    valid: bool
    payload: dict[str, Any] | None = None
    error: _Reason | None = None


_verdict: Final = msgspec.json.Decoder(_Verdict).decode


def open_http(settings: Settings) -> httpx.AsyncClient:
    """An HTTP client for the service. Proxy variables that do not concern its address cannot make this fail."""
    headers = {} if settings.api_key is None else {"Authorization": f"Bearer {settings.api_key}"}
    options: dict[str, Any] = {"base_url": settings.url, "headers": headers, "timeout": 5.0}
    options |= {"trust_env": False, "verify": httpx.create_ssl_context()}
    proxy = _proxy_for(settings.url)
    if proxy is not None:
        try:
            return httpx.AsyncClient(proxy=proxy, **options)
        except (httpx.InvalidURL, ValueError, ImportError) as error:
            _log.warning("proxy of the environment cannot be used (%s); connecting directly", type(error).__name__)
    return httpx.AsyncClient(**options)


async def ask(
    http: httpx.AsyncClient, breaker: Breaker, settings: Settings, token: str, session_id: str | None
) -> Claims:
    """The service's verdict on a token; of this session, where it is known. Raises `ServiceUnavailable` without one."""
    response = await breaker.run(lambda: http.post("/v1/sessions/verify", json={"token": token}))
    if response.status_code != 200:
        breaker.outage.failed(f"it answers {response.status_code} to a verification")
        raise ServiceUnavailable
    try:
        verdict = _verdict(response.content)
    except (msgspec.DecodeError, RecursionError):
        verdict = None
    if verdict is not None and not verdict.valid and verdict.error is not None:
        breaker.answered()
        raise REFUSALS.get(verdict.error.code, InvalidToken)()
    payload = None if verdict is None or not verdict.valid else verdict.payload
    if payload is None or not _is_ours(payload, settings, session_id):
        breaker.outage.failed("its response to a verification has an unknown form")
        raise ServiceUnavailable
    breaker.answered()
    return Claims(payload)


def _is_ours(payload: dict[str, Any], settings: Settings, session_id: str | None) -> bool:
    """Whether these are claims of a token of this issuer and tenant, and of this session."""
    return (
        all(isinstance(payload.get(name), str) and payload[name] for name in _TEXTS)
        and all(type(payload.get(name)) is int for name in ("exp", "iat"))
        and payload["iss"] == settings.issuer
        and payload["aud"] == payload["tenant_id"] == settings.tenant_id
        and session_id in (None, payload["session_id"])
        and isinstance(payload.get("role"), str | None)
        and isinstance(payload.get("org_id"), str | None)
    )


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address; NO_PROXY may hold names, addresses and networks."""
    parts, proxies = urlsplit(url), getproxies()
    proxy, host = proxies.get(parts.scheme) or proxies.get("all"), parts.hostname or ""
    if not proxy or _is_in_networks(host, proxies.get("no", "")):
        return None
    if ":" not in host and proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_in_networks(host: str, no_proxy: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    for name in no_proxy.split(","):
        try:
            if address in ip_network(name.strip().strip("[]"), strict=False):
                return True
        except ValueError:
            continue
    return False
