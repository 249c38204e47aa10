"""The repair pass: find in one shard what no script should leave behind, and mend it.

It walks the shard's due index and the members of every user it meets there, so its cost follows the sessions of the
shard. What it mends: an index entry without a session, a member without a due entry, a session whose hash is gone.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from app.model import Rules, created_ms, shard_in
from app.store import keyspace
from app.store.base import Due
from app.store.wire import Wire

_BATCH = 200


class Sweep(Protocol):
    async def __call__(self, due: list[Due], rules: dict[str, Rules], now: int) -> int: ...


async def repair(wire: Wire, sweep: Sweep, shard: int, cursor: int, now: int) -> tuple[int, int]:
    """Look at one batch of the due index; returns the next cursor (0: done) and how many entries were mended."""
    key = keyspace.due(shard)
    after, flat = await wire.call(key, "ZSCAN", key, cursor, "COUNT", _BATCH)
    ids = [sid.decode() for sid in flat[::2]]
    rows = await asyncio.gather(
        *(wire.call(k, "HMGET", k, "tenant", "user", "user1") for k in (keyspace.session(shard, s) for s in ids))
    )
    mended = 0
    users: set[tuple[str, str]] = set()
    for sid, (tenant, user, more) in zip(ids, rows, strict=True):
        if tenant is None or user is None:
            mended += await wire.call(key, "ZREM", key, sid)
        else:
            users.add((tenant.decode(), (user + (more or b"")).decode()))
    for tenant_id, user_id in users:
        mended += await _mend_user(wire, sweep, shard, tenant_id, user_id, now)
    return int(after), mended


async def _mend_user(wire: Wire, sweep: Sweep, shard: int, tenant_id: str, user_id: str, now: int) -> int:
    """Settle members that lack a hash, a due entry or a place in the tenant's index."""
    user, index = keyspace.user(shard, tenant_id, user_id), keyspace.tenant_index(shard, tenant_id)
    members = [sid.decode() for sid in await wire.call(user, "ZRANGE", user, 0, -1)]
    if not members:
        return 0
    due_key = keyspace.due(shard)
    dues, places, hashes = await asyncio.gather(
        wire.call(due_key, "ZMSCORE", due_key, *members),
        wire.call(index, "ZMSCORE", index, *members),
        asyncio.gather(*(wire.call(k, "EXISTS", k) for k in (keyspace.session(shard, s) for s in members))),
    )
    broken = [
        sid
        for sid, due, place, exists in zip(members, dues, places, hashes, strict=True)
        if due is None or place is None or not exists
    ]
    broken = [sid for sid in broken if shard_in(sid) == shard]
    for sid in broken:
        await wire.call(index, "ZADD", index, created_ms(sid), sid)
    await sweep([Due(sid, tenant_id, user_id) for sid in broken], {tenant_id: Rules()}, now)
    return len(broken)
