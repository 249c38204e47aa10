"""Writes that work although the server's memory is full, and the probe that says whether others would.

A server at `maxmemory` refuses commands that may need memory, except in scripts that declare `allow-oom` (Redis: "Eval
scripts flags"). What takes access away, frees memory or keeps the worker going is sent through such a script. All of it
is small and bounded.
"""

from __future__ import annotations

from typing import Any, Final

from app.errors import StoreUnavailable, WritesRefused
from app.store.resp import ReplyError
from app.store.wire import Argument, Script, Wire

_WRITE: Final = Script.of(
    "write",
    """-- flags: allow-oom
-- Run one command. KEYS key · ARGV command, its arguments after the key
return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))""",
)
_PROBE: Final = "#!lua\nreturn 1"
"""A script that may write, and does not: from version 7 on a server refuses it whenever it would refuse a write."""
_CAUSES: Final = {
    "OOM": "its memory is full",
    "READONLY": "it is a read-only replica",
    "MISCONF": "it cannot save to its disk",
    "NOREPLICAS": "it has too few replicas",
}


async def write_when_full(wire: Wire, key: str, command: str, *args: Argument) -> Any:
    """Run a command that writes to `key`. Raises `StoreUnavailable`."""
    return await wire.script(_WRITE, [key], [command, *args])


async def check_writes(wire: Wire) -> None:
    """Raises `WritesRefused` if a primary refuses writes. Servers older than version 7 do not know the probe; of them
    only replicas are found out. Raises `StoreUnavailable` if one does not answer."""
    try:
        await wire.each("EVAL", _PROBE, 0)
    except StoreUnavailable as error:
        if cause := _CAUSES.get(str(error)):
            raise WritesRefused(detail=f"The store refuses writes: {cause}") from None
        raise
    except ReplyError:
        if any(role[0] != b"master" for role in await wire.each("ROLE")):
            raise WritesRefused(detail=f"The store refuses writes: {_CAUSES['READONLY']}") from None
