"""Pages of sessions, newest first. A session id sorts by creation time, so an id is the cursor.

A user's page reads that user's whole set and the hashes of one page. The set is in the order of activity, so the newest
of a user who has many sessions are found in the tenant's index of the same shard, which is in the order of creation. A
tenant's page asks all shards for their newest few and merges them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Final, Protocol

from app.census import last_place, place_of
from app.model import SHARDS, Rules, Session, created_ms, shard_of
from app.store import keyspace
from app.store.base import Page
from app.store.record import judged
from app.store.wire import Command, Wire

_ROUNDS: Final = 10
_FEW: Final = 128
"""Sessions of a user that are read in any case: they cost no more than the page."""
_ACTIVE: Final = frozenset({"active"})

Part = dict[str, bytes | None]
"""Ids, newest first, each with its score in the user's set if it is a member."""


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
    reads: list[Command] = [
        ("HGET", keyspace.cutoff(shard), tenant_id),
        ("ZCARD", user),
        ("ZRANGE", user, 0, _FEW - 1, "WITHSCORES"),
    ]
    if statuses != _ACTIVE:
        reads.append(("ZRANGE", ended, 0, -1, "WITHSCORES"))
    cutoff, size, members, *tombstones = await wire.batch(user, reads)
    if size > rules.limit:
        await evict(tenant_id, user_id, rules, now)
        return await of_user(wire, evict, tenant_id, user_id, statuses, limit, before, rules, now)
    cut, over = None if cutoff is None else int(cutoff), _scores(tombstones[0] if tombstones else [])
    if size <= _FEW:
        parts = _parts_of(_scores(members), over, limit + 1, before)
    else:
        index = keyspace.tenant_index(shard, tenant_id) if statuses == _ACTIVE else None
        parts = _parts_of_many(wire, user, size, index, over, limit + 1, before)
    found: list[Session] = []
    async with aclosing(parts):
        async for part in parts:
            hashes = await wire.batch(user, [("HGETALL", keyspace.session(shard, sid)) for sid in part])
            for (sid, active), flat in zip(part.items(), hashes, strict=True):
                session = judged(sid, flat, active, over.get(sid), cut, rules, now)
                if session is not None and session.status in statuses:
                    found.append(session)
            if len(found) > limit:
                break
    return page(found, limit)


async def _parts_of(
    alive: dict[str, bytes], over: dict[str, bytes], count: int, before: str | None
) -> AsyncGenerator[Part, None]:
    """What is known of a user, `count` at a time."""
    ids = sorted((sid for sid in {*alive, *over} if before is None or sid < before), reverse=True)
    for part in _slices({sid: alive.get(sid) for sid in ids}, count):
        yield part


async def _parts_of_many(
    wire: Wire, user: str, size: int, index: str | None, over: dict[str, bytes], count: int, before: str | None
) -> AsyncGenerator[Part, None]:
    """The same of a user with `size` sessions. The tenant's index, if the caller names it, is gone through as long as
    that promises to be shorter than the user's whole set."""
    entries = 0 if index is None else await wire.call(index, "ZCARD", index)
    if index is not None and count * entries < size * size:
        passed = 0
        async with aclosing(_descending(wire, index, True, count * entries // size + count, before)) as newest:
            async for ids in newest:
                scores = await wire.call(user, "ZMSCORE", user, *ids)
                own = {sid: score for sid, score in zip(ids, scores, strict=True) if score is not None}
                for part in _slices(own, count):  # a millisecond may hold very many
                    yield part
                before, passed = ids[-1], passed + len(ids)
                if passed > size:
                    break
            else:
                return
    alive = _scores(await wire.call(user, "ZRANGE", user, 0, -1, "WITHSCORES"))
    async for part in _parts_of(alive, over, count, before):
        yield part


def _slices(known: Part, count: int) -> Iterator[Part]:
    rows = [*known.items()]
    for start in range(0, len(rows), count):
        yield dict(rows[start : start + count])


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
    """The newest `count` ids of one shard below `before`."""
    key = keyspace.tenant_index(shard, tenant_id)
    signs = [True] if statuses == _ACTIVE else [True, False]
    found = [sid for ids in await asyncio.gather(*(_first(wire, key, s, count, before) for s in signs)) for sid in ids]
    return sorted(found, reverse=True)[:count]


async def _first(wire: Wire, index: str, living: bool, count: int, before: str | None) -> list[str]:
    found: list[str] = []
    async with aclosing(_descending(wire, index, living, count, before)) as parts:
        async for ids in parts:
            found += ids
            if len(found) >= count:
                break
    return found


async def _descending(
    wire: Wire, index: str, living: bool, count: int, before: str | None
) -> AsyncGenerator[list[str], None]:
    """The ids below `before` in a tenant's index of one shard, living or ended ones, newest first and about `count` at
    a time. A part never ends within a millisecond, for there the index is not in the order of ids."""
    top = None if before is None else last_place(created_ms(before))
    while True:
        first = "inf" if top is None else str(top)
        bounds = (f"+{first}", "1", "BYSCORE", "REV") if living else (f"-{first}", "-1", "BYSCORE")
        rows: list[bytes] = await wire.call(index, "ZRANGE", index, *bounds, "LIMIT", 0, count + 1)
        ids = [row.decode() for row in rows]
        if len(rows) > count:
            last = created_ms(ids[-1])
            ids = [sid for sid in ids if created_ms(sid) > last]
            top = last_place(last)
        if below := sorted((sid for sid in ids if before is None or sid < before), reverse=True):
            yield below
        if len(rows) <= count:
            return
        if not ids:
            count *= 2


async def oldest(wire: Wire, index: str, after: str, count: int) -> list[str]:
    """The living ids above `after` in a tenant's index of one shard, oldest first and about `count` of them; none only
    if there are no more. As in `_descending` they never end within a millisecond."""
    low = place_of(created_ms(after), 0) if after else 1
    while True:
        rows: list[bytes] = await wire.call(index, "ZRANGE", index, low, "inf", "BYSCORE", "LIMIT", 0, count + 1)
        ids = [row.decode() for row in rows]
        if len(rows) > count:
            last = created_ms(ids[-1])
            ids = [sid for sid in ids if created_ms(sid) < last]
        if (above := sorted(sid for sid in ids if sid > after)) or len(rows) <= count:
            return above
        count *= 2
