"""A TCP proxy on loopback whose wire a test can cut, slow down, narrow, stop, or make swallow replies."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

_CHUNK: Final = 1 << 16
_SIP: Final = 1 << 12


class Proxy:
    """Stands between a client and `127.0.0.1:port`. `port` may be changed: new connections go there. `rate` limits what
    each connection brings back, in bytes a second; what has to wait does so in buffers, as behind a slow link."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.delay_s = 0.0
        self.rate: int | None = None
        self.swallow = 0
        self.swallowed = 0
        self._open = True
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._links: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aenter__(self) -> Proxy:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection and refuse new ones until `heal`."""
        self._open = False
        for writer in list(self._links):
            writer.transport.abort()

    def freeze(self) -> None:
        """Half-open: connections stay, nothing flows, and what was under way is lost."""
        self._flowing.clear()

    def heal(self) -> None:
        if not self._flowing.is_set():
            for writer in list(self._links):
                writer.transport.abort()
        self._open = True
        self._flowing.set()

    def drop_replies(self, number: int) -> None:
        """The next `number` answers are executed on the other side, and lost together with their connection."""
        self.swallow = number

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._join(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        self._links.add(writer)
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            self._links.discard(writer)
            return
        self._links.add(there_writer)
        try:
            await asyncio.gather(
                self._pump(reader, there_writer, writer, replies=False),
                self._pump(there_reader, writer, writer, replies=True),
            )
        finally:
            for end in (writer, there_writer):
                self._links.discard(end)
                end.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter, replies: bool
    ) -> None:
        """One direction of the connection that `client` stands for."""
        with suppress(OSError):
            while data := await reader.read(_CHUNK if self.rate is None else _SIP):
                if replies and self.swallow > 0:
                    self.swallow -= 1
                    self.swallowed += 1
                    break
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if replies and self.rate is not None:
                    await asyncio.sleep(len(data) / self.rate)
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
