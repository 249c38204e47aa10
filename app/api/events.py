"""The event log: a page at a time, or as a live stream of server-sent events (WHATWG HTML, "Server-sent events")."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from app.api.call import Call, Stream
from app.api.operation import Operation
from app.api.schema import Cursor, Limit, Request
from app.api.views import Answer, Pagination
from app.client.events import Event
from app.errors import CursorExpired
from app.store.log import Position

_encode: Final = msgspec.json.Encoder().encode


class EventsQuery(Request):
    after: (
        Annotated[Cursor, Meta(description="where to go on; absent: the oldest kept, or now for a stream")] | None
    ) = None
    limit: Limit = 20


class EventPageView(Answer):
    """Oldest first. `next_cursor` is always there: with `has_more` false, ask again with it later."""

    data: list[Event]
    pagination: Pagination


async def follow(call: Call) -> EventPageView | Stream:
    query: EventsQuery = call.query
    if b"text/event-stream" in call.context.headers.get(b"accept", b""):
        return await _stream(call, query.after)
    page = await call.runtime.feed.page(call.tenant.id, _position(call, query.after), query.limit)
    cursor = _cursor(call, page.position)
    return EventPageView(
        data=page.events, pagination=Pagination(limit=query.limit, has_more=page.more, next_cursor=cursor)
    )


async def _stream(call: Call, after: str | None) -> Stream:
    sent = call.context.headers.get(b"last-event-id", b"").decode("latin-1")
    items = call.runtime.feed.follow(call.tenant.id, _position(call, sent or after))
    first = await anext(items)
    return Stream(_messages(call, first, items))


async def _messages(
    call: Call, first: Event | Position, items: AsyncGenerator[Event | Position, None]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(items):
        yield b"retry: 1000\n\n"
        yield _message(call, first)
        async for item in items:
            yield _message(call, item)
            if call.context.site.closing:
                return


def _message(call: Call, item: Event | Position) -> bytes:
    """An event, or a heartbeat. Only heartbeats move the id that a client comes back with, so it misses nothing."""
    if isinstance(item, Event):
        return b"event: " + item.type.encode() + b"\ndata: " + _encode(item) + b"\n\n"
    cursor = _cursor(call, item).encode()
    return b"event: heartbeat\nid: " + cursor + b'\ndata: {"cursor":"' + cursor + b'"}\n\n'


def _cursor(call: Call, position: Position) -> str:
    return call.runtime.cursors.seal(str(position), call.tenant.id, "events")


def _position(call: Call, cursor: str | None) -> Position | None:
    """Raises `ValidationError` for a cursor that is not one of this log."""
    return None if cursor is None else Position.parse(call.runtime.cursors.open(cursor, call.tenant.id, "events"))


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/events",
        name="followEvents",
        summary="What ended or changed sessions: a page, or with Accept: text/event-stream a live stream",
        handler=follow,
        credential="key",
        query=EventsQuery,
        answer=EventPageView,
        errors=(CursorExpired,),
    ),
)
