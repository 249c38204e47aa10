"""A Starlette app behind the middleware: `uvicorn session_client.examples.asgi_app:app --port 9000`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from session_client import Claims, SessionMiddleware, Verifier
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

verifier = Verifier(
    url=os.environ["HELLOJOHN_URL"],
    tenant_id=os.environ["TENANT_ID"],
    api_key=os.environ["API_KEY"],
    issuer=os.environ.get("HELLOJOHN_ISSUER"),
)


async def me(request: Request) -> JSONResponse:
    session: Claims = request.state.session
    return JSONResponse({"user": session.user_id, "role": session.role, "plan": session.get("plan")})


async def health(_: Request) -> PlainTextResponse:
    return PlainTextResponse("stale" if verifier.stale else "fresh")


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with verifier:
        yield


app = Starlette(
    routes=[Route("/me", me), Route("/health", health)],
    middleware=[Middleware(SessionMiddleware, verifier=verifier, public=["/health"])],
    lifespan=lifespan,
)
