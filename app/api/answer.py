"""How an answer leaves: the headers that every one has, then its body in one piece or as it comes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.types import Send

from app.api.call import Context, Header, Reply

SECURITY: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
"""On every answer, unless it brings its own."""


async def begin(send: Send, context: Context, status: int, own: Iterable[Header]) -> None:
    """Status and headers."""
    names = [name for name, _ in own]
    common = [header for header in SECURITY if header[0] not in names] if names else SECURITY
    headers = [*own, *common, *context.standing, (b"x-request-id", context.request_id.encode())]
    if context.site.closing:
        headers.append((b"connection", b"close"))
    context.status = status
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def respond(send: Send, context: Context, reply: Reply) -> None:
    """A whole answer."""
    own = [*reply.headers]
    if reply.body:
        own.append((b"content-type", reply.content_type))
    if reply.status not in (204, 304):
        own.append((b"content-length", b"%d" % len(reply.body)))
    await begin(send, context, reply.status, own)
    await send({"type": "http.response.body", "body": reply.body})
