"""A machine that stood still: nobody takes that for silence of a server that stood still with it. On uvloop, as in
production, whose order of timers and sockets is its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop

from app.embedded import Embedded
from app.errors import StoreUnavailable, Unreadable
from app.store.connection import Connection
from app.store.resp import packed, reply_error
from tests.servers import command

ECHO = packed("ECHO", "hello")


def on_uvloop(story: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(story)


def _stand_still(seconds: float) -> None:
    time.sleep(seconds)


async def _refused_after_a_pause(server: Embedded) -> bool:
    """A question is on its way when a round looks, and answered just after the next one, which comes late."""
    connection = Connection(server.url, 2_000)
    await connection.call("PING")
    await asyncio.sleep(0.12)
    await asyncio.to_thread(command, server, "CLIENT", "PAUSE", 700, "ALL")
    asked = connection.send(ECHO)
    await asyncio.sleep(0.1)
    assert not asked.done()
    _stand_still(0.5)
    await asyncio.sleep(0)
    try:
        connection.send(ECHO)
        refused = False
    except StoreUnavailable:
        refused = True
    assert await asked == [b"hello"]
    await connection.close()
    return refused


def test_who_comes_after_a_pause_of_both_is_not_refused(own_server: Embedded) -> None:
    """Once may happen on a busy machine: of two late rounds one decides."""

    async def story() -> int:
        return sum([await _refused_after_a_pause(own_server) for _ in range(5)])

    assert on_uvloop(story()) <= 1


def test_a_server_that_is_silent_too_is_given_up(own_server: Embedded) -> None:
    async def story() -> float:
        connection = Connection(own_server.url, 400)
        await connection.call("PING")
        command(own_server, "CLIENT", "PAUSE", 5_000, "ALL")
        asked = connection.send(ECHO)
        await asyncio.sleep(0.001)
        _stand_still(1.0)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await asked
        await connection.close()
        return time.monotonic() - began

    assert on_uvloop(story()) < 1.5


@pytest.mark.parametrize(
    ("text", "damage"),
    [
        ("WRONGTYPE Operation against a key holding the wrong kind of value", True),
        ("ERR Error running script (call to f_0a): @user_script:9: WRONGTYPE Operation against a key", True),
        ("ERR hash value is not an integer", True),
        ("ERR user_script:12: attempt to perform arithmetic on a nil value script: 0a", True),
        ("ERR Error running script (call to f_0a): @user_script:9: -OOM command not allowed", False),
        ("ERR Error running script (call to f_0a): @user_script:9: -READONLY You can't write", False),
        ("NOPERM this user has no permissions to run the 'hset' command", False),
    ],
)
def test_only_what_speaks_of_damage_is_taken_for_it(text: str, damage: bool) -> None:
    assert isinstance(reply_error(text), Unreadable) == damage
