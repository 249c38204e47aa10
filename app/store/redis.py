"""`SessionStore` on Redis: each writing verb is the script of its name beside this file, reads are plain commands."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from redis.exceptions import ResponseError

from app.census import kind_of, place_of
from app.errors import IdempotencyKeyReused, SessionEnded, SessionLimitReached, StoreUnavailable
from app.model import (
    DAY,
    HOUR,
    SHARDS,
    Reason,
    Rules,
    Session,
    base32,
    created_ms,
    deadline,
    new_session_id,
    shard_in,
    shard_of,
)
from app.store import counting, keyspace, listing
from app.store.base import (
    Count,
    Created,
    Due,
    History,
    Once,
    Page,
    Recount,
    Rotated,
    Rotation,
    RulesOf,
    Sample,
    Touch,
)
from app.store.mending import Repair
from app.store.record import Field, changed_fields, fields_of, history_of, judged, names_of, pieces, session_of
from app.store.scripts import SCRIPTS
from app.store.wire import Wire

_KEEP = 7 * DAY
_BATCH = 25
_ATTEMPTS = 20
_AT_ONCE = 64
_WIDE = 2
"""How many may read from all shards at once, and how many cut off; more would fill the connection for everybody."""
_ROUNDS = 1_000
_NO_RULES = Rules()
_NOT_ONCE = Once("", "")
_log = logging.getLogger(__name__)

Flat = list[Field]
Item = TypeVar("Item", Due, Touch)
Result = TypeVar("Result")


class RedisSessionStore:
    """Sessions in hashes, a sorted set per user as the authority, one due index and one event log per shard."""

    def __init__(self, wire: Wire, retention_ms: int = DAY) -> None:
        self._wire = wire
        self._retention = retention_ms
        self._wide, self._cutting = asyncio.Semaphore(_WIDE), asyncio.Semaphore(_WIDE)

    async def create(
        self, session: Session, digest: bytes, rules: Rules, now: int, once: Once | None = None, by: str = ""
    ) -> Created:
        for _ in range(_ATTEMPTS):
            answer = await self._create(session, digest, rules, now, once or _NOT_ONCE, by)
            match answer[0]:
                case b"ok":
                    return Created(session=session, evicted=[sid.decode() for sid in answer[1:]])
                case b"again":
                    return await self._created(session, rules, now, once or _NOT_ONCE, answer[1:])
                case b"cut":
                    session = _renewed(session, int(answer[1]) + 1)
                case b"settle":
                    await self._settle(session.tenant_id, session.user_id, answer[1:], rules, now)
                case b"over":
                    await self.evict(session.tenant_id, session.user_id, rules, now)
                case _:
                    raise SessionLimitReached
        raise StoreUnavailable("the user's sessions change too fast")

    async def _create(
        self, session: Session, digest: bytes, rules: Rules, now: int, once: Once, by: str
    ) -> list[bytes]:
        keep_until = session.expires_at + max(self._retention, _KEEP)
        args: Flat = [deadline(session.expires_at, now, rules), rules.limit, int(rules.reject), keep_until]
        args += [once.fingerprint, kind_of(session.device_type, session.country), by, *fields_of(session, digest)]
        key = keyspace.once(shard_in(session.id), session.tenant_id, once.key)
        answer: list[bytes] = await self._act("create", session, rules, now, args, key)
        return answer

    async def _created(self, session: Session, rules: Rules, now: int, once: Once, earlier: list[bytes]) -> Created:
        """What an earlier call has made, as it is now."""
        fingerprint, sid, *evicted = (part.decode() for part in earlier)
        if fingerprint != once.fingerprint:
            raise IdempotencyKeyReused
        found = await self.get(session.tenant_id, sid, rules, now, session.user_id)
        if found is None:
            raise SessionEnded
        return Created(session=found, evicted=evicted)

    async def get(
        self, tenant_id: str, session_id: str, rules: Rules, now: int, user_id: str | None = None
    ) -> Session | None:
        shard, key = shard_in(session_id), keyspace.session(shard_in(session_id), session_id)
        if user_id is None:
            owner = await self._owner(session_id)
            if owner is None or owner.tenant_id != tenant_id:
                return None
            user_id = owner.user_id
        user = keyspace.user(shard, tenant_id, user_id)
        flat, active, cutoff, size = await self._wire.batch(
            key,
            (
                ("HGETALL", key),
                ("ZSCORE", user, session_id),
                ("HGET", keyspace.cutoff(shard), tenant_id),
                ("ZCARD", user),
            ),
        )
        if active is not None and size > rules.limit:
            await self.evict(tenant_id, user_id, rules, now)
            return await self.get(tenant_id, session_id, rules, now, user_id)
        ended = None
        if active is None:
            tombstones = keyspace.ended(shard, tenant_id, user_id)
            ended = await self._wire.call(tombstones, "ZSCORE", tombstones, session_id)
        return judged(session_id, flat, active, ended, _int(cutoff), rules, now)

    async def history(self, tenant_id: str, session_id: str, rules: Rules, now: int) -> History | None:
        session = await self.get(tenant_id, session_id, rules, now)
        if session is None:
            return None
        shard = shard_in(session_id)
        key, endings, cutoff = keyspace.session(shard, session_id), keyspace.endings(shard), keyspace.cutoff(shard)
        fields, mark, cut_by = await self._wire.batch(
            key,
            (
                ("HMGET", key, "rot", "chg"),
                ("HGET", endings, session_id),
                ("HGET", cutoff, f"{tenant_id} by"),
            ),
        )
        return history_of(session, fields[0], fields[1], mark, cut_by)

    async def list_user(
        self,
        tenant_id: str,
        user_id: str,
        statuses: frozenset[str],
        limit: int,
        before: str | None,
        rules: Rules,
        now: int,
    ) -> Page:
        return await listing.of_user(self._wire, self.evict, tenant_id, user_id, statuses, limit, before, rules, now)

    async def list_tenant(
        self, tenant_id: str, statuses: frozenset[str], limit: int, before: str | None, rules: Rules, now: int
    ) -> Page:
        async with self._wide:
            return await listing.of_tenant(self._wire, self.get, tenant_id, statuses, limit, before, rules, now)

    async def count_tenant(self, tenant_id: str, tombstones: bool = False) -> int:
        keys, low = [keyspace.tenant_index(shard, tenant_id) for shard in range(SHARDS)], "-inf" if tombstones else 1
        async with self._wide:
            return sum(await asyncio.gather(*(self._wire.call(key, "ZCOUNT", key, low, "+inf") for key in keys)))

    async def rotate(self, rotation: Rotation, rules: Rules, now: int) -> Rotated:
        args: Flat = [rules.limit, rules.grace, rotation.generation, rotation.digest]
        args += [rotation.successor, rotation.branch]
        for _ in range(_ATTEMPTS):
            answer = await self._act("rotate", rotation, rules, now, args)
            if answer[0] == b"missing":
                return Rotated(outcome="missing")
            if answer[0] == b"over":
                await self.evict(rotation.tenant_id, rotation.user_id, rules, now)
                continue
            outcome, branch, active, ended, flat = answer
            session = session_of(rotation.session_id, flat, active, ended)
            return Rotated(outcome=outcome.decode(), session=session, branch=branch)
        raise StoreUnavailable("the user's sessions change too fast")

    async def revoke(
        self, tenant_id: str, session_id: str, reason: Reason, rules: Rules, now: int, by: str = ""
    ) -> bool:
        owner = await self._owner(session_id)
        if owner is None or owner.tenant_id != tenant_id:
            return False
        return bool(await self._act("revoke", owner, rules, now, [reason, by]))

    async def revoke_user(
        self, tenant_id: str, user_id: str, except_id: str | None, reason: Reason, rules: Rules, now: int, by: str = ""
    ) -> list[str]:
        return await self._drain("revoke_user", tenant_id, user_id, except_id or "", rules, now, [reason, by])

    async def evict(self, tenant_id: str, user_id: str, rules: Rules, now: int) -> list[str]:
        return await self._drain("evict", tenant_id, user_id, rules.limit, rules, now, [])

    async def cut_off(self, tenant_id: str, now: int, by: str = "") -> int:
        home = shard_of(tenant_id, "")
        async with self._cutting:
            others = [self._cut(shard, tenant_id, now, False, by) for shard in range(SHARDS) if shard != home]
            return sum(await asyncio.gather(*others)) + await self._cut(home, tenant_id, now, True, by)

    async def _cut(self, shard: int, tenant_id: str, now: int, announce: bool, by: str) -> int:
        keys = [keyspace.cutoff(shard), keyspace.tenant_index(shard, tenant_id), keyspace.events(shard)]
        not_after = -(-(now + DAY) // 1_000)
        args: Flat = [now, self._retention, tenant_id, base32(shard, 2), not_after, int(announce), by]
        count: int = await self._wire.script(SCRIPTS["cut_off"], keys, args)
        return count

    async def uncut(self, tenant_id: str, shard: int, now: int) -> bool:
        keys = [keyspace.cutoff(shard), keyspace.tenant_index(shard, tenant_id)]
        return bool(await self._wire.script(SCRIPTS["uncut"], keys, [now, tenant_id]))

    async def collect(self) -> list[Count]:
        return await counting.collect(self._wire)

    async def recount(self) -> Recount:
        return await counting.recount(self._wire)

    async def sample(self, tenant_id: str, most: int) -> Sample:
        async with self._wide:
            return await counting.sample(self._wire, tenant_id, most)

    async def touch(self, touches: list[Touch], rules: dict[str, Rules], now: int) -> list[str]:
        async def one(shard: int, batch: list[Touch]) -> list[bytes]:
            keys, args = [keyspace.cutoff(shard)], [now]
            for seen in batch:
                keys.append(keyspace.session(shard, seen.session_id))
                keys.append(keyspace.user(shard, seen.tenant_id, seen.user_id))
                args += [seen.session_id, seen.tenant_id, seen.seen, *_rules(rules[seen.tenant_id])]  # type: ignore[list-item]
            answer: list[bytes] = await self._wire.script(SCRIPTS["touch"], keys, args)
            return answer

        alive = await self._by_shard(touches, one)
        return [sid.decode() for batch in alive for sid in batch]

    async def update(
        self, tenant_id: str, session_id: str, changes: dict[str, Any], rules: Rules, now: int, by: str = ""
    ) -> Session | None:
        owner = await self._owner(session_id)
        if owner is None or owner.tenant_id != tenant_id:
            return None
        answer = await self._act("update", owner, rules, now, _changed(changes, now, by))
        if answer[0] == b"missing":
            return None
        return session_of(session_id, answer[3], answer[1], answer[2])

    async def update_user(
        self, tenant_id: str, user_id: str, changes: dict[str, Any], rules: Rules, now: int, by: str = ""
    ) -> list[str]:
        key = keyspace.user(shard_of(tenant_id, user_id), tenant_id, user_id)
        members = [sid.decode() for sid in await self._wire.call(key, "ZRANGE", key, 0, -1)]
        args, changed = _changed(changes, now, by), list[str]()
        for first in range(0, len(members), _AT_ONCE):
            owners = [Due(sid, tenant_id, user_id) for sid in members[first : first + _AT_ONCE]]
            answers = await asyncio.gather(*(self._act("update", owner, rules, now, args) for owner in owners))
            changed += [o.session_id for o, answer in zip(owners, answers, strict=True) if answer[0] == b"ok"]
        return changed

    async def due(self, now: int, limit: int) -> list[Due]:
        async def one(key: str) -> list[bytes]:
            try:
                sids: list[bytes] = await self._wire.call(
                    key, "ZRANGE", key, "-inf", now, "BYSCORE", "LIMIT", 0, limit, "WITHSCORES"
                )
            except ResponseError as error:
                _log.error("%s cannot be read (%s); the repair pass will see to it", key, error)
                return []
            return sids

        rows = await asyncio.gather(*(one(keyspace.due(shard)) for shard in range(SHARDS)))
        since = {sid.decode(): int(float(at)) for row in rows for sid, at in zip(row[::2], row[1::2], strict=True)}
        owners = await self._owners([*since])
        return [msgspec.structs.replace(owner, at=since[owner.session_id]) for owner in owners]

    async def sweep(self, due: list[Due], rules: dict[str, Rules], now: int) -> int:
        async def one(shard: int, batch: list[Due]) -> int:
            try:
                ended: int = await self._wire.script(
                    SCRIPTS["sweep"], *_swept(shard, batch, rules, now, self._retention)
                )
            except ResponseError as error:
                if len(batch) > 1:
                    return sum([await one(shard, [item]) for item in batch])
                return await self._postpone(batch[0], now, error)
            return ended

        return sum(await self._by_shard(due, one, at_once=1))

    async def _postpone(self, item: Due, now: int, error: ResponseError) -> int:
        """What no script can settle must not keep the sweep from the rest."""
        _log.error("session %s cannot be settled (%s); the repair pass will see to it", item.session_id, error)
        key = keyspace.due(shard_in(item.session_id))
        await self._wire.call(key, "ZADD", key, now + HOUR, item.session_id)
        return 0

    async def tenant_members(self, tenant_id: str, shard: int, after: str, limit: int) -> list[Due]:
        key = keyspace.tenant_index(shard, tenant_id)
        low = place_of(created_ms(after), 0) if after else 1
        sids: list[bytes] = await self._wire.call(key, "ZRANGE", key, low, "+inf", "BYSCORE", "LIMIT", 0, limit)
        return await self._owners([sid.decode() for sid in sids if sid.decode() > after])

    async def repair(self, rules_of: RulesOf, now: int) -> Counter[str]:
        async def mend(owner: Due, kind: int) -> list[str]:
            rules = await rules_of(owner.tenant_id) or _NO_RULES
            return [damage.decode() for damage in await self._act("mend", owner, rules, now, [kind])]

        return await Repair(self._wire, mend).run()

    async def _settle(self, tenant_id: str, user_id: str, sids: list[bytes], rules: Rules, now: int) -> None:
        await self.sweep([Due(sid.decode(), tenant_id, user_id) for sid in sids], {tenant_id: rules}, now)

    async def _act(
        self, verb: str, at: Due | Rotation | Session, rules: Rules, now: int, args: Flat, *more: str
    ) -> Any:
        """Run the script of `verb` on one session: nine keys (and `more`), nine common arguments, then its own."""
        sid = at.id if isinstance(at, Session) else at.session_id
        shard = shard_in(sid)
        keys = [keyspace.session(shard, sid), *_user_keys(shard, at.tenant_id, at.user_id), *more]
        common: Flat = [now, self._retention, at.tenant_id, at.user_id, sid, *_rules(rules)]
        return await self._wire.script(SCRIPTS[verb], keys, [*common, rules.not_after(now), *args])

    async def _drain(
        self, verb: str, tenant_id: str, user_id: str, own: Field, rules: Rules, now: int, args: Flat
    ) -> list[str]:
        """Run a script on a user's set until it ends nothing more."""
        keys = _user_keys(shard_of(tenant_id, user_id), tenant_id, user_id)
        common: Flat = [now, self._retention, tenant_id, user_id, own, *_rules(rules), rules.not_after(now)]
        ended: list[str] = []
        for _ in range(_ROUNDS):
            answer = await self._wire.script(SCRIPTS[verb], keys, [*common, *args])
            if answer[0] == b"settle":
                await self._settle(tenant_id, user_id, answer[1:], rules, now)
            elif len(answer) == 1:
                return ended
            else:
                ended += [sid.decode() for sid in answer[1:]]
        raise StoreUnavailable("the user's sessions change too fast")

    async def _by_shard(
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

    async def _owner(self, session_id: str) -> Due | None:
        owners = await self._owners_in(shard_in(session_id), [session_id])
        return owners[0] if owners else None

    async def _owners(self, session_ids: list[str]) -> list[Due]:
        """Tenant and user of each; ids whose hash is gone are dropped from the due index."""
        found = await self.owners(session_ids)
        known = {owner.session_id for owner in found}
        lost = [sid for sid in session_ids if sid not in known]
        keys = [keyspace.due(shard_in(sid)) for sid in lost]
        await asyncio.gather(*(self._wire.call(k, "ZREM", k, sid) for k, sid in zip(keys, lost, strict=True)))
        return found

    async def owners(self, session_ids: list[str]) -> list[Due]:
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
        """The same of one shard. A key that is no hash counts as none."""
        keys = [keyspace.session(shard, sid) for sid in session_ids]
        try:
            rows = await self._wire.batch(keys[0], [("HMGET", key, "tenant", "user", "user1") for key in keys])
        except ResponseError:
            each = [await self._owners_in(shard, [sid]) for sid in session_ids] if len(session_ids) > 1 else []
            return [owner for owners in each for owner in owners]
        return [
            Due(sid, tenant.decode(), (user + (more or b"")).decode())
            for sid, (tenant, user, more) in zip(session_ids, rows, strict=True)
            if tenant is not None and user is not None
        ]


def _changed(changes: dict[str, Any], now: int, by: str) -> Flat:
    """The arguments of `update.lua` that are its own: the fields to drop, then those to set."""
    drops: Flat = []
    sets: Flat = ["chg", f"{now} {by}"]
    for name, value in changed_fields(changes):
        drops += names_of(name) if name in ("claims", "meta") else [name]
        sets += [] if value is None else pieces(name, value)
    return [len(drops), *drops, *sets]


def _swept(shard: int, batch: list[Due], rules: dict[str, Rules], now: int, retention: int) -> tuple[list[str], Flat]:
    """Keys and arguments of `sweep.lua`."""
    keys = [keyspace.due(shard), keyspace.cutoff(shard), keyspace.events(shard), keyspace.counts(shard)]
    keys.append(keyspace.endings(shard))
    args: Flat = [now, retention]
    for item in batch:
        sid, tenant_id, user_id = item.session_id, item.tenant_id, item.user_id
        keys += [keyspace.session(shard, sid), keyspace.user(shard, tenant_id, user_id)]
        keys += [keyspace.ended(shard, tenant_id, user_id), keyspace.tenant_index(shard, tenant_id)]
        of_tenant = rules.get(tenant_id, _NO_RULES)
        args += [sid, tenant_id, user_id, *_rules(of_tenant), of_tenant.not_after(now)]
    return keys, args


def _user_keys(shard: int, tenant_id: str, user_id: str) -> list[str]:
    """The keys of a user's scripts in their order: user ended tenant due cutoff events counts endings."""
    return [
        keyspace.user(shard, tenant_id, user_id),
        keyspace.ended(shard, tenant_id, user_id),
        keyspace.tenant_index(shard, tenant_id),
        keyspace.due(shard),
        keyspace.cutoff(shard),
        keyspace.events(shard),
        keyspace.counts(shard),
        keyspace.endings(shard),
    ]


def _rules(rules: Rules) -> list[Field]:
    return [rules.idle or 0, rules.idle_cut, rules.idle_cut_at]


def _renewed(session: Session, created: int) -> Session:
    """The same session under an id of a later time, so that a cut-off does not concern it."""
    return msgspec.structs.replace(session, id=new_session_id(session.tenant_id, session.user_id, created))


def _int(value: bytes | None) -> int | None:
    return None if value is None else int(value)
