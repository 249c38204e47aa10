"""`python -m tests.client.server '{"verifier": {…}, "access": {…}, "clock": -59}'`: Python twin of `js/server.mjs`."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.client import verifier as module
from app.client.asgi import SessionMiddleware
from app.client.verifier import Verifier

_METHODS = ["GET", "HEAD", "OPTIONS", "POST"]


async def _answer(request: Request) -> JSONResponse:
    claims = request.scope.get("session_client.claims")
    return JSONResponse({"user": claims and claims.user_id, "role": claims and claims.role})


def main() -> None:
    given = json.loads(sys.argv[1])
    vars(module)["_now"] = lambda: time.time() + given["clock"]
    verifier = Verifier(**given["verifier"])

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with verifier:
            yield

    middleware = [Middleware(SessionMiddleware, verifier=verifier, **given["access"])]
    routes = [Route("/{path:path}", _answer, methods=_METHODS)]
    app = Starlette(routes=routes, middleware=middleware, lifespan=lifespan)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(app, log_level="warning", server_header=False, date_header=False)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
