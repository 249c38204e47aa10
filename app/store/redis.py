"""`SessionStore` on Redis: each writing verb is the script of its name beside this file, reads are plain commands."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec

from app.census import kind_of
from app.errors import IdempotencyKeyReused, SessionEnded, SessionLimitReached, StoreUnavailable, Unreadable
from app.model import (
    DAY,
    SHARDS,
    Reason,
    Rules,
    Session,
    deadline,
    new_session_id,
    shard_in,
    shard_of,
)
from app.store import counting, keyspace, listing
from app.store.acts import Acts, Flat, rule_fields
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
from app.store.cutting import CutOffs
from app.store.mending import Repair
from app.store.record import changed_fields, fields_of, history_of, judged, names_of, pieces, session_of
from app.store.scripts import SCRIPTS
from app.store.wire import Wire

_KEEP = 7 * DAY
_ATTEMPTS = 20
_AT_ONCE = 64
_WIDE = 2
"""How many may read from all shards at once; more would fill the connection for everybody."""
_NO_RULES = Rules()
_NOT_ONCE = Once("", "")


class RedisSessionStore:
    """Sessions in hashes, a sorted set per user as the authority, one due index and one event log per shard."""

    def __init__(self, wire: Wire, retention_ms: int = DAY) -> None:
        self._wire = wire
        self._retention = retention_ms
        self._acts = Acts(wire, retention_ms)
        self._cut_offs = CutOffs(wire, retention_ms)
        self._wide = asyncio.Semaphore(_WIDE)

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
                    await self._acts.settle(session.tenant_id, session.user_id, answer[1:], rules, now)
                case b"over":
                    await self.evict(session.tenant_id, session.user_id, rules, now)
                case _:
                    raise SessionLimitReached(rules.limit)
        raise StoreUnavailable("the user's sessions change too fast")

    async def _create(
        self, session: Session, digest: bytes, rules: Rules, now: int, once: Once, by: str
    ) -> list[bytes]:
        keep_until = session.expires_at + max(self._retention, _KEEP)
        args: Flat = [deadline(session.expires_at, now, rules), rules.limit, int(rules.reject), keep_until]
        args += [once.fingerprint, kind_of(session.device_type, session.country), by, *fields_of(session, digest)]
        key = keyspace.once(shard_in(session.id), session.tenant_id, once.key)
        answer: list[bytes] = await self._acts.on_session("create", session, rules, now, args, key)
        return answer

    async def _created(self, session: Session, rules: Rules, now: int, once: Once, earlier: list[bytes]) -> Created:
        """What an earlier call has made, as it is now."""
        fingerprint, sid, *evicted = (part.decode() for part in earlier)
        if fingerprint not in (once.fingerprint, once.legacy):
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
            owner = await self._acts.owner(session_id)
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
        session = judged(session_id, flat, active, ended, _int(cutoff), rules, now)
        if session is None or (session.tenant_id, session.user_id) != (tenant_id, user_id):
            return None
        if session.end_reason is None and rules.is_at_limit(size):
            return msgspec.structs.replace(session, at_limit=True)
        return session

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
        args += [rotation.number, rotation.successor, rotation.branch]
        for _ in range(_ATTEMPTS):
            answer = await self._acts.on_session("rotate", rotation, rules, now, args)
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
        owner = await self._acts.owner(session_id)
        if owner is None or owner.tenant_id != tenant_id:
            return False
        return bool(await self._acts.on_session("revoke", owner, rules, now, [reason, by]))

    async def sign_out(self, presented: Rotation, rules: Rules, now: int) -> bool:
        args: Flat = ["signed_out", "user", presented.generation, presented.digest]
        return bool(await self._acts.on_session("revoke", presented, rules, now, args))

    async def revoke_user(
        self, tenant_id: str, user_id: str, except_id: str | None, reason: Reason, rules: Rules, now: int, by: str = ""
    ) -> list[str]:
        return await self._acts.on_user("revoke_user", tenant_id, user_id, except_id or "", rules, now, [reason, by])

    async def evict(self, tenant_id: str, user_id: str, rules: Rules, now: int) -> list[str]:
        return await self._acts.on_user("evict", tenant_id, user_id, rules.limit, rules, now, [])

    async def cut_off(self, tenant_id: str, now: int, by: str = "") -> int:
        return await self._cut_offs.begin(tenant_id, now, by)

    async def restore_cut_off(self, tenant_id: str, before: int) -> int:
        return await self._cut_offs.restore(tenant_id, before)

    async def uncut(self, tenant_id: str, shard: int, now: int) -> bool:
        return await self._cut_offs.forget(tenant_id, shard, now)

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
                args += [seen.session_id, seen.tenant_id, seen.seen, *rule_fields(rules[seen.tenant_id])]  # type: ignore[list-item]
            answer: list[bytes] = await self._wire.script(SCRIPTS["touch"], keys, args)
            return answer

        alive = await self._acts.by_shard(touches, one)
        return [sid.decode() for batch in alive for sid in batch]

    async def update(
        self, tenant_id: str, session_id: str, changes: dict[str, Any], rules: Rules, now: int, by: str = ""
    ) -> Session | None:
        owner = await self._acts.owner(session_id)
        if owner is None or owner.tenant_id != tenant_id:
            return None
        answer = await self._acts.on_session("update", owner, rules, now, _changed(changes, now, by))
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
            answers = await asyncio.gather(
                *(self._acts.on_session("update", owner, rules, now, args) for owner in owners)
            )
            changed += [o.session_id for o, answer in zip(owners, answers, strict=True) if answer[0] == b"ok"]
        return changed

    async def due(self, now: int, limit: int) -> dict[str, int]:
        return await self._acts.due(now, limit)

    async def owners(self, session_ids: list[str]) -> list[Due]:
        return await self._acts.owners(session_ids)

    async def sweep(self, due: list[Due], rules: dict[str, Rules], now: int) -> int:
        return await self._acts.sweep(due, rules, now)

    async def postpone(self, due: list[Due], at: int) -> None:
        await self._acts.postpone(due, at)

    async def tenant_members(self, tenant_id: str, shard: int, after: str, limit: int) -> list[Due]:
        key = keyspace.tenant_index(shard, tenant_id)
        while sids := await listing.oldest(self._wire, key, after, limit):
            if owners := await self._acts.owners(sids):
                return owners
            after = sids[-1]
        return []

    async def repair(self, rules_of: RulesOf, now: int) -> Counter[str]:
        async def mend(owner: Due, kind: int) -> list[str]:
            try:
                rules = await rules_of(owner.tenant_id) or _NO_RULES
            except Unreadable as error:
                raise Unreadable(str(error)) from None  # not to be taken for damage of the session's own keys
            return [damage.decode() for damage in await self._acts.on_session("mend", owner, rules, now, [kind])]

        return await Repair(self._wire, mend).run()


def _changed(changes: dict[str, Any], now: int, by: str) -> Flat:
    """The arguments of `update.lua` that are its own: the fields to drop, then those to set."""
    drops: Flat = []
    sets: Flat = ["chg", f"{now} {by}"]
    for name, value in changed_fields(changes):
        drops += names_of(name) if name in ("claims", "meta") else [name]
        sets += [] if value is None else pieces(name, value)
    return [len(drops), *drops, *sets]


def _renewed(session: Session, created: int) -> Session:
    """The same session under an id of a later time, so that a cut-off does not concern it."""
    return msgspec.structs.replace(session, id=new_session_id(session.tenant_id, session.user_id, created))


def _int(value: bytes | None) -> int | None:
    return None if value is None else int(value)
