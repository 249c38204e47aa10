"""Pages of other origins that may call in the name of their users: `/v1/me/…`, and nothing else (Fetch standard, "CORS
protocol"). No cookie is ever involved: a page that is allowed may read what its own token gets it."""

from __future__ import annotations

from typing import Final

from app.api.call import Header, Reply

PREFIX: Final = "/v1/me/"
_EXPOSED: Final = (b"access-control-expose-headers", b"retry-after, x-request-id")
_PREFLIGHT: Final[tuple[Header, ...]] = (
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, baggage, sentry-trace, traceparent, tracestate, x-request-id",
    ),
    (b"access-control-max-age", b"600"),
)


def shared(origins: frozenset[bytes], headers: dict[bytes, bytes]) -> tuple[Header, ...]:
    """What an answer below `PREFIX` tells the browser, and caches on its way."""
    if not origins:
        return ()
    origin, vary = headers.get(b"origin"), (b"vary", b"origin")
    if origin not in origins:
        return (vary,)
    return (vary, (b"access-control-allow-origin", origin), _EXPOSED)


def preflight(method: str, headers: dict[bytes, bytes], origins: frozenset[bytes]) -> Reply | None:
    """The answer to a browser that asks whether it may call, if it may."""
    if method != "OPTIONS" or b"access-control-request-method" not in headers:
        return None
    return Reply(status=204, headers=_PREFLIGHT) if headers.get(b"origin") in origins else None
