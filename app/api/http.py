"""The door: pure ASGI around the routes. It reads the clock once, gives every request an id, refuses what is too
large, and turns each `Problem` into its document."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from time import perf_counter

import msgspec
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from app.api import cors, request
from app.api.answer import begin, respond
from app.api.auth import carries_admin_key
from app.api.call import CONTEXT, Context, Site
from app.api.dashboard import Dashboard, is_below
from app.api.logs import Log
from app.api.operation import Operation, WrongMethod, resources
from app.api.problems import document, headers
from app.api.sides import side_of
from app.errors import NotFound, Problem

Lifespan = Callable[["Door"], AbstractAsyncContextManager[None]]


class Door:
    """An ASGI application. `clock` gives epoch milliseconds; `lifespan` opens and closes `site.runtime`."""

    def __init__(
        self,
        operations: tuple[Operation, ...],
        site: Site,
        clock: Callable[[], int],
        log: Log,
        lifespan: Lifespan | None = None,
    ) -> None:
        self.site = site
        self.log = log
        self._clock = clock
        paths = resources(operations)
        self._fixed = {resource.path: resource for resource in paths if "{" not in resource.path}
        self._dashboard = Dashboard(self._route)
        self._words = frozenset(word for path in paths for word in path.path.split("/") if "{" not in word)
        self._router = Router(
            routes=[resource.route() for resource in paths],
            redirect_slashes=False,
            default=_nowhere,
            lifespan=None if lifespan is None else lambda _: lifespan(self),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        side = side_of(scope, self.site.admin_port)
        context = Context(self.site, self._clock(), request.request_id(scope), side)
        scope[CONTEXT] = context
        begun = perf_counter()
        problem: Problem | None = None
        try:
            await self._enter(context, scope, receive, send)
        except Problem as refused:
            refused.genuine = refused.genuine or self._is_vouched(context)
            problem = self.site.failures.judge(refused, scope, context.headers, context.now)
        except Exception as error:
            self.log.failure(error, context.request_id)
            if context.status:
                raise
            problem = Problem()
        if problem is not None:
            await _refuse(problem, context, send)
        self._note(context, scope, perf_counter() - begun, problem)

    def _is_vouched(self, context: Context) -> bool:
        """Whether a good key came with the request: its holder passes on the credentials of others."""
        runtime = self.site.runtime
        return context.vouched or (runtime is not None and carries_admin_key(context.headers, runtime))

    async def _enter(self, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
        request.check_target(scope)
        context.headers = request.headers(scope)
        if is_below(scope["path"]):
            await self._dashboard(scope, receive, send)
            return
        if scope["path"].startswith(cors.PREFIX):
            context.shared = cors.shared(self.site.origins, context.headers)
            if reply := cors.preflight(scope["method"], context.headers, self.site.origins):
                await respond(send, context, reply)
                return
        await self._route(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        fixed = self._fixed.get(scope["path"])
        # Paths without a variable skip the router, which tries its routes one after the other.
        await (fixed or self._router)(scope, receive, send)

    def _note(self, context: Context, scope: Scope, seconds: float, problem: Problem | None) -> None:
        operation, status = context.operation, context.status
        name = "none" if operation is None else operation.name
        self.site.metrics.answered(name, status, seconds)
        probed = operation is not None and operation.probe and status in (200, 503)
        wanted = self.log.turns if probed else self.log.wants
        if wanted(status):
            self.log.request(
                context.now,
                status,
                request_id=context.request_id,
                method=request.known_method(scope),
                path=request.path_class(scope, self._words) if operation is None else operation.path,
                operation=name,
                tenant_id=context.tenant_id,
                key_id=context.key_id,
                code=None if problem is None else problem.code,
                ms=round(seconds * 1_000, 3),
            )


async def _refuse(problem: Problem, context: Context, send: Send) -> None:
    found = headers(problem)
    if isinstance(problem, WrongMethod):
        found.append((b"allow", problem.allow.encode()))
    body = msgspec.json.encode(document(problem, context.request_id))
    found.append((b"content-length", b"%d" % len(body)))
    await begin(send, context, problem.status, found)
    await send({"type": "http.response.body", "body": body})


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """For a path that no route knows."""
    raise NotFound
