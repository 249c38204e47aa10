"""One row of the API: the same row makes the checks before its handler, the route and the document's entry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

import msgspec
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from app.api import request, strict_json
from app.api.answer import begin, respond
from app.api.auth import NOBODY, Credential, identify
from app.api.call import CONTEXT, Call, Context, Reply, Stream
from app.api.quotas import charge
from app.api.request import idempotency_key
from app.api.sides import OF_CREDENTIAL, Sides, check_caller
from app.errors import (
    BodyTooLarge,
    HeadersTooLarge,
    InsufficientScope,
    InvalidApiKey,
    InvalidToken,
    MalformedRequest,
    MethodNotAllowed,
    MissingToken,
    NotFound,
    Problem,
    RateLimited,
    RequestTimeout,
    SessionExpired,
    SessionRevoked,
    StoreUnavailable,
    TenantMismatch,
    TokenExpired,
    TooManyFailures,
    UnsupportedMediaType,
    UriTooLong,
    ValidationError,
)
from app.model import DESCRIBES_CALLER, Scope
from app.quotas import CallClass

Handler = Callable[[Call], Awaitable[Any]]


def always(body: Any) -> bool:
    """For `Operation.step_up`."""
    return True


def never(body: Any) -> bool:
    """For `Operation.step_up`."""
    return False


_ANY: Final = (MissingToken, TooManyFailures, InsufficientScope)
_KEY: Final = (*_ANY, InvalidApiKey)
_REFUSALS: Final[dict[Credential, tuple[type[Problem], ...]]] = {
    "key": (*_KEY, RateLimited, TenantMismatch),
    "user": (*_ANY, InvalidToken, TokenExpired, SessionRevoked, SessionExpired, TenantMismatch),
    "admin": _KEY,
    "key_or_admin": (*_KEY, RateLimited, TenantMismatch),
    "optional_key": (InvalidApiKey, TooManyFailures, RateLimited, InsufficientScope, TenantMismatch),
    "none": (),
}
_encode: Final = msgspec.json.Encoder().encode
_STALLED_S: Final = 30
"""A client that takes nothing for so long has its stream closed."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """Who may call: `credential`, and with an API key its `scope`. `body`, `query` and `answer` are structs; `errors`
    are those of the handler alone. `repeatable`: takes an `Idempotency-Key`; `kept_ms`: and for so long the door gives
    an API key the first answer again, without asking the handler. `conditional`: takes an `If-Match`.
    `expired`: what an access token that is genuine but past its `exp` may still do, in place of the handler.
    `side`: the listeners that serve it, where the credential does not say it. `step_up`: with which bodies the
    dashboard wants a fresh sign-in first. `probe`: asked every second by machines, so the log has changes only."""

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    credential: Credential
    scope: Scope | None = None
    status: int = 200
    body: Any = None
    query: Any = None
    answer: Any = None
    media_type: str = "application/json"
    errors: tuple[type[Problem], ...] = ()
    repeatable: bool = False
    step_up: Callable[[Any], bool] = never
    kept_ms: int = 0
    conditional: bool = False
    expired: Callable[[Context, dict[str, str]], Awaitable[None]] | None = None
    side: Sides | None = None
    probe: bool = False

    @property
    def sides(self) -> Sides:
        return OF_CREDENTIAL[self.credential] if self.side is None else self.side

    @property
    def kind(self) -> CallClass:
        """Which of an API key's quotas a call is charged to."""
        if self.scope == "sessions:verify":
            return "verify"
        return "read" if self.method == "GET" else "write"

    @property
    def problems(self) -> list[type[Problem]]:
        """Everything this call may answer instead, each once."""
        found: list[type[Problem]] = [*_REFUSALS[self.credential], *self.errors]
        found += [MalformedRequest, UriTooLong, HeadersTooLarge]
        if self.body is not None:
            found += [ValidationError, RequestTimeout, BodyTooLarge, UnsupportedMediaType]
        if self.query is not None:
            found.append(ValidationError)
        if self.credential != "none":
            found.append(StoreUnavailable)
        return [*dict.fromkeys([*found, Problem])]

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Raw ASGI: the caller, the query, the body, in this order; then the handler. Raises `Problem`."""
        context: Context = scope[CONTEXT]
        context.operation = self
        caller = NOBODY
        if self.credential != "none":
            runtime = context.site.running
            headers, holder = context.headers, context.holder
            try:
                caller = await identify(self.credential, self.scope, headers, runtime, context.now, holder)
            except TokenExpired:
                if self.expired is None:
                    raise
                await self.expired(context, scope.get("path_params", {}))
                await respond(send, context, self._reply(None))
                return
            check_caller(caller, context.side)
            context.vouched = caller.kind in ("key", "admin") or context.visit is not None
        if caller.tenant is not None:
            context.tenant_id = caller.tenant.id
        if caller.key is not None:
            context.key_id = caller.key.id
            charge(context, caller.key.id, self.kind)
        query = self._query(scope["query_string"])
        raw, body = b"", None
        if self.body is not None:
            raw = await context.site.bodies.read(context.headers, receive)
            body = strict_json.shaped(strict_json.parse(raw), self.body)
        if context.visit is not None and self.step_up(body):
            context.visit.step_up()
        call = Call(context, caller, scope.get("path_params", {}), query, body)
        answer = await (self._once(call, raw) if self.kept_ms else self.handler(call))
        if isinstance(answer, Stream) and scope["method"] == "HEAD":
            await _head_of(answer, context, send)
        elif isinstance(answer, Stream):
            await _pour(answer, context, receive, send)
        else:
            await respond(send, context, self._reply(answer))

    async def _once(self, call: Call, raw: bytes) -> Any:
        """The handler's answer, or with an `Idempotency-Key` the one that this API key got before. The draft's §2.2
        leaves it to us what two requests must have in common to be the same: here, what their bodies ask for. What only
        describes the caller, the order of members and white space may differ."""
        key, named = call.caller.key, idempotency_key(call.context.headers)
        if key is None or named is None:
            return await self.handler(call)

        async def act() -> bytes:
            return _encode(await self.handler(call))

        scope = (key.tenant_id, key.id, self.name, named)
        asked = (_asked(call.body), raw)  # earlier versions compared the bytes
        return Reply(await call.runtime.replays.once(scope, asked, self.kept_ms, act), status=self.status)

    def _reply(self, answer: Any) -> Reply:
        if isinstance(answer, Reply):
            return answer
        return Reply(b"" if answer is None else _encode(answer), status=self.status)

    def _query(self, raw: bytes) -> Any:
        """Raises `MalformedRequest` for an unknown or repeated name, `ValidationError` for a wrong value."""
        if self.query is None and self.credential == "none" and self.method == "GET":
            return None  # probes and public documents: monitors and caches add parameters of their own
        values = request.query(raw) if raw else {}
        if self.query is None:
            known: tuple[str, ...] = ()
        else:
            known = self.query.__struct_encode_fields__
        for name in values:
            if name not in known:
                there = f"there are {', '.join(known)}" if known else "this call takes none"
                raise MalformedRequest(f"No such query parameter; {there}", field=strict_json.shown(name))
        return None if self.query is None else strict_json.shaped(values, self.query)


def _asked(body: Any) -> bytes:
    """What a body asks for, the same for each way to write it."""
    members: dict[str, Any] = msgspec.to_builtins(body)
    same = {name: value for name, value in members.items() if name not in DESCRIBES_CALLER}
    return msgspec.json.encode(same, order="deterministic")


class Resource:
    """The operations of one path, as one raw ASGI endpoint."""

    def __init__(self, path: str, operations: list[Operation]) -> None:
        self.path = path
        self._by_method = {operation.method: operation for operation in operations}
        if "GET" in self._by_method:
            self._by_method["HEAD"] = self._by_method["GET"]
        self.allow = ", ".join(sorted(self._by_method))
        self._sides = frozenset(side for operation in operations for side in operation.sides)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        side, operation = scope[CONTEXT].side, self._by_method.get(scope["method"])
        if side is not None and side not in (self._sides if operation is None else operation.sides):
            raise NotFound
        if operation is None:
            raise WrongMethod(self.allow)
        await operation(scope, receive, send)

    def route(self) -> Route:
        """A user id may hold any visible character, a slash included."""
        return Route(self.path.replace("{user_id}", "{user_id:path}"), self)


class WrongMethod(MethodNotAllowed):
    """Carries what RFC 9110 §15.5.6 wants in `Allow`."""

    def __init__(self, allow: str) -> None:
        super().__init__()
        self.allow = allow


def resources(operations: tuple[Operation, ...]) -> list[Resource]:
    """One per path, in the order of the rows."""
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    return [Resource(path, rows) for path, rows in by_path.items()]


_STREAM: Final = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]


async def _head_of(stream: Stream, context: Context, send: Send) -> None:
    """The headers of a stream and its end (RFC 9110 §9.3.2)."""
    async with aclosing(stream.chunks) as chunks:
        await anext(chunks)  # what the stream holds open is closed with it, once it has begun
    await begin(send, context, 200, _STREAM)
    await send({"type": "http.response.body", "body": b""})


async def _pour(stream: Stream, context: Context, receive: Receive, send: Send) -> None:
    """Send a stream until it ends or the client goes. One that takes nothing is left without an end: the server under
    us then closes the connection."""
    await begin(send, context, 200, _STREAM)
    pouring, leaving = asyncio.create_task(_chunks(stream, send)), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({pouring, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (pouring, leaving):
            task.cancel()
        stalled, _ = await asyncio.gather(pouring, leaving, return_exceptions=True)
    if not isinstance(stalled, TimeoutError):
        await send({"type": "http.response.body", "body": b""})


async def _chunks(stream: Stream, send: Send) -> None:
    async for chunk in stream.chunks:
        async with asyncio.timeout(_STALLED_S):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
