"""Refusals as RFC 9457 documents. The one place where an error becomes a status, headers and bytes."""

from __future__ import annotations

from typing import Final

import msgspec

from app.api.call import Header
from app.errors import InsufficientScope, MissingToken, Problem, RateLimited, TooManyFailures

MEDIA_TYPE: Final = "application/problem+json"
PAGE: Final = "/docs/problems"
_CHALLENGE: Final = b'Bearer realm="hellojohn"'


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457 §3; `code` is stable, `detail` is for humans, `field` names what was wrong with the request, `scope`
    what an API key lacks. The header `Link` leads to what to do about it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    field: str | None = None
    scope: str | None = None


def document(problem: Problem, request_id: str) -> ProblemDocument:
    return ProblemDocument(
        type=type_of(problem),
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        code=problem.code,
        request_id=request_id,
        field=problem.field,
        scope=problem.scope if isinstance(problem, InsufficientScope) else None,
    )


def type_of(problem: Problem | type[Problem]) -> str:
    """A name and no address, the same wherever the service runs; the header `Link` has the address."""
    return f"urn:hellojohn:problem:{problem.code}"


def headers(problem: Problem) -> list[Header]:
    """What the status obliges us to say: RFC 6750 §3 for 401 and 403, RFC 9110 §15.6.4 for 503. And where one can read
    what to do (RFC 8288, `help`)."""
    found: list[Header] = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"link", f'<{PAGE}#{problem.code}>; rel="help"'.encode()),
    ]
    if isinstance(problem, MissingToken):
        found.append((b"www-authenticate", _CHALLENGE))
    elif problem.status == 401:
        found.append((b"www-authenticate", _CHALLENGE + b', error="invalid_token"'))
    elif isinstance(problem, InsufficientScope):
        needed = b"" if problem.scope is None else b', scope="' + problem.scope.encode() + b'"'
        found.append((b"www-authenticate", _CHALLENGE + b', error="insufficient_scope"' + needed))
    elif problem.status == 503:
        found.append((b"retry-after", b"1"))
    elif isinstance(problem, (TooManyFailures, RateLimited)):
        found.append((b"retry-after", b"%d" % problem.retry_after))
    elif problem.status in (408, 413, 431):
        found.append((b"connection", b"close"))
    return found
