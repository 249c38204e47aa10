"""What is written in one turn of the loop leaves in one piece, in order, and nothing is held back or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from app.api.joined import Joined


class Chatty(asyncio.Protocol):
    """Does `act` with the joined transport of each connection."""

    def __init__(self, act: Callable[[Joined, Any], None]) -> None:
        self._act = act

    def connection_made(self, transport: Any) -> None:
        self._act(Joined(transport, asyncio.get_running_loop()), transport)


async def received(act: Callable[[Joined, Any], None], until_end: bool = True) -> bytes:
    server = await asyncio.get_running_loop().create_server(lambda: Chatty(act), "127.0.0.1")
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    async with asyncio.timeout(5):
        found = await (reader.read() if until_end else reader.read(1_000))
    writer.close()
    server.close()
    return found


async def test_head_and_body_arrive_together() -> None:
    def answer(joined: Joined, _: Any) -> None:
        joined.write(b"head ")
        joined.write(b"body")

    assert await received(answer, until_end=False) == b"head body"


async def test_closing_sends_what_was_written_first() -> None:
    def answer(joined: Joined, transport: Any) -> None:
        joined.write(b"last ")
        joined.write(b"words")
        joined.close()
        assert joined.is_closing() and transport.is_closing()
        joined.write(b"too late")

    assert await received(answer) == b"last words"


async def test_aborting_sends_nothing_more() -> None:
    def answer(joined: Joined, _: Any) -> None:
        joined.write(b"never")
        joined.abort()

    try:
        assert await received(answer) == b""
    except ConnectionResetError:
        pass


async def test_much_is_handed_on_at_once_so_that_a_slow_reader_is_noticed() -> None:
    seen = []

    def answer(joined: Joined, transport: Any) -> None:
        for number in range(64):
            joined.write(b"%c" % number * (1 << 18))
        seen.append(transport.get_write_buffer_size())
        joined.close()

    found = await received(answer)
    assert found == b"".join(b"%c" % number * (1 << 18) for number in range(64))
    assert seen[0] > 1 << 20
