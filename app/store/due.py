"""The due index: a sorted set of deadlines in each shard, asked no oftener than it can have something to say."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from redis.exceptions import ResponseError

from app.model import MIN_IDLE_MS, SECOND, SHARDS, is_session_id, shard_in
from app.store import keyspace
from app.store.wire import Wire

AHEAD_MS: Final = MIN_IDLE_MS - SECOND
"""How far each reading looks ahead: no session that begins later can have its turn within that time."""
_SHARDS_AT_ONCE: Final = 128
_log: Final = logging.getLogger(__name__)


class DueIndex:
    """Remembers of each shard in which nothing was due until when that stays so: its next deadline, or `AHEAD_MS`.

    Deadlines come nearer only where somebody settles sessions: `changed` says so of this process. If another process
    does, a turn may come up to `AHEAD_MS` late; what is enforced never waits for a turn.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._quiet = [(0, 0)] * SHARDS
        self._asked = set[int]()

    def changed(self, shard: int) -> None:
        """Deadlines of this shard may have come nearer."""
        self._quiet[shard] = (0, 0)
        self._asked.discard(shard)

    async def read(self, now: int, limit: int) -> dict[str, int]:
        """The ids whose turn has come, up to `limit` of each shard, and since when (ms)."""
        shards = [shard for shard, (since, until) in enumerate(self._quiet) if not since <= now < until]
        cut = now % (len(shards) + 1)  # a pass may be cut short, and nobody be always last
        shards = shards[cut:] + shards[:cut]
        found: dict[str, int] = {}
        for first in range(0, len(shards), _SHARDS_AT_ONCE):
            some = shards[first : first + _SHARDS_AT_ONCE]
            rows = await asyncio.gather(*(self._due(shard, now, limit) for shard in some))
            found |= {sid.decode(): at for row in rows for sid, at in row}
        return found

    async def _due(self, shard: int, now: int, limit: int) -> list[tuple[bytes, int]]:
        key = keyspace.due(shard)
        question: tuple[Any, ...] = ("ZRANGE", key, "-inf", now + AHEAD_MS, "BYSCORE", "LIMIT", 0, limit, "WITHSCORES")
        self._asked.add(shard)
        try:
            flat: list[bytes] = await self._wire.call(key, *question)
        except ResponseError as error:
            _log.error("%s cannot be read (%s); the repair pass will see to it", key, error)
            return []
        found = [(sid, int(max(0.0, float(at)))) for sid, at in zip(flat[::2], flat[1::2], strict=True)]
        due = [(sid, at) for sid, at in found if at <= now]
        if strays := [sid for sid, _ in due if not _belongs(sid, shard)]:
            _log.error("%s held %d entries that do not belong there; they are dropped", key, len(strays))
            await self._wire.call(key, "ZREM", key, *strays)
            due = [(sid, at) for sid, at in due if _belongs(sid, shard)]
        if not due and shard in self._asked:  # else this was read before what has changed: not all on one connection
            self._quiet[shard] = (now, found[0][1] if found else now + AHEAD_MS)
        return due


def _belongs(sid: bytes, shard: int) -> bool:
    """What is no id, or another shard's, could not be settled, and would be found again and again."""
    text = sid.decode(errors="replace")
    return is_session_id(text) and shard_in(text) == shard
