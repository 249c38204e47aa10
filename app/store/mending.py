"""The repair pass: look at every key of the sessions, find what the invariants do not allow, and mend it.

Damage can only come from outside (an evicting server, a hand in the database, a restored backup, a bug to come). One
session is judged and mended in one act (`mend.lua`); this module finds the ones to look at, by `SCAN`, node by node.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from redis.exceptions import ResponseError

from app.census import kind_of
from app.errors import Unreadable
from app.model import DAY, is_session_id, shard_in
from app.store import keyspace
from app.store.base import Due
from app.store.record import USER_FIELDS, user_of
from app.store.scripts import SCRIPTS
from app.store.wire import Wire

_TYPES: Final = {
    "session": b"hash",
    "user": b"zset",
    "ended": b"zset",
    "tenant": b"zset",
    "due": b"zset",
    "cutoff": b"hash",
    "counts": b"hash",
    "events": b"stream",
    "endings": b"hash",
    "eventids": b"zset",
}
_ONE_PER_SHARD: Final = ("due", "cutoff", "counts", "events", "endings")
_INDEXES: Final = ("user", "ended", "tenant", "due", "endings")
_OWNER: Final = ("tenant", "dev", "cc", *USER_FIELDS)
_PAUSE_S: Final = 0.005
_PARKED_FOR: Final = 7 * DAY
_LONGEST_RETENTION: Final = 91 * DAY
_AT_ONCE: Final = 500
_log: Final = logging.getLogger(__name__)

Mend = Callable[[Due, int], Awaitable[list[str]]]
"""A session and its kind (`app.census`); 0 of one without a record."""


class Repair:
    """One pass. `mend` judges one session; `damages` counts what was found, by name."""

    def __init__(self, wire: Wire, mend: Mend) -> None:
        self._wire = wire
        self._mend = mend
        self.damages: Counter[str] = Counter()

    async def run(self) -> Counter[str]:
        """Records first, then the indexes, which by then only hold what has no record."""
        for kind in _TYPES:
            pattern = f"hj:{{*}}:{kind}" + ("" if kind in _ONE_PER_SHARD else ":*")
            async for keys in self._wire.scan(pattern):
                await self._look(kind, [key for key in keys if keyspace.is_a(kind, key)])
                await asyncio.sleep(_PAUSE_S)
        return self.damages

    async def _look(self, kind: str, keys: list[bytes]) -> None:
        sound = await self._sound(kind, [key.decode() for key in keys])
        if kind == "session":
            await self._records(sound)
        elif kind in _INDEXES:
            for key in sound:
                await self._index(kind, key)

    async def _sound(self, kind: str, keys: list[str]) -> list[str]:
        """Those that are of the type; others are parked."""
        types = await asyncio.gather(*(self._wire.call(key, "TYPE", key) for key in keys))
        for key, found in zip(keys, types, strict=True):
            if found not in (_TYPES[kind], b"none"):
                await (self._let_expire(key) if kind == "eventids" else self._park(key, _TYPES[kind]))
        return [key for key, found in zip(keys, types, strict=True) if found == _TYPES[kind]]

    async def _records(self, keys: list[str]) -> None:
        rows = await asyncio.gather(*(self._wire.call(key, "HMGET", key, *_OWNER) for key in keys))
        owners = []
        for key, (tenant, device, country, *pieces) in zip(keys, rows, strict=True):
            sid = key.rpartition(":")[2]
            user = user_of(pieces) if tenant is not None and tenant.isascii() else None
            if user is None or not is_session_id(sid) or key != keyspace.session(shard_in(sid), sid):
                await self._park(key, b"")
            else:
                kind = kind_of(*((word or b"").decode(errors="replace") for word in (device, country)))
                owners.append((Due(sid, tenant.decode(), user), kind))
        await self._mend_all(owners)

    async def _index(self, kind: str, key: str) -> None:
        """The members of one index that have no record: with their owner they are mended, else dropped."""
        cursor, scan = 0, "HSCAN" if kind == "endings" else "ZSCAN"
        while True:
            cursor, flat = await self._wire.call(key, scan, key, cursor, "COUNT", _AT_ONCE)
            await self._orphans(kind, key, [sid.decode(errors="replace") for sid in flat[::2]])
            cursor = int(cursor)
            if cursor == 0:
                return

    async def _orphans(self, kind: str, key: str, members: list[str]) -> None:
        shaped = [sid for sid in members if is_session_id(sid)]
        records = [keyspace.session(shard_in(sid), sid) for sid in shaped]
        there = await asyncio.gather(*(self._wire.call(record, "EXISTS", record) for record in records))
        alone = [sid for sid, exists in zip(shaped, there, strict=True) if not exists]
        if kind in ("user", "ended"):
            _, _, _, tenant_id, user_id = key.split(":", 4)
            await self._mend_all((Due(sid, tenant_id, user_id), 0) for sid in alone)
        else:
            await self._drop(kind, key, alone)
        await self._drop(kind, key, [sid for sid in members if not is_session_id(sid)])

    async def _mend_all(self, owners: Iterable[tuple[Due, int]]) -> None:
        for damages in await asyncio.gather(*(self._mended(*owner) for owner in owners)):
            self.damages.update(damages)

    async def _mended(self, owner: Due, kind: int) -> list[str]:
        """What was mended. Keys of its user or shard that are unreadable are parked first; one whose tenant is, waits
        for somebody to restore it."""
        try:
            try:
                return await self._mend(owner, kind)
            except ResponseError:
                for key in keyspace.of_user(shard_in(owner.session_id), owner.tenant_id, owner.user_id):
                    await self._sound(key.split(":")[2], [key])
                return await self._mend(owner, kind)
        except ResponseError as error:
            _log.error("session %s cannot be mended (%s)", owner.session_id, error)
            return ["a session that cannot be mended"]
        except Unreadable:
            return ["a session whose tenant cannot be read"]

    async def _drop(self, kind: str, key: str, members: list[str]) -> None:
        if members:
            drop = "HDEL" if kind == "endings" else "ZREM"
            self.damages["an entry without a record"] += await self._wire.call(key, drop, key, *members)

    async def _let_expire(self, key: str) -> None:
        """Readers do without an index of events that is damaged, and the tenant's next event replaces it. One that were
        missing would hide events; so it stays until there can be none that it should hold."""
        if await self._wire.call(key, "PTTL", key) == -1:
            await self._wire.call(key, "PEXPIRE", key, _LONGEST_RETENTION)
            self.damages["an unreadable key"] += 1

    async def _park(self, key: str, sound: bytes) -> None:
        """Out of the way, but kept for a week for whoever wants to see what it was; unless its type is `sound`."""
        if await self._wire.script(SCRIPTS["park"], [key, keyspace.parked(key)], [sound, _PARKED_FOR]):
            self.damages["an unreadable key"] += 1
