"""A pure ASGI middleware: lets in who shows a good token, and answers everyone else itself."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final

from .errors import InsufficientRole, InvalidToken, MissingToken, ServiceUnavailable, SessionError, challenge, problem
from .memory import Claims
from .options import check_access, check_paths
from .verifier import Verifier

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE | re.ASCII)
_POLICY_VIOLATION: Final = 1008
_log: Final = logging.getLogger("session_client")

CLAIMS: Final = "session_client.claims"
"""Name of the claims in an ASGI scope. `session` belongs to Starlette's cookie sessions."""


class SessionMiddleware:
    """Puts the claims in `scope["session_client.claims"]`; in Starlette that is `request.state.session` too.

    `role`: who has another is answered 403. `required=False` lets in who shows no token, with `None` for claims.
    `public`: paths that are not looked at, below the `root_path` of a server or mount. CORS preflights pass with `None`
    for claims. Answers are problem documents (RFC 9457) with `WWW-Authenticate`.
    """

    def __init__(
        self,
        app: App,
        verifier: Verifier,
        *,
        role: str | None = None,
        required: bool = True,
        public: Collection[str] = (),
    ) -> None:
        check_access(verifier, role, required)
        self._app = app
        self._verifier = verifier
        self._role = role
        self._required = required
        self._public = check_paths(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            claims = None if _route(scope) in self._public else await self._claims(scope)
        except SessionError as error:
            await _refuse(error, scope, receive, send)
            return
        scope[CLAIMS] = claims
        scope.setdefault("state", {})["session"] = claims
        await self._app(scope, receive, send)

    async def _claims(self, scope: Scope) -> Claims | None:
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        if not sent and (not self._required or _is_preflight(scope)):
            return None
        return await admitted(self._verifier, [value.decode("latin-1") for value in sent], self._role)


def _route(scope: Scope) -> str:
    """The path below `root_path`, which ASGI servers and mounts include in `path`; as Starlette's routes see it."""
    path, root = str(scope["path"]), str(scope.get("root_path") or "")
    rest = path[len(root) :]
    return rest if root and path.startswith(root) and rest[:1] == "/" else path


def _is_preflight(scope: Scope) -> bool:
    """Whether a browser asks for permission (Fetch Standard, "CORS-preflight request"): it never sends credentials."""
    names = {name for name, _ in scope["headers"]}
    return scope.get("method") == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names


async def admitted(verifier: Verifier, authorization: list[str], role: str | None) -> Claims:
    """The claims of who sent these `Authorization` headers. Raises a `SessionError`."""
    token = bearer(authorization)
    try:
        claims = await verifier.verify(token)
    except SessionError:
        raise
    except Exception as error:
        _log.exception("the verifier failed")
        raise ServiceUnavailable from error
    if not isinstance(claims, Claims):
        _log.error("the verifier gave no claims")
        raise ServiceUnavailable
    if role is not None and claims.role != role:
        raise InsufficientRole
    return claims


def bearer(authorization: list[str]) -> str:
    """The token (RFC 6750 §2.1). Raises `MissingToken`, `InvalidToken`."""
    if not authorization or authorization[0].strip(" \t")[:6].lower() != "bearer":
        raise MissingToken
    form = _BEARER.fullmatch(authorization[0].strip(" \t"))
    if form is None or len(authorization) > 1:
        raise InvalidToken
    return form[1]


async def _refuse(error: SessionError, scope: Scope, receive: Receive, send: Send) -> None:
    """For a WebSocket that has not been accepted: the same answer, where the server can send it."""
    kind = "http"
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": error.code})
            return
        kind = "websocket.http"
    body = json.dumps(problem(error), separators=(",", ":")).encode()
    headers = {"Content-Type": "application/problem+json", "Content-Length": str(len(body)), **challenge(error)}
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": f"{kind}.response.start", "status": error.status, "headers": lines})
    await send({"type": f"{kind}.response.body", "body": body})
