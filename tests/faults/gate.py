"""A proxy that stops at a named point of a conversation: between a request, its execution, its reply and the answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Literal

from tests.faults.proxy import Proxy

Point = Literal["not delivered", "executed", "replied"]
POINTS: Final[tuple[Point, ...]] = ("not delivered", "executed", "replied")
_CHUNK: Final = 1 << 16
_WRITES: Final = (b"\r\nEVALSHA\r\n", b"\r\nEVAL\r\n", b"\r\nZADD\r\n", b"\r\nSET\r\n")


class Gate(Proxy):
    """After `arm`, `reached` is set when the number-th piece of data that writes something has come to the point, on
    its own connection. From there on nothing flows there; with `replied` the reply still passes. One call at a time,
    and nothing written beside it, else it is not the call's writes that are counted."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.reached = asyncio.Event()
        self._point: Point | None = None
        self._left = 0
        self._under_way: asyncio.StreamWriter | None = None
        self._released = asyncio.Event()
        self._wrote_at = 0.0

    async def quiet(self, seconds: float = 0.2) -> None:
        """Until nothing has been written for so long: what earlier calls have set off does not count for the next."""
        while True:
            rest = self._wrote_at + seconds - asyncio.get_running_loop().time()
            if rest <= 0:
                return
            await asyncio.sleep(rest)

    def arm(self, point: Point, number: int) -> None:
        self.reached = asyncio.Event()
        self._released = asyncio.Event()
        self._point, self._left, self._under_way = point, number, None

    def disarm(self) -> None:
        """Let everything flow; what was held is lost together with its connection."""
        self._point = None
        self._released.set()

    async def stop(self) -> None:
        self.disarm()
        await super().stop()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter, replies: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                stops = self._stops_reply(client) if replies else self._stops_request(data, client)
                if not stops or (replies and self._point == "replied"):
                    writer.write(data)
                    await writer.drain()
                if stops:
                    self.reached.set()
                if stops or (not replies and self._under_way is client):
                    await self._released.wait()
                    break
        writer.transport.abort()

    def _stops_request(self, data: bytes, client: asyncio.StreamWriter) -> bool:
        if not any(word in data for word in _WRITES):
            return False
        self._wrote_at = asyncio.get_running_loop().time()
        if self._point is None:
            return False
        self._left -= 1
        if self._left == 0:
            self._under_way = client
        return self._left == 0 and self._point == "not delivered"

    def _stops_reply(self, client: asyncio.StreamWriter) -> bool:
        return self._under_way is client and self._point in ("executed", "replied")
