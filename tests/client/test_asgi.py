"""The middleware, message by message: what it lets through and what it answers in the application's place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.client.asgi import CLAIMS, Message, Receive, Scope, Send, SessionMiddleware
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
