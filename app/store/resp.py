"""Commands and replies as they are on the wire (Redis: "Redis serialization protocol"), by hiredis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import hiredis
from redis.exceptions import ResponseError

from app.errors import Unreadable

_DAMAGE: Final = ("WRONGTYPE", "not an integer", "not a valid float", "attempt to ")
"""Before version 7 the error of a command in a script stands within the script's own."""


class ReplyError(ResponseError):
    """An error reply as the server sent it."""


class DamageFound(ReplyError, Unreadable):
    """One that says that a key is not what it should be."""


def reply_error(text: str) -> ReplyError:
    return DamageFound(text) if any(sign in text for sign in _DAMAGE) else ReplyError(text)


def packed(*command: Any) -> bytes:
    """A command in the wire format. Typed loosely: hiredis's stub names one type for all arguments."""
    data: bytes = hiredis.pack_command(command)
    return data


def told(info: Any, name: str) -> str:
    """One line of an INFO answer; empty where there is none."""
    text = info.decode() if isinstance(info, bytes) else str(info)
    return next((line.partition(":")[2] for line in text.splitlines() if line.startswith(f"{name}:")), "")


class Replies(asyncio.Protocol):
    """What comes back on one open connection, until it ends. Nobody stands between the transport and the waiting."""

    def __init__(
        self, heard: Callable[[], None], answer: Callable[[Any], None], lost: Callable[[Replies], None]
    ) -> None:
        self._parser = hiredis.Reader(replyError=reply_error, protocolError=ReplyError)
        self._heard, self._answer, self._lost = heard, answer, lost
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._heard()
        try:
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not False:
                self._answer(reply)
        except (ReplyError, IndexError):  # not the protocol, or an answer to no question
            self._lost(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()
        self._lost(self)
