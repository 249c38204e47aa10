"""The middleware, message by message: what it lets through and what it answers in the application's place."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from app.client.asgi import CLAIMS, App, Message, Receive, Scope, Send, SessionMiddleware, bearer
from app.client.verifier import Verifier

VERIFIER = Verifier(url="http://127.0.0.1:9", tenant_id="tnt_1", api_key="sk_test")


class Caller:
    """Calls an application behind the middleware, and keeps what it saw and what was answered."""

    def __init__(self, **settings: Any) -> None:
        self.sent: list[Message] = []
        self.seen: list[Scope] = []
        self._app = SessionMiddleware(self._inner, VERIFIER, **settings)

    async def call(self, kind: str, path: str = "/", token: str | None = None, **more: Any) -> list[str]:
        headers = [] if token is None else [(b"authorization", b"Bearer " + token.encode())]
        await self._app({"type": kind, "path": path, "headers": headers, **more}, self._receive, self._send)
        return [message["type"] for message in self.sent]

    async def _inner(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope)

    async def _receive(self) -> Message:
        return {"type": "websocket.connect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


async def test_what_is_no_request_passes() -> None:
    caller = Caller()
    assert await caller.call("lifespan") == []
    assert caller.seen and CLAIMS not in caller.seen[0]


async def test_a_public_path_passes_and_any_other_does_not() -> None:
    caller = Caller(public=["/health"])
    assert await caller.call("http", "/health") == [] and len(caller.seen) == 1
    assert await caller.call("http", "/health/") == ["http.response.start", "http.response.body"]
    assert len(caller.seen) == 1


async def test_where_no_session_is_required_only_a_bad_token_is_refused() -> None:
    caller = Caller(required=False)
    await caller.call("http", state={"kept": 1})
    assert caller.seen[0][CLAIMS] is None and caller.seen[0]["state"] == {"kept": 1, "session": None}
    await caller.call("http", token="bad")
    assert caller.sent[0]["status"] == 401 and len(caller.seen) == 1


async def test_an_answer_says_how_long_it_is() -> None:
    caller = Caller()
    await caller.call("http")
    headers = dict(caller.sent[0]["headers"])
    assert int(headers[b"content-length"]) == len(caller.sent[1]["body"])
    assert json.loads(caller.sent[1]["body"])["code"] == "missing_token"


@pytest.mark.parametrize("extension", [True, False])
async def test_a_websocket_is_refused_before_it_is_accepted(extension: bool) -> None:
    caller = Caller()
    more: dict[str, Any] = {"extensions": {"websocket.http.response": {}}} if extension else {}
    kinds = await caller.call("websocket", token="bad", **more)
    assert not caller.seen
    if extension:
        assert kinds == ["websocket.http.response.start", "websocket.http.response.body"]
        assert caller.sent[0]["status"] == 401
    else:
        assert kinds == ["websocket.close"] and caller.sent[0]["code"] == 1008


@pytest.mark.parametrize(
    ("path", "root", "passes"),
    [
        ("/health", "", True),
        ("/api/health", "/api", True),
        ("/health", "/api", True),  # a server that leaves the root out of the path
        ("/api//health", "/api/", True),  # as uvicorn joins a root that ends with a slash
        ("/api/health", "/api/", False),  # Starlette would look for the whole path
        ("/apihealth", "/api", False),
        ("/api/health/x", "/api", False),
        ("/api/api/health", "/api", False),
    ],
)
async def test_a_public_path_is_below_the_root_of_a_server_or_mount(path: str, root: str, passes: bool) -> None:
    caller = Caller(public=["/health"])
    assert bool(await caller.call("http", path, root_path=root)) != passes


class CookieSessions:
    """Keeps a dictionary in `scope["session"]` and reads it again with the response, as Starlette's middleware does."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def read(message: Message) -> None:
            assert scope["session"] == {"seen": 1}
            await send(message)

        scope["session"] = {}
        await self._app(scope, receive, read)


async def test_it_stands_beside_cookie_sessions_in_both_orders_and_below_a_mount() -> None:
    async def show(request: Request) -> PlainTextResponse:
        request.session["seen"] = request.session.get("seen", 0) + 1
        return PlainTextResponse(f"{request.session['seen']} {request.scope[CLAIMS]} {request.state.session}")

    ours = Middleware(SessionMiddleware, verifier=VERIFIER, required=False)
    for order in ([ours, Middleware(CookieSessions)], [Middleware(CookieSessions), ours]):
        inner = Starlette(routes=[Route("/", show)], middleware=order)
        transport = httpx.ASGITransport(Starlette(routes=[Mount("/inner", inner)]))
        async with httpx.AsyncClient(transport=transport, base_url="http://app.example") as http:
            assert (await http.get("/inner/")).text == "1 None None"


async def test_a_blank_after_the_token_is_no_part_of_it() -> None:
    for sent in ("Bearer x ", " Bearer x", "Bearer x\t"):
        assert bearer([sent]) == "x"
