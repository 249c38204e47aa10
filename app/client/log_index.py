"""Read one tenant's part of the log in Redis by its index, so that the events of others cost nothing.

An entry of the log says in its field `x` behind which id the indexes of its shard are complete up to itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

from .shards import event_ids_key, index_member, log_key

_COUNT: Final = 200
_TIMEOUT_S: Final = 10.0

Command = tuple[str | bytes | int, ...]


async def own_entries(
    log: Redis | RedisCluster, shards: Sequence[int], tenant_id: str, beginning: bytes
) -> AsyncGenerator[tuple[int, list[Any], bytes], None]:
    """The tenant's entries behind the id `beginning`, in parts: shard, entries in order, and up to which id these are
    all. A shard whose index is not complete, or may not be read by this user, is left out from there on."""
    ends = await _indexed(log, shards, beginning)
    starts = dict.fromkeys(ends, beginning)
    while starts:
        asked: list[Command] = []
        for shard, start in starts.items():
            first, last = b"(" + _member(start), b"[" + _member(ends[shard])
            asked.append(("ZRANGE", event_ids_key(shard, tenant_id), first, last, "BYLEX", "LIMIT", 0, _COUNT))
        found = dict(zip(starts, await _replies(log, asked), strict=True))
        found = {shard: [_entry_id(one) for one in ids] for shard, ids in found.items() if isinstance(ids, list)}
        entries = await _entries(log, found)
        for shard, ids in found.items():
            yield shard, entries[shard], ids[-1] if len(ids) == _COUNT else ends[shard]
        starts = {shard: ids[-1] for shard, ids in found.items() if len(ids) == _COUNT}


async def _indexed(log: Redis | RedisCluster, shards: Sequence[int], beginning: bytes) -> dict[int, bytes]:
    """The last entry's id of each shard whose index is complete behind `beginning`."""
    rows = await _replies(log, [("XREVRANGE", log_key(shard), "+", "-", "COUNT", 1) for shard in shards])
    ends: dict[int, bytes] = {}
    for shard, row in zip(shards, rows, strict=True):
        if isinstance(row, list) and row:
            [(last, fields)] = row
            since = dict(zip(fields[::2], fields[1::2], strict=True)).get(b"x", b"")
            if re.fullmatch(rb"\d+(-\d+)?", since) and _parts(since) <= _parts(beginning) < _parts(last):
                ends[shard] = last
    return ends


async def _entries(log: Redis | RedisCluster, wanted: dict[int, list[bytes]]) -> dict[int, list[Any]]:
    """The entries of these ids that are still there. Raises `ResponseError`."""
    asked: list[Command] = [("XRANGE", log_key(shard), one, one) for shard, ids in wanted.items() for one in ids]
    replies = iter(await _replies(log, asked))
    found: dict[int, list[Any]] = {}
    for shard, ids in wanted.items():
        found[shard] = [entry for _ in ids for entry in _listed(next(replies))]
    return found


def _listed(reply: Any) -> list[Any]:
    """A reply that must be no error. Raises `ResponseError`."""
    if isinstance(reply, Exception):
        raise reply
    return list(reply)


async def _replies(log: Redis | RedisCluster, commands: list[Command]) -> list[Any]:
    """The replies in one round trip, among them error replies as they come. Other errors are raised."""
    if not commands:
        return []
    pipeline: Any = log.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    async with asyncio.timeout(_TIMEOUT_S):
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, Exception) and not isinstance(reply, ResponseError):
            raise reply
    return replies


def _parts(entry_id: bytes) -> tuple[int, int]:
    ms, _, sequence = entry_id.partition(b"-")
    return int(ms), int(sequence or 0)


def _member(entry_id: bytes) -> bytes:
    return index_member(*_parts(entry_id)).encode()


def _entry_id(member: bytes) -> bytes:
    return re.sub(rb"[a-t]", b"-", member)
