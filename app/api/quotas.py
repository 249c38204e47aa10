"""What an API key has left of its quota: looked at before a call, said with every answer.

`RateLimit-Policy` and `RateLimit` as in draft-ietf-httpapi-ratelimit-headers-10, `Retry-After` as in RFC 9110 §10.2.3.
"""

from __future__ import annotations

from app.api.call import Context
from app.errors import RateLimited
from app.quotas import WINDOW_S, CallClass


def charge(context: Context, key_id: str, kind: CallClass) -> None:
    """One call of `key_id`. Raises `RateLimited`."""
    standing = context.site.running().quotas.take(key_id, kind)
    if standing is None:
        return
    name = kind.encode()
    context.shared += (
        (b"ratelimit-policy", b'"%s";q=%d;w=%d' % (name, standing.limit, WINDOW_S)),
        (b"ratelimit", b'"%s";r=%d;t=%d' % (name, standing.left, standing.retry_after or standing.reset)),
    )
    if standing.retry_after:
        raise RateLimited(standing.retry_after)
