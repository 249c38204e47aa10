"""Follow revocations over HTTP with the API key: server-sent events (WHATWG HTML, "Server-sent events")."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Final, NamedTuple, get_args

import httpx
import msgspec

from .breaker import EVENTS, Breaker
from .errors import InvalidApiKey
from .events import Event, EventType
from .feed import Backoff, Listener
from .freshness import Pulse, clock

_KINDS: Final = frozenset(get_args(EventType))
_TYPE: Final = "text/event-stream"
_TIMEOUT: Final = httpx.Timeout(5.0, read=None)
_SNAPSHOT_S: Final = 60.0
_RESUME_S: Final = 15.0
_SILENCE_S: Final = 6.0
"""Heartbeats come at least every five seconds. What comes after a longer silence may have been under way all the
while, so it says nothing about now: the connection is given up."""
_UNDER_WAY_S: Final = 2.0
_LONGEST: Final = 1 << 20
_log: Final = logging.getLogger("session_client")


class _Again(Exception):
    """The connection is of no more use; come back at once or after a while."""


class _Heartbeat(msgspec.Struct):
    """`lag_ms`: how old it was when the service wrote it. `since_open_ms`: how long after the stream was opened its
    moment was, by the service's clock. `kids`: all its keys, after that moment. Older services do not say."""

    cursor: Annotated[str, msgspec.Meta(min_length=1)]
    lag_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    since_open_ms: int | None = None
    kids: frozenset[str] | None = None


_event: Final = msgspec.json.Decoder(Event).decode
_heartbeat: Final = msgspec.json.Decoder(_Heartbeat).decode


class EventStream:
    """One connection at a time; after a break it resumes behind the last heartbeat, or takes a snapshot."""

    def __init__(self, http: httpx.AsyncClient, listener: Listener, pulse: Pulse, breaker: Breaker) -> None:
        self._http = http
        self._breaker = breaker
        self._listener = listener
        self._pulse = pulse
        self._backoff = Backoff()
        self._cursor: str | None = None
        self._stale = False
        self._stalls = 0
        self._patience = _SNAPSHOT_S
        self._asked_at = 0.0

    async def follow(self) -> None:
        while True:
            try:
                await self._connect()
                pause = self._backoff.next()
            except _Again:
                pause = 0.0
            except (httpx.HTTPError, TimeoutError, msgspec.DecodeError, ValueError) as error:
                _log.debug("the event stream broke: %s: %s", type(error).__name__, error)
                if self._patience != _SILENCE_S:  # no heartbeat came
                    self._breaker.outage.failed(f"the event stream broke: {type(error).__name__}", EVENTS)
                pause = self._backoff.next()
            await asyncio.sleep(pause)

    def reload(self) -> None:
        self._cursor, self._stale = None, True

    async def _connect(self) -> None:
        """Read one stream until it ends."""
        self._stale, self._stalls = False, self._pulse.stalls
        self._patience = _SNAPSHOT_S if self._cursor is None else _RESUME_S
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        params = {"snapshot": "true"} if self._cursor is None else {}
        if self._cursor is not None:
            headers["Last-Event-ID"] = self._cursor
        self._asked_at = clock()
        async with (
            asyncio.timeout(self._patience) as limit,
            self._http.stream("GET", "/v1/events", params=params, headers=headers, timeout=_TIMEOUT) as answer,
        ):
            self._check(answer.status_code)
            if not answer.headers.get("content-type", _TYPE).startswith(_TYPE):
                raise ValueError("the response is not an event stream")
            await self._read(answer.aiter_raw(), limit)

    async def _read(self, chunks: AsyncIterator[bytes], limit: asyncio.Timeout) -> None:
        messages, loop = Messages(), asyncio.get_running_loop()
        async for chunk in chunks:
            if self._stale or self._pulse.stalls != self._stalls:
                raise _Again
            for message in messages.feed(chunk):
                self._take(message)
            limit.reschedule(loop.time() + self._patience)

    def _check(self, status: int) -> None:
        """Raises for any answer but a stream."""
        if status == 200:
            return
        if status in (401, 403):
            self._listener.refused(InvalidApiKey())
        if status in (410, 422) and self._cursor is not None:
            self._cursor = None
            raise _Again
        raise ValueError(f"the service answers {status}")

    def _take(self, message: Message) -> None:
        if message.kind in _KINDS:
            self._listener.take(_event(message.data))
        elif message.kind == "heartbeat":
            self._beat(_heartbeat(message.data))
        elif message.kind == "reset":
            self._listener.doubt()

    def _beat(self, beat: _Heartbeat) -> None:
        """Nobody can have opened the stream before we asked for it, so the time from there to the heartbeat's moment
        bounds that moment however long the bytes were under way. Where the bound lags behind what the service says
        (a slow link, clocks that run apart), a new stream has a new one. A bound ahead of the present is drawn back."""
        self._cursor = beat.cursor
        self._backoff.reset()
        self._patience = _SILENCE_S
        self._breaker.answered(EVENTS)
        said = clock() - beat.lag_ms / 1_000
        proved = said
        if beat.since_open_ms is not None:
            self._asked_at = min(self._asked_at, said - beat.since_open_ms / 1_000)
            proved = self._asked_at + beat.since_open_ms / 1_000
        as_of = min(proved, said - self._pulse.slack)
        if beat.kids is not None:
            self._listener.listed(beat.kids, as_of)
        self._listener.confirm(as_of)
        if said - proved > max(_UNDER_WAY_S, self._pulse.limit):
            raise _Again


class Message(NamedTuple):
    kind: str
    data: bytes


class Messages:
    """The parser: bytes as they come in, messages out. Ids and retry times are not needed: heartbeats carry both."""

    def __init__(self) -> None:
        self._rest = b""
        self._kind = ""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """The messages that are complete now. Raises `ValueError` for one that is too long."""
        lines = (self._rest + chunk).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        if len(self._rest) > _LONGEST or len(self._data) > _LONGEST:
            raise ValueError("a message is too long")
        for line in lines:
            message = self._line(line.rstrip(b"\r\n"))
            if message is not None:
                yield message

    def _line(self, line: bytes) -> Message | None:
        if not line:
            message = Message(self._kind or "message", b"\n".join(self._data)) if self._data else None
            self._kind, self._data = "", []
            return message
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._kind = value.decode()
        return None
