"""`python -m tests.bench.reference PORT REDIS_URL`: what the service is measured against, on the same uvicorn.

`GET /json`: a bare Starlette route that answers a small JSON object. `POST /json`: the same with a JSON body read.
`GET /large`: an answer of the size and with the headers of ours. `GET /redis`: one GET through redis-py's pool.
"""

from __future__ import annotations

import sys

import uvicorn
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.api.answer import SECURITY
from app.main import calm_collector

_HEADERS = {name.decode(): value.decode() for name, value in SECURITY} | {"x-request-id": "0" * 32}
_LARGE = {"payload": {f"claim{number}": "v" * 24 for number in range(12)}, "session": {"user_agent": "a" * 400}}


def application(redis_url: str) -> Starlette:
    redis = Redis.from_url(redis_url)

    async def small(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def posted(request: Request) -> JSONResponse:
        await request.json()
        return JSONResponse({"status": "ok"})

    async def large(request: Request) -> JSONResponse:
        return JSONResponse(_LARGE, headers=_HEADERS)

    async def read(request: Request) -> JSONResponse:
        value = await redis.get(request.query_params["key"])
        return JSONResponse({"value": None if value is None else value.decode()})

    return Starlette(
        routes=[
            Route("/json", small),
            Route("/json", posted, methods=["POST"]),
            Route("/large", large),
            Route("/redis", read),
        ]
    )


def main() -> None:
    port, redis_url = sys.argv[1:]
    config = uvicorn.Config(
        application(redis_url),
        port=int(port),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_level="warning",
    )
    calm_collector()
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
