"""What anyone may read: public keys, metadata, the API's document, health and metrics."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from hashlib import sha256
from typing import Final

import msgspec

from app.api import docs
from app.api.call import Call, Reply
from app.api.operation import Operation
from app.api.problems import PAGE
from app.api.sides import ADMIN
from app.api.views import Health, Jwks, ServerMetadata
from app.errors import StoreUnavailable, WritesRefused, catalogue
from app.model import SKEW_MS

_CORS: Final = (b"access-control-allow-origin", b"*")
_SHARED: Final = (b"cross-origin-resource-policy", b"cross-origin")
_CACHE: Final = (b"cache-control", b"public, max-age=300")
_STYLE_HASH: Final = b64encode(sha256(docs.STYLE.encode()).digest())
_PAGE_POLICY: Final = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'sha256-" + _STYLE_HASH + b"'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'",
)
_HTML: Final = b"text/html; charset=utf-8"
_ERRORS: Final = docs.errors(catalogue())


async def jwks(call: Call) -> Reply:
    """With `Cache-Control: no-cache` (RFC 9111 §5.2.1.4) as the keys are now, in this process too."""
    fresh = b"no-cache" in call.context.headers.get(b"cache-control", b"").lower()
    return cached(call, msgspec.json.encode(await call.runtime.keys.jwks(call.now, fresh=fresh)))


async def metadata(call: Call) -> Reply:
    """RFC 8414 §3.2. No authorization endpoint, so `none` is the only response type."""
    issuer = call.runtime.settings.issuer
    found = ServerMetadata(
        issuer=issuer,
        jwks_uri=f"{issuer}/.well-known/jwks.json",
        token_endpoint=f"{issuer}/v1/sessions/refresh",
        response_types_supported=["none"],
        grant_types_supported=["refresh_token"],
        token_endpoint_auth_methods_supported=["none"],
        service_documentation=f"{issuer}/docs",
    )
    return cached(call, msgspec.json.encode(found))


async def livez(call: Call) -> Health:
    """Depends on nothing: a store that is away is no reason to restart this process."""
    return Health(status="ok")


async def readyz(call: Call) -> Health:
    """Raises `StoreUnavailable` unless every primary of the store answers, `WritesRefused` unless each takes writes.

    Also raises it while this process's clock is more than five seconds off, for it would end sessions too early, and
    once the process has been asked to end: send it nothing new."""
    if call.context.site.closing:
        raise StoreUnavailable(detail="This process is ending")
    await call.runtime.registry.check()
    if abs(call.now - await call.runtime.registry.clock()) > SKEW_MS:
        raise StoreUnavailable(detail="This process's clock is off")
    return Health(status="ready")


async def metrics(call: Call) -> Reply:
    """Also while the store is away; what it counts is then as it last was."""
    found = call.context.site.metrics
    with suppress(StoreUnavailable):
        registry = call.runtime.registry
        found.repaired(await registry.repaired())
        try:
            await registry.check()
            found.refuses_writes(False)
        except WritesRefused:
            found.refuses_writes(True)
    return Reply(found.text(), found.media_type)


async def document(call: Call) -> Reply:
    return cached(call, call.context.site.document)


async def root(call: Call) -> Reply:
    return Reply(b'<a href="/docs">Documentation</a>', _HTML, status=302, headers=((b"location", b"/docs"),))


async def page(call: Call) -> Reply:
    return Reply(call.context.site.page, _HTML, headers=(_PAGE_POLICY,))


async def errors(call: Call) -> Reply:
    return Reply(_ERRORS, _HTML, headers=(_PAGE_POLICY,))


def cached(call: Call, body: bytes, content_type: bytes = b"application/json") -> Reply:
    """Cacheable and readable from any origin; 304 for who has it already (RFC 9110 §13.1.2)."""
    tag = b'"' + sha256(body).hexdigest()[:32].encode() + b'"'
    headers = (_CORS, _SHARED, _CACHE, (b"etag", tag))
    sent = call.context.headers.get(b"if-none-match", b"")
    if sent.strip() == b"*" or tag in [known.strip().removeprefix(b"W/") for known in sent.split(b",")]:
        return Reply(status=304, headers=headers)
    return Reply(body, content_type, headers=headers)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/.well-known/jwks.json",
        name="getJwks",
        summary="Public keys that verify access tokens (RFC 7517)",
        handler=jwks,
        credential="none",
        answer=Jwks,
        errors=(StoreUnavailable,),
    ),
    Operation(
        method="GET",
        path="/.well-known/oauth-authorization-server",
        name="getServerMetadata",
        summary="Where things are (RFC 8414)",
        handler=metadata,
        credential="none",
        answer=ServerMetadata,
        errors=(StoreUnavailable,),
    ),
    Operation(
        method="GET",
        path="/livez",
        name="getLiveness",
        summary="The process runs",
        handler=livez,
        credential="none",
        answer=Health,
    ),
    Operation(
        method="GET",
        path="/readyz",
        name="getReadiness",
        summary="The process can serve: its store answers",
        handler=readyz,
        credential="none",
        answer=Health,
        errors=(StoreUnavailable,),
        probe=True,
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="getMetrics",
        summary="Metrics for Prometheus",
        handler=metrics,
        credential="none",
        side=ADMIN,
        media_type="text/plain",
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        name="getDocument",
        summary="This document",
        handler=document,
        credential="none",
    ),
    Operation(
        method="GET",
        path="/",
        name="getRoot",
        summary="Leads to the documentation",
        handler=root,
        credential="none",
        status=302,
        media_type="text/html",
    ),
    Operation(
        method="GET",
        path="/docs",
        name="getDocumentation",
        summary="This document as a page",
        handler=page,
        credential="none",
        media_type="text/html",
    ),
    Operation(
        method="GET",
        path=PAGE,
        name="getErrorDocumentation",
        summary="Every error code as a page, and what to do about each",
        handler=errors,
        credential="none",
        media_type="text/html",
    ),
)
