"""Bodies of requests: JSON by their own word, up to a limit, within ten seconds."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from starlette.types import Receive

from app.errors import BodyTooLarge, MalformedRequest, RequestTimeout, UnsupportedMediaType

MAX_BODY: Final = 64 * 1024
_SECONDS: Final = 10
_JSON: Final = re.compile(rb'application/json[ \t]*(;[ \t]*charset="?utf-8"?[ \t]*)?', re.IGNORECASE)


class Bodies:
    """One timer for all bodies that are on their way: nearly all are here at once, and a timer of its own for each
    would cost as much as reading it."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._until: dict[asyncio.Task[Any] | None, float] = {}
        self._late: set[asyncio.Task[Any] | None] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, which must say it is JSON. Raises `UnsupportedMediaType`, `RequestTimeout`, and
        `BodyTooLarge` as soon as the limit is passed, whatever Content-Length says."""
        _check(headers)
        loop = self._loop = self._loop or asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        self._until[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look, loop)
        try:
            return await _whole(receive)
        except asyncio.CancelledError:
            if task is None or task not in self._late or task.uncancel():
                raise
            raise RequestTimeout from None
        finally:
            del self._until[task]
            self._late.discard(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Interrupt those whose time is up, and come again for the next. They stand here in the order they came."""
        self._timer = None
        for task, until in self._until.items():
            if until > loop.time():
                self._timer = loop.call_at(until, self._look, loop)
                return
            if task is not None and task not in self._late:
                self._late.add(task)
                task.cancel()


def _check(headers: dict[bytes, bytes]) -> None:
    """What the headers say about the body."""
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedMediaType("The body may have no content coding")
    if not _JSON.fullmatch(headers.get(b"content-type", b"").strip()):
        raise UnsupportedMediaType
    length = headers.get(b"content-length", b"0")
    if not length.isdigit():
        raise MalformedRequest("Content-Length is no number", field="content-length")
    if len(length) > 18 or int(length) > MAX_BODY:
        raise BodyTooLarge


async def _whole(receive: Receive) -> bytes:
    found = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedRequest("The body ended early")
        found += message.get("body", b"")
        if len(found) > MAX_BODY:
            raise BodyTooLarge
        if not message.get("more_body", False):
            return bytes(found)
