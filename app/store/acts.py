"""How a script is run: on one session, on a user's set until nothing is left, on many sessions shard by shard."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from redis.exceptions import ResponseError

from app.errors import StoreUnavailable, Unreadable
from app.model import HOUR, Rules, Session, shard_in, shard_of
from app.store import keyspace
from app.store.base import Due, Rotation, Touch
from app.store.due import DueIndex
from app.store.essential import write_when_full
from app.store.record import USER_FIELDS, Field, user_of
from app.store.scripts import SCRIPTS
from app.store.wire import Wire

_BATCH: Final = 25
_AT_ONCE: Final = 64
_ROUNDS: Final = 2_000
_SAME: Final = 3
_NO_RULES: Final = Rules()
_log: Final = logging.getLogger(__name__)

Flat = list[Field]
Item = TypeVar("Item", Due, Touch)
Result = TypeVar("Result")


class Acts:
    """`retention_ms`: how long events and tombstones are kept. Every method may raise `StoreUnavailable`."""

    def __init__(self, wire: Wire, retention_ms: int) -> None:
        self._wire = wire
        self._retention = retention_ms
        self._due = DueIndex(wire)

    async def on_session(
        self, verb: str, at: Due | Rotation | Session, rules: Rules, now: int, args: Flat, *more: str
    ) -> Any:
        """Run the script of `verb` on one session: ten keys (and `more`), nine common arguments, then its own."""
        sid = at.id if isinstance(at, Session) else at.session_id
        shard = shard_in(sid)
        keys = [keyspace.session(shard, sid), *keyspace.of_user(shard, at.tenant_id, at.user_id), *more]
        common: Flat = [now, self._retention, at.tenant_id, at.user_id, sid, *rule_fields(rules)]
        return await self._wire.script(SCRIPTS[verb], keys, [*common, rules.not_after(now), *args])

    async def on_user(
        self, verb: str, tenant_id: str, user_id: str, own: Field, rules: Rules, now: int, args: Flat
    ) -> list[str]:
        """Run a script on a user's set until it ends nothing more. Raises `Unreadable` if it is in doubt about the same
        sessions again and again."""
        keys = keyspace.of_user(shard_of(tenant_id, user_id), tenant_id, user_id)
        common: Flat = [now, self._retention, tenant_id, user_id, own, *rule_fields(rules), rules.not_after(now)]
        ended: list[str] = []
        doubts: list[list[bytes]] = []
        for _ in range(_ROUNDS):
            answer = await self._wire.script(SCRIPTS[verb], keys, [*common, *args])
            if answer[0] == b"settle":
                doubts = [*doubts[1 - _SAME :], answer]
                if doubts == [answer] * _SAME:
                    raise Unreadable(f"the sessions of user {user_id} cannot be settled")
                await self.settle(tenant_id, user_id, answer[1:], rules, now)
            elif len(answer) == 1:
                return ended
            else:
                ended += [sid.decode() for sid in answer[1:]]
        raise StoreUnavailable("the user's sessions change too fast")

    async def by_shard(
        self, items: list[Item], act: Callable[[int, list[Item]], Awaitable[Result]], at_once: int = _AT_ONCE
    ) -> list[Result]:
        """Run `act` on batches of one shard each, `at_once` side by side."""
        shards: dict[int, list[Item]] = defaultdict(list)
        for item in items:
            shards[shard_in(item.session_id)].append(item)
        batches = [
            (shard, batch[start : start + _BATCH])
            for shard, batch in shards.items()
            for start in range(0, len(batch), _BATCH)
        ]
        results: list[Result] = []
        for first in range(0, len(batches), at_once):
            results += await asyncio.gather(*(act(*batch) for batch in batches[first : first + at_once]))
        return results

    async def due(self, now: int, limit: int) -> dict[str, int]:
        return await self._due.read(now, limit)

    async def sweep(self, due: list[Due], rules: dict[str, Rules], now: int) -> int:
        async def one(shard: int, batch: list[Due]) -> int:
            keys, args = _swept(shard, batch, rules, now, self._retention)
            try:
                ended: int = await self._wire.script(SCRIPTS["sweep"], keys, args)
            except ResponseError as error:
                if len(batch) > 1:
                    return sum([await one(shard, [item]) for item in batch])
                _log.error("session %s cannot be settled (%s); repair will see to it", batch[0].session_id, error)
                await self.postpone(batch, now + HOUR)
                return 0
            finally:
                self._due.changed(shard)
            return ended

        return sum(await self.by_shard(due, one, at_once=1))

    async def postpone(self, due: list[Due], at: int) -> None:
        """What nobody can settle must keep neither the sweep nor a script on the user's set from the rest."""
        keys = [keyspace.due(shard_in(item.session_id)) for item in due]
        ids = [item.session_id for item in due]
        pairs = zip(keys, ids, strict=True)
        await asyncio.gather(*(write_when_full(self._wire, key, "ZADD", at, sid) for key, sid in pairs))

    async def settle(self, tenant_id: str, user_id: str, sids: list[bytes], rules: Rules, now: int) -> None:
        """Sweep what a script on a user's set was in doubt about."""
        await self.sweep([Due(sid.decode(), tenant_id, user_id) for sid in sids], {tenant_id: rules}, now)

    async def owner(self, session_id: str) -> Due | None:
        owners = await self._owners_in(shard_in(session_id), [session_id])
        return owners[0] if owners else None

    async def owners(self, session_ids: list[str]) -> list[Due]:
        """Tenant and user of each; ids whose hash is gone are dropped from the due index."""
        found = await self._known(session_ids)
        known = {owner.session_id for owner in found}
        lost = [sid for sid in session_ids if sid not in known]
        keys = [keyspace.due(shard_in(sid)) for sid in lost]
        await asyncio.gather(*(self._wire.call(k, "ZREM", k, sid) for k, sid in zip(keys, lost, strict=True)))
        return found

    async def _known(self, session_ids: list[str]) -> list[Due]:
        """Tenant and user of each session that has a hash, shard by shard, in each in the order given."""
        shards: dict[int, list[str]] = defaultdict(list)
        for sid in session_ids:
            shards[shard_in(sid)].append(sid)
        groups, found = [*shards.items()], list[Due]()
        for first in range(0, len(groups), _AT_ONCE):
            rows = await asyncio.gather(*(self._owners_in(*group) for group in groups[first : first + _AT_ONCE]))
            found += [owner for row in rows for owner in row]
        return found

    async def _owners_in(self, shard: int, session_ids: list[str]) -> list[Due]:
        """The same of one shard. A key that is no hash, or names nobody whom we could have written, counts as none."""
        keys = [keyspace.session(shard, sid) for sid in session_ids]
        try:
            rows = await self._wire.batch(keys[0], [("HMGET", key, "tenant", "exp", *USER_FIELDS) for key in keys])
        except ResponseError:
            each = [await self._owners_in(shard, [sid]) for sid in session_ids] if len(session_ids) > 1 else []
            return [owner for owners in each for owner in owners]
        return [
            Due(sid, tenant.decode(), user, exp=exp or b"")
            for sid, (tenant, exp, *pieces) in zip(session_ids, rows, strict=True)
            if tenant is not None and tenant.isascii() and (user := user_of(pieces)) is not None
        ]


def rule_fields(rules: Rules) -> list[Field]:
    return [rules.idle or 0, rules.idle_cut, rules.idle_cut_at]


def _swept(shard: int, batch: list[Due], rules: dict[str, Rules], now: int, retention: int) -> tuple[list[str], Flat]:
    """Keys and arguments of `sweep.lua`."""
    numbers = {tenant_id: number for number, tenant_id in enumerate(dict.fromkeys(i.tenant_id for i in batch), 1)}
    keys = [keyspace.due(shard), keyspace.cutoff(shard), keyspace.events(shard), keyspace.counts(shard)]
    keys.append(keyspace.endings(shard))
    args: Flat = [now, retention, len(numbers)]
    for tenant_id in numbers:
        of_tenant = rules.get(tenant_id, _NO_RULES)
        args += [tenant_id, *rule_fields(of_tenant), of_tenant.not_after(now)]
    for item in batch:
        sid, tenant_id, user_id = item.session_id, item.tenant_id, item.user_id
        keys += [keyspace.session(shard, sid), keyspace.user(shard, tenant_id, user_id)]
        keys += [keyspace.ended(shard, tenant_id, user_id), keyspace.tenant_index(shard, tenant_id)]
        keys.append(keyspace.event_ids(shard, tenant_id))
        args += [sid, user_id, numbers[tenant_id], item.exp]
    return keys, args
