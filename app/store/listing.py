"""Pages of sessions, newest first. A session id sorts by creation time, so an id is the cursor.

A user's page reads that user's whole index (at most 10,000 ids) and the hashes of one page. A tenant's page asks
all shards for their newest few and merges them.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from app.census import last_place
from app.model import SHARDS, Rules, Session, created_ms, shard_of
from app.store import keyspace
from app.store.base import Page
from app.store.record import judged
from app.store.wire import Command, Wire

_ROUNDS = 10


class Get(Protocol):
    async def __call__(
        self, tenant_id: str, session_id: str, rules: Rules, now: int, user_id: str | None = None
    ) -> Session | None: ...


class Evict(Protocol):
    async def __call__(self, tenant_id: str, user_id: str, rules: Rules, now: int) -> list[str]: ...


async def of_user(
    wire: Wire,
    evict: Evict,
    tenant_id: str,
    user_id: str,
    statuses: frozenset[str],
    limit: int,
    before: str | None,
    rules: Rules,
    now: int,
) -> Page:
    """A page of one user; members that time has ended count as ended. A user beyond `rules.limit` is trimmed first."""
    shard = shard_of(tenant_id, user_id)
    user, ended = keyspace.user(shard, tenant_id, user_id), keyspace.ended(shard, tenant_id, user_id)
    reads: list[Command] = [("HGET", keyspace.cutoff(shard), tenant_id), ("ZRANGE", user, 0, -1, "WITHSCORES")]
    if statuses != {"active"}:
        reads.append(("ZRANGE", ended, 0, -1, "WITHSCORES"))
    cutoff, members, *tombstones = await wire.batch(user, reads)
    if len(members) > 2 * rules.limit:
        await evict(tenant_id, user_id, rules, now)
        return await of_user(wire, evict, tenant_id, user_id, statuses, limit, before, rules, now)
    cut = None if cutoff is None else int(cutoff)
    alive, over = _scores(members), _scores(tombstones[0] if tombstones else [])
    ids = sorted((sid for sid in {*alive, *over} if before is None or sid < before), reverse=True)
    found: list[Session] = []
    for start in range(0, len(ids), limit + 1):
        some = ids[start : start + limit + 1]
        hashes = await wire.batch(user, [("HGETALL", keyspace.session(shard, sid)) for sid in some])
        for sid, flat in zip(some, hashes, strict=True):
            session = judged(sid, flat, alive.get(sid), over.get(sid), cut, rules, now)
            if session is not None and session.status in statuses:
                found.append(session)
        if len(found) > limit:
            break
    return page(found, limit)


def _scores(flat: list[bytes]) -> dict[str, bytes]:
    """Member → score of a sorted set as it was read."""
    return dict(zip(map(bytes.decode, flat[::2]), flat[1::2], strict=True))


def page(found: list[Session], limit: int) -> Page:
    """The first `limit` of what was found, and where to go on if there was more."""
    if len(found) <= limit:
        return Page(found)
    return Page(found[:limit], True, found[limit - 1].id)


async def of_tenant(
    wire: Wire,
    get: Get,
    tenant_id: str,
    statuses: frozenset[str],
    limit: int,
    before: str | None,
    rules: Rules,
    now: int,
) -> Page:
    """A page of a whole tenant. Ids that do not match `statuses` are passed over, for a bounded number of rounds."""
    found: list[Session] = []
    for _ in range(_ROUNDS):
        ids = await _newest(wire, tenant_id, statuses, limit + 1, before)
        sessions = await asyncio.gather(*(get(tenant_id, sid, rules, now) for sid in ids))
        found += [session for session in sessions if session is not None and session.status in statuses]
        if len(found) > limit or len(ids) <= limit:
            return page(found, limit)
        before = ids[-1]
    return Page(found[:limit], True, found[limit - 1].id if len(found) >= limit else before)


async def _newest(wire: Wire, tenant_id: str, statuses: frozenset[str], count: int, before: str | None) -> list[str]:
    """The newest `count` ids of a tenant below `before`. Living ones have a positive score in the index, ended
    ones the same with a minus sign; the living may have been ended by time, so they are always looked at."""
    few = count // 64 + 4
    shards = await asyncio.gather(
        *(_of_shard(wire, shard, tenant_id, statuses, few, before) for shard in range(SHARDS))
    )
    ids = sorted((sid for rows in shards for sid in rows), reverse=True)[:count]
    floor = ids[-1] if len(ids) == count else ""
    deeper = [n for n, rows in enumerate(shards) if len(rows) >= few and min(rows) > floor]
    if deeper:
        more = await asyncio.gather(*(_of_shard(wire, shard, tenant_id, statuses, count, before) for shard in deeper))
        ids = sorted({*ids, *(sid for rows in more for sid in rows)}, reverse=True)[:count]
    return ids


async def _of_shard(
    wire: Wire, shard: int, tenant_id: str, statuses: frozenset[str], count: int, before: str | None
) -> list[str]:
    """The newest ids of one shard below `before`; those of the same millisecond as `before` are read on top."""
    key = keyspace.tenant_index(shard, tenant_id)
    top = "+inf" if before is None else str(last_place(created_ms(before)))
    reads = [_slice(wire, key, top, "1", True, count, before)]
    if statuses != {"active"}:
        reads.append(_slice(wire, key, "-inf" if top == "+inf" else f"-{top}", "-1", False, count, before))
    found = [sid for rows in await asyncio.gather(*reads) for sid in rows]
    return sorted(found, reverse=True)[:count]


async def _slice(
    wire: Wire, key: str, first: str, last: str, reverse: bool, count: int, before: str | None
) -> list[str]:
    command = ["ZRANGE", key, first, last, "BYSCORE", *(["REV"] if reverse else [])]
    found: list[str] = []
    offset = 0
    while len(found) < count:
        rows: list[bytes] = await wire.call(key, *command, "LIMIT", offset, count)
        ids = [row.decode() for row in rows]
        found += [sid for sid in ids if before is None or sid < before]
        offset += count
        if len(rows) < count:
            break
    return found
