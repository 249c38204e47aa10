"""The event log: a page at a time, or as a live stream of server-sent events (WHATWG HTML, "Server-sent events")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from math import floor
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.api.auth import identify
from app.api.call import Call, Stream
from app.api.operation import Operation
from app.api.schema import Cursor, Limit, Request
from app.api.views import Answer, Pagination
from app.client.events import Event, EventType
from app.errors import (
    CursorExpired,
    CursorLost,
    InsufficientScope,
    InvalidApiKey,
    MissingToken,
    StoreUnavailable,
    TenantNotFound,
    ValidationError,
)
from app.feed import Item, Reset
from app.keys import UnsealError
from app.model import REASONS
from app.reader import Beat, Bookmark
from app.store.log import Entry

_GATHER_S: Final = 0.005
"""Between two writes to one stream. An event that comes alone leaves at once; of many, those of one such time leave
together, which costs server and client a write and a read instead of hundreds."""
_QUIET_S: Final = 1.0
_COMMENT: Final = b":\n\n"
_Streamed = AsyncGenerator[Sequence[Item], None]
_encode: Final = msgspec.json.Encoder().encode


class EventsQuery(Request):
    after: (
        Annotated[Cursor, Meta(description="where to go on; absent: the oldest kept, or now for a stream")] | None
    ) = None
    snapshot: Annotated[bool, Meta(description="begin with all that still matters")] = False
    limit: Limit = 20

    def __post_init__(self) -> None:
        if self.snapshot and self.after is not None:
            raise ValidationError("A snapshot begins without a cursor", field="snapshot")


# As text, for that is what the log holds; the document lists what there is.
EndReason = Annotated[str, Meta(extra_json_schema={"enum": sorted(REASONS)})]


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that ended or changed a session, as the channel in Redis says it too; there may be fields that are new
    to you.

    `not_after`, epoch seconds: until when an access token of the session could still pass `exp`. `session.updated`
    always says `org_id`, `role`, `mfa_verified` and `claims`, `null` where there is none; nothing else says them.
    """

    id: str
    type: EventType
    tenant_id: str
    user_id: str | UnsetType = UNSET
    session_id: str | UnsetType = UNSET
    reason: EndReason | UnsetType = UNSET
    occurred_at: str
    not_after: int
    before: int | UnsetType = UNSET
    org_id: str | UnsetType | None = UNSET
    role: str | UnsetType | None = UNSET
    mfa_verified: bool | UnsetType | None = UNSET
    claims: dict[str, Any] | UnsetType | None = UNSET

    @classmethod
    def of(cls, event: Event) -> EventView:
        updated = event.type == "session.updated"
        return cls(
            id=event.id,
            type=event.type,
            tenant_id=event.tenant_id,
            user_id=UNSET if event.user_id is None else event.user_id,
            session_id=UNSET if event.session_id is None else event.session_id,
            reason=UNSET if event.reason is None else event.reason,
            occurred_at=event.occurred_at,
            not_after=event.not_after,
            before=UNSET if event.before is None else event.before,
            org_id=event.org_id if updated else UNSET,
            role=event.role if updated else UNSET,
            mfa_verified=event.mfa_verified if updated else UNSET,
            claims=event.claims if updated else UNSET,
        )


class EventPageView(Answer):
    """Oldest first. `next_cursor` is always there: with `has_more` false, ask again with it later. A page may be empty
    although `has_more` is true."""

    data: list[EventView]
    pagination: Pagination


async def follow(call: Call) -> EventPageView | Stream:
    query: EventsQuery = call.query
    if b"text/event-stream" in call.context.headers.get(b"accept", b""):
        return await _stream(call, query)
    since = call.tenant.rules.relevant_from(call.now) if query.snapshot else 0
    try:
        page = await call.runtime.feed.page(call.tenant.id, _bookmark(call, query.after, "after"), query.limit, since)
    except CursorLost:
        call.context.site.metrics.regressed()
        raise
    cursor = _cursor(call, page.bookmark)
    return EventPageView(
        data=[EventView.of(event) for event in page.events],
        pagination=Pagination(limit=query.limit, has_more=page.more, next_cursor=cursor),
    )


async def _stream(call: Call, query: EventsQuery) -> Stream:
    opened_at = asyncio.get_running_loop().time()
    sent = call.context.headers.get(b"last-event-id", b"").decode("latin-1")
    after = _bookmark(call, sent, "Last-Event-ID") if sent else _bookmark(call, query.after, "after")
    snapshot = query.snapshot and after is None
    relevant_from = call.tenant.rules.relevant_from(call.now)
    items = patiently(call.runtime.feed.follow(call.tenant.id, after, snapshot, relevant_from, call.now))
    first = await anext(items)  # a store that is away is still answered with a status
    return Stream(_messages(call, first, items, opened_at))


async def _messages(
    call: Call, first: Sequence[Item], items: _Streamed, opened_at: float
) -> AsyncGenerator[bytes, None]:
    """Until the process is asked to end, or the credential that opened the stream is good no more."""
    async with aclosing(items):
        yield b"retry: 1000\n\n" + await _frames(call, first, opened_at)
        async for some in items:
            yield await _frames(call, some, opened_at) or _COMMENT
            if call.context.site.closing or not await _still_good(call, some):
                return
            await asyncio.sleep(_GATHER_S)


async def patiently(items: _Streamed) -> _Streamed:
    """The items; until the first heartbeat also an empty part for each second without any. Whoever catches up behind
    much that is not theirs, or waits for their turn, so sees that somebody is there."""
    async with aclosing(items):
        caught_up = False
        while not caught_up:
            coming = asyncio.ensure_future(anext(items))
            try:
                while not (await asyncio.wait({coming}, timeout=_QUIET_S))[0]:
                    yield ()
            finally:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            some = coming.result()
            yield some
            caught_up = _has_beat(some)
        async for some in items:
            yield some


async def _still_good(call: Call, items: Sequence[Item]) -> bool:
    """Looked at with each heartbeat."""
    if not _has_beat(items):
        return True
    context, now = call.context, call.runtime.clock()
    try:
        await identify("key_or_admin", "events:read", context.headers, context.site.running, now, context.holder)
    except (MissingToken, InvalidApiKey, InsufficientScope, TenantNotFound):
        return False
    except StoreUnavailable:
        pass  # whoever was let in stays: nothing is sent while the store is away
    return True


async def _frames(call: Call, items: Sequence[Item], opened_at: float) -> bytes:
    for item in items:
        if isinstance(item, Beat) and item.kids is None:
            with suppress(StoreUnavailable, UnsealError):  # of a ring under a secret that this process lacks
                item.kids = await call.runtime.keys.kids(call.runtime.clock())
    return b"".join(_frame(call, item, opened_at) for item in items)


def _has_beat(items: Sequence[Item]) -> bool:
    return any(isinstance(item, Beat) for item in items)


def _frame(call: Call, item: Item, opened_at: float) -> bytes:
    """The message for an item. An event's is made once for all who get it; a heartbeat is each stream's own, and only
    heartbeats move the id that a client comes back with, so it misses nothing."""
    if isinstance(item, Beat):
        return _heartbeat(call, item, opened_at)
    if not item.frame:
        match item:
            case Entry():
                kind, data = item.event.type.encode(), _encode(EventView.of(item.event))
            case Reset():
                if item.reason == CursorLost.code:
                    call.context.site.metrics.regressed()
                kind, data = b"reset", _encode({"reason": item.reason})
        item.frame = b"event: " + kind + b"\ndata: " + data + b"\n\n"
    return item.frame


def _heartbeat(call: Call, beat: Beat, opened_at: float) -> bytes:
    """`lag_ms`: how long before it is written here its moment was. `since_open_ms`: how long after this stream was
    opened, less than nothing if before: a client that knows when it asked needs to trust no buffer on the way. `kids`:
    all keys of the JWKS, as they were after that moment; left out while the store cannot say."""
    beat.cursor = beat.cursor or _cursor(call, beat.bookmark)
    lag = asyncio.get_running_loop().time() - beat.read_at
    since = floor((beat.read_at - opened_at) * 1_000)
    said: dict[str, object] = {"cursor": beat.cursor, "lag_ms": round(lag * 1_000), "since_open_ms": since}
    if beat.kids is not None:
        said["kids"] = beat.kids
    return b"event: heartbeat\nid: " + beat.cursor.encode() + b"\ndata: " + _encode(said) + b"\n\n"


def _cursor(call: Call, bookmark: Bookmark) -> str:
    return call.runtime.cursors.seal(str(bookmark), call.tenant.id, "events")


def _bookmark(call: Call, cursor: str | None, field: str) -> Bookmark | None:
    """Raises `ValidationError` for a cursor that is not one of this log, by the name of where it stands."""
    if cursor is None:
        return None
    return Bookmark.parse(call.runtime.cursors.open(cursor, call.tenant.id, "events", field=field))


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/events",
        name="followEvents",
        summary="What ended or changed sessions: a page, or with Accept: text/event-stream a live stream",
        handler=follow,
        credential="key_or_admin",
        scope="events:read",
        query=EventsQuery,
        answer=EventPageView,
        errors=(TenantNotFound, CursorExpired, CursorLost),
    ),
)
