"""The store's contract in plain dicts: the executable specification that Redis is held against. Test code only."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

import msgspec

from app.census import kind_of
from app.errors import IdempotencyKeyReused, SessionEnded, SessionLimitReached
from app.model import DAY, MINUTE, SECOND, Reason, Rules, Session, deadline, natural_end, new_session_id, shard_in
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
    Seen,
    Touch,
)


class Row:
    """A session that has not been buried, with its refresh chain and the time to look at it next."""

    def __init__(self, session: Session, digest: bytes, due: int) -> None:
        self.session, self.due = session, due
        self.current, self.parent = digest, b""
        self.branch, self.rotated = b"", 0
        self.changed, self.changed_by, self.mark = 0, "", ""

    @property
    def ended(self) -> bool:
        return self.session.end_reason is not None

    def change(self, **values: Any) -> Session:
        self.session = msgspec.structs.replace(self.session, **values)
        return self.session


class OracleStore:
    def __init__(self, retention_ms: int = DAY) -> None:
        self._retention = retention_ms
        self._rows: dict[str, Row] = {}
        self._cutoffs: dict[str, int] = {}
        self._cut_by: dict[str, str] = {}
        self._counts: Counter[tuple[str, int, str, int]] = Counter()
        self._once: dict[tuple[str, str, str], tuple[str, Created, int]] = {}
        self.events: list[tuple[str, str | None, str | None]] = []

    async def create(
        self, session: Session, digest: bytes, rules: Rules, now: int, once: Once | None = None, by: str = ""
    ) -> Created:
        name = (session.tenant_id, session.user_id, once.key if once else "")
        if once is not None and name in self._once and now < self._once[name][2] + DAY:
            fingerprint, made, _ = self._once[name]
            if fingerprint not in (once.fingerprint, once.legacy):
                raise IdempotencyKeyReused
            found = await self.get(session.tenant_id, made.session.id, rules, now)
            if found is None:
                raise SessionEnded
            return Created(session=found, evicted=made.evicted)
        created = self._create(session, digest, rules, now, by)
        if once is not None:
            self._once[name] = (once.fingerprint, created, now)
        return created

    def _create(self, session: Session, digest: bytes, rules: Rules, now: int, by: str) -> Created:
        cutoff = self._cutoffs.get(session.tenant_id, -1)
        if session.created_at <= cutoff:
            sid = new_session_id(session.tenant_id, session.user_id, cutoff + 1)
            session = msgspec.structs.replace(session, id=sid)
        if session.id in self._rows:
            return Created(session=self._judged(self._rows[session.id], rules, now))
        living = self._members(session.tenant_id, session.user_id)
        if len(living) >= rules.limit:
            living = self._settled(session.tenant_id, session.user_id, rules, now)
        over = max(0, len(living) + 1 - rules.limit)
        if over and rules.reject:
            raise SessionLimitReached(rules.limit)
        for row in living[:over]:
            self._finish(row, now, "evicted", f"{by} {rules.limit}")
        self._count(session, now, "created")
        self._rows[session.id] = Row(session, digest, deadline(session.expires_at, now, rules))
        return Created(session=session, evicted=[row.session.id for row in living[:over]])

    async def get(
        self, tenant_id: str, session_id: str, rules: Rules, now: int, user_id: str | None = None
    ) -> Session | None:
        row = self._rows.get(session_id)
        if row is None or row.session.tenant_id != tenant_id or user_id not in (None, row.session.user_id):
            return None
        if not row.ended and len(self._members(tenant_id, row.session.user_id)) > rules.limit:
            await self.evict(tenant_id, row.session.user_id, rules, now)
        size = len(self._members(tenant_id, row.session.user_id))
        session = self._judged(row, rules, now)
        at_limit = session.end_reason is None and rules.is_at_limit(size)
        return msgspec.structs.replace(session, at_limit=at_limit)

    async def history(self, tenant_id: str, session_id: str, rules: Rules, now: int) -> History | None:
        session = await self.get(tenant_id, session_id, rules, now)
        if session is None:
            return None
        row = self._rows[session_id]
        cut = session.end_reason == "tenant_revoked" and not row.ended
        by, _, limit = (self._cut_by.get(tenant_id, "") if cut else row.mark).partition(" ")
        return History(
            session=session,
            refreshed_at=row.rotated or None,
            changed_at=row.changed or None,
            changed_by=row.changed_by,
            ended_by=by,
            limit=int(limit) if limit else None,
        )

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
        if len(self._members(tenant_id, user_id)) > rules.limit:
            await self.evict(tenant_id, user_id, rules, now)
        rows = [row for row in self._of(tenant_id) if row.session.user_id == user_id]
        return self._page(rows, statuses, limit, before, rules, now)

    async def list_tenant(
        self, tenant_id: str, statuses: frozenset[str], limit: int, before: str | None, rules: Rules, now: int
    ) -> Page:
        return self._page(self._of(tenant_id), statuses, limit, before, rules, now)

    async def count_tenant(self, tenant_id: str, tombstones: bool = False) -> int:
        return sum(tombstones or not row.ended for row in self._of(tenant_id))

    async def rotate(self, rotation: Rotation, rules: Rules, now: int) -> Rotated:
        row = self._rows.get(rotation.session_id)
        if row is None or row.session.tenant_id != rotation.tenant_id:
            return Rotated(outcome="missing")
        if self._end_if_due(row, rules, now):
            return Rotated(outcome="ended", session=row.session)
        if len(self._members(rotation.tenant_id, rotation.user_id)) > rules.limit:
            await self.evict(rotation.tenant_id, rotation.user_id, rules, now)
            return await self.rotate(rotation, rules, now)
        stored, presented = row.session.generation, rotation.generation
        seen = max(row.session.last_active_at, now)
        direct = presented == stored and rotation.digest == row.current
        retry = presented < stored and rotation.digest == row.parent
        if not (direct or retry or presented > stored):
            self._finish(row, now, "refresh_token_reused")
            return Rotated(outcome="reused", session=row.session)
        if row.session.expires_at - now < SECOND:
            return Rotated(outcome="expiring", session=row.session)
        if retry and now - row.rotated < rules.grace:
            return Rotated(outcome="replayed", session=row.change(last_active_at=seen), branch=row.branch)
        if rotation.number != max(presented, stored) + 1:
            return Rotated(outcome="fresh", session=row.session)
        row.current, row.parent = rotation.successor, rotation.digest
        row.branch, row.rotated = rotation.branch, now
        session = row.change(last_active_at=seen, generation=rotation.number)
        return Rotated(outcome="rotated" if direct or retry else "ahead", session=session, branch=rotation.branch)

    async def revoke(
        self, tenant_id: str, session_id: str, reason: Reason, rules: Rules, now: int, by: str = ""
    ) -> bool:
        row = self._rows.get(session_id)
        if row is None or row.session.tenant_id != tenant_id or self._end_if_due(row, rules, now):
            return False
        self._finish(row, now, reason, by)
        return True

    async def sign_out(self, presented: Rotation, rules: Rules, now: int) -> bool:
        row = self._rows.get(presented.session_id)
        if row is None or row.session.tenant_id != presented.tenant_id or self._end_if_due(row, rules, now):
            return False
        stored, generation = row.session.generation, presented.generation
        current = generation == stored and presented.digest == row.current
        parent = generation < stored and presented.digest == row.parent
        good = current or parent or generation > stored
        self._finish(row, now, "signed_out" if good else "refresh_token_reused", "user")
        return True

    async def revoke_user(
        self, tenant_id: str, user_id: str, except_id: str | None, reason: Reason, rules: Rules, now: int, by: str = ""
    ) -> list[str]:
        living = [row for row in self._settled(tenant_id, user_id, rules, now) if row.session.id != except_id]
        for row in living:
            self._finish(row, now, reason, by)
        return [row.session.id for row in living]

    async def cut_off(self, tenant_id: str, now: int, by: str = "") -> int:
        newest = max((row.session.created_at for row in self._of(tenant_id) if not row.ended), default=now)
        return self._cut(tenant_id, max(now, newest), by)

    async def restore_cut_off(self, tenant_id: str, before: int) -> int:
        return self._cut(tenant_id, before, "")

    def _cut(self, tenant_id: str, before: int, by: str) -> int:
        if before > self._cutoffs.get(tenant_id, 0):
            self._cutoffs[tenant_id], self._cut_by[tenant_id] = before, by
        self.events.append(("tenant.revoked", None, "tenant_revoked"))
        return sum(not row.ended and row.session.created_at <= before for row in self._of(tenant_id))

    async def uncut(self, tenant_id: str, shard: int, now: int) -> bool:
        return True

    async def collect(self) -> list[Count]:
        counts, self._counts = self._counts, Counter()
        return [Count(*key, number) for key, number in counts.items()]

    async def recount(self) -> Recount:
        living: dict[str, Counter[int]] = defaultdict(Counter)
        for row in self._rows.values():
            if not row.ended:
                living[row.session.tenant_id][_kind(row.session)] += 1
        return Recount(dict(living), await self.collect())

    async def sample(self, tenant_id: str, most: int) -> Sample:
        rows = [row for row in self._of(tenant_id) if not row.ended]
        cutoff = self._cutoffs.get(tenant_id)
        seen = [Seen(row.session, self._above(row), cutoff) for row in rows]
        return Sample(len(rows), random.sample(seen, min(most, len(rows))))

    def _above(self, row: Row) -> int:
        """How many of the user's sessions were active later."""
        members = self._members(row.session.tenant_id, row.session.user_id)
        return len(members) - 1 - members.index(row)

    async def evict(self, tenant_id: str, user_id: str, rules: Rules, now: int) -> list[str]:
        if len(self._members(tenant_id, user_id)) <= rules.limit:
            return []
        living = self._settled(tenant_id, user_id, rules, now)
        victims = living[: max(0, len(living) - rules.limit)]
        for row in victims:
            self._finish(row, now, "evicted", f"worker {rules.limit}")
        return [row.session.id for row in victims]

    async def touch(self, touches: list[Touch], rules: dict[str, Rules], now: int) -> list[str]:
        alive: list[str] = []
        for touch in touches:
            row = self._rows.get(touch.session_id)
            if row is None or row.session.tenant_id != touch.tenant_id:
                continue
            if self._judged(row, rules[touch.tenant_id], now).end_reason is None:
                row.change(last_active_at=max(row.session.last_active_at, touch.seen))
                alive.append(touch.session_id)
        return alive

    async def update(
        self, tenant_id: str, session_id: str, changes: dict[str, Any], rules: Rules, now: int, by: str = ""
    ) -> Session | None:
        row = self._rows.get(session_id)
        if row is None or row.session.tenant_id != tenant_id:
            return None
        if self._end_if_due(row, rules, now):
            return row.session
        self.events.append(("session.updated", session_id, None))
        row.changed, row.changed_by = now, by
        return row.change(**changes)

    async def update_user(
        self, tenant_id: str, user_id: str, changes: dict[str, Any], rules: Rules, now: int, by: str = ""
    ) -> list[str]:
        living = self._settled(tenant_id, user_id, rules, now)
        for row in living:
            await self.update(tenant_id, row.session.id, changes, rules, now, by)
        return [row.session.id for row in living]

    async def due(self, now: int, limit: int) -> dict[str, int]:
        shards: dict[int, list[Row]] = defaultdict(list)
        for row in sorted(self._rows.values(), key=lambda row: row.due):
            if row.due <= now:
                shards[shard_in(row.session.id)].append(row)
        rows = [row for shard in sorted(shards) for row in shards[shard][:limit]]
        return {row.session.id: row.due for row in rows}

    async def owners(self, session_ids: list[str]) -> list[Due]:
        found = [self._rows[sid].session for sid in session_ids if sid in self._rows]
        return [Due(session.id, session.tenant_id, session.user_id) for session in found]

    async def sweep(self, due: list[Due], rules: dict[str, Rules], now: int) -> int:
        count = 0
        for item in due:
            row, of_tenant = self._rows.get(item.session_id), rules.get(item.tenant_id, Rules())
            if row is None:
                continue
            if row.ended:
                if row.due <= now:
                    del self._rows[item.session_id]
            elif self._end_if_due(row, of_tenant, now):
                count += 1
            else:
                row.due = deadline(row.session.expires_at, row.session.last_active_at, of_tenant)
        return count

    async def postpone(self, due: list[Due], at: int) -> None:
        for item in due:
            if item.session_id in self._rows:
                self._rows[item.session_id].due = at

    async def tenant_members(self, tenant_id: str, shard: int, after: str, limit: int) -> list[Due]:
        rows = [row for row in self._of(tenant_id) if not row.ended and shard_in(row.session.id) == shard]
        ids = sorted(row.session.id for row in rows if row.session.id > after)[:limit]
        return [Due(sid, tenant_id, self._rows[sid].session.user_id) for sid in ids]

    async def repair(self, rules_of: RulesOf, now: int) -> Counter[str]:
        return Counter()

    def _of(self, tenant_id: str) -> list[Row]:
        return [row for row in self._rows.values() if row.session.tenant_id == tenant_id]

    def _members(self, tenant_id: str, user_id: str) -> list[Row]:
        """Those not recorded as ended, the least recently active first."""
        rows = [row for row in self._of(tenant_id) if row.session.user_id == user_id and not row.ended]
        return sorted(rows, key=lambda row: (row.session.last_active_at, row.session.id))

    def _settled(self, tenant_id: str, user_id: str, rules: Rules, now: int) -> list[Row]:
        return [row for row in self._members(tenant_id, user_id) if not self._end_if_due(row, rules, now)]

    def _end_if_due(self, row: Row, rules: Rules, now: int) -> bool:
        if not row.ended:
            end = natural_end(row.session, rules, self._cutoffs.get(row.session.tenant_id), now)
            if end is not None:
                self._finish(row, *end)
        return row.ended

    def _count(self, session: Session, at: int, what: str) -> None:
        self._counts[session.tenant_id, at // MINUTE, what, _kind(session)] += 1

    def _finish(self, row: Row, at: int, reason: Reason, mark: str = "") -> None:
        row.mark = self._cut_by.get(row.session.tenant_id, "") if reason == "tenant_revoked" else mark
        self._count(row.session, at, reason)
        row.change(ended_at=at, end_reason=reason)
        row.due = at + self._retention
        kind = "session.expired" if reason == "expired" else "session.revoked"
        self.events.append((kind, row.session.id, reason))

    def _judged(self, row: Row, rules: Rules, now: int) -> Session:
        end = None if row.ended else natural_end(row.session, rules, self._cutoffs.get(row.session.tenant_id), now)
        return row.session if end is None else msgspec.structs.replace(row.session, ended_at=end[0], end_reason=end[1])

    def _page(
        self, rows: list[Row], statuses: frozenset[str], limit: int, before: str | None, rules: Rules, now: int
    ) -> Page:
        judged = [self._judged(row, rules, now) for row in rows if before is None or row.session.id < before]
        found = sorted((s for s in judged if s.status in statuses), key=lambda s: s.id, reverse=True)
        more = len(found) > limit
        return Page(found[:limit], more, found[limit - 1].id if more else None)


def _kind(session: Session) -> int:
    return kind_of(session.device_type, session.country)
