"""A transport that writes once what is written in one turn of the event loop.

uvicorn writes the head of an answer and its body apart, and each write is a system call that costs as much as a quarter
of a whole bare answer.
"""

from __future__ import annotations

import asyncio
from typing import Final

_ENOUGH: Final = 1 << 16
"""So much is written at once, so that the transport's own limit makes a fast writer wait for a slow reader."""


class Joined:
    """What uvicorn uses of a transport, in the order in which it was used."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _ENOUGH:
            self._flush()

    def close(self) -> None:
        """What has been written goes out first."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._parts, self._size = [], 0
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self) -> None:
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))
