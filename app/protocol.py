"""HTTP/1.1 on a socket: uvicorn's protocol with the bounds that it lacks.

uvicorn waits for ever for a request line or a header, keeps any number of both, and takes the fields of a trailer for
headers. Here a head has `HEAD_SECONDS` and the bytes of the door's limits, and what follows a head cannot add to it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import Iterable
from heapq import nsmallest
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
from typing import Any, Final

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.api.answer import SECURITY
from app.api.joined import Joined
from app.api.problems import document, headers
from app.api.request import MAX_HEADER_BYTES, MAX_HEADERS, MAX_TARGET
from app.errors import BodyTooLarge, HeadersTooLarge, MalformedRequest, Problem, RequestTimeout, UriTooLong
from app.log import Lasting

HEAD_SECONDS: Final = 5.0
"""From the first byte of a request to the end of its headers. Without a byte a connection has the keep-alive time from
its beginning too: load balancers open some ahead."""
MAX_MESSAGE: Final = 1 << 20
"""Bytes of one request on the wire, whatever its body comes to: chunks of one byte, endless extensions and trailers."""
_RESERVE: Final = 64
"""Files that stay for Redis, for logs and for probes."""
_full: Final = Lasting()
_log = logging.getLogger("app")
_MAX_HEAD: Final = MAX_TARGET + 2 * MAX_HEADER_BYTES


class CloseDelimited:
    """`send` of a response to HTTP/1.0, which knows no chunks: a body without a length ends with the connection (RFC
    9112 §6.3). uvicorn would send chunks; proxies such as NGINX speak 1.0 unless told otherwise."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._has_length = True

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._has_length = any(name == b"content-length" for name, _ in message["headers"])
        if not self._has_length:
            self._cycle.chunked_encoding = False
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)


class GuardedProtocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = Joined(transport, self.loop)  # type: ignore[assignment]
        self._heading, self._bytes = False, 0
        self._since: float | None = None
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        room = _room()
        if len(self.connections) > room:
            self._make_room(room)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.cycle.keep_alive = False  # the answer is ours, and what follows would be another protocol
        except httptools.HttpParserError:
            self._refuse(MalformedRequest("The request is not HTTP/1.1"))
            return
        if self._bytes > MAX_TARGET:
            self._check_size()
        if self.cycle is not None and not self.cycle.response_complete:
            self._since = None
        elif self._since is None and self.timeout_keep_alive_task is None:
            self._since = self.loop.time()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._heading = True

    def on_headers_complete(self) -> None:
        if b"#" in self.url:
            raise ValueError("a fragment is never sent")  # RFC 9112 §3.2; the parser turns this into its own error
        super().on_headers_complete()
        if self.parser.get_http_version() == "1.0":
            self.cycle.send = CloseDelimited(self.cycle)  # type: ignore[method-assign]
        self._heading = False
        self.headers = []  # the parser gives trailers to the same hook: RFC 9110 §6.5.1 keeps them apart

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._bytes = 0

    @staticmethod
    def look_after(connections: Iterable[object]) -> None:
        """Let go of those whose head has been coming for too long. Called every second."""
        now = asyncio.get_running_loop().time()
        for one in [*connections]:
            if isinstance(one, GuardedProtocol) and one._since is not None and now - one._since > HEAD_SECONDS:
                one._refuse(RequestTimeout())

    def _make_room(self, room: int) -> None:
        """Close the connections that have been idle longest, some at a time; without any, refuse this one once half of
        the reserve is used."""
        idle = [
            one
            for one in self.connections
            if isinstance(one, GuardedProtocol)
            and one is not self
            and one._is_idle()
            and not one.transport.is_closing()
        ]
        oldest = nsmallest(1 + room // 16, idle, key=lambda one: one._idle_since())
        for one in oldest:
            one.transport.close()
        if not oldest and len(self.connections) > room + _RESERVE // 2:
            self.transport.close()
        if _full.came(self.loop.time()):
            open_now, closed = len(self.connections), len(oldest)
            _log.warning("%d connections are open and files run out; %d idle ones are closed", open_now, closed)

    def _is_idle(self) -> bool:
        return self.timeout_keep_alive_task is not None

    def _idle_since(self) -> float:
        return 0.0 if self.timeout_keep_alive_task is None else self.timeout_keep_alive_task.when()

    def _check_size(self) -> None:
        if self._heading and len(self.url) > MAX_TARGET:
            self._refuse(UriTooLong())
        elif len(self.headers) > MAX_HEADERS or (self._heading and self._bytes > _MAX_HEAD):
            self._refuse(HeadersTooLarge())
        elif self._bytes > MAX_MESSAGE:
            self._refuse(BodyTooLarge())

    def _refuse(self, problem: Problem) -> None:
        """Answer for the door, if this request has no answer yet and none before it waits for one, and close."""
        if self.cycle is None or self.cycle.response_complete:
            mine = self._heading
        else:
            mine = self.cycle.more_body and not self.cycle.response_started and not self.pipeline
            self.cycle.disconnected = self.cycle.disconnected or mine
            self.cycle.message_event.set()
        if mine and not self.transport.is_closing():
            self.transport.write(_answer(problem))
        self.transport.close()


def _room() -> int:
    """How many connections leave a reserve of files: half of few, all but `_RESERVE` of many."""
    files = getrlimit(RLIMIT_NOFILE)[0]
    return sys.maxsize if files == RLIM_INFINITY else max(files - _RESERVE, files // 2)


def _answer(problem: Problem) -> bytes:
    request_id = secrets.token_hex(16)
    body = msgspec.json.encode(document(problem, request_id))
    fields = dict((*SECURITY, *headers(problem)))
    fields |= {b"connection": b"close", b"x-request-id": request_id.encode(), b"content-length": b"%d" % len(body)}
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields.items())
    return STATUS_LINE[problem.status] + lines + b"\r\n" + body
