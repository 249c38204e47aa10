"""The store's contract in plain dicts: the executable specification that Redis is held against. Test code only."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import msgspec

from app.errors import IdempotencyKeyReused, SessionEnded, SessionLimitReached
from app.model import DAY, Reason, Rules, Session, deadline, natural_end, new_session_id, shard_in
from app.store.base import Count, Created, Due, Once, Page, Rotated, Rotation, RulesOf, Touch


class Row:
    """A session that has not been buried, with its refresh chain and the time to look at it next."""

    def __init__(self, session: Session, digest: bytes, due: int) -> None:
        self.session, self.due = session, due
        self.current, self.parent = digest, b""
        self.branch, self.rotated = b"", 0

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
        self._once: dict[tuple[str, str, str], tuple[str, Created, int]] = {}
        self.events: list[tuple[str, str | None, str | None]] = []

    async def create(
        self, session: Session, digest: bytes, rules: Rules, now: int, once: Once | None = None
    ) -> Created:
        name = (session.tenant_id, session.user_id, once.key if once else "")
        if once is not None and name in self._once and now < self._once[name][2] + DAY:
            fingerprint, made, _ = self._once[name]
            if fingerprint != once.fingerprint:
                raise IdempotencyKeyReused
            found = await self.get(session.tenant_id, made.session.id, rules, now)
            if found is None:
                raise SessionEnded
            return Created(session=found, evicted=made.evicted)
        created = self._create(session, digest, rules, now)
        if once is not None:
            self._once[name] = (once.fingerprint, created, now)
        return created

    def _create(self, session: Session, digest: bytes, rules: Rules, now: int) -> Created:
        cutoff = self._cutoffs.get(session.tenant_id, -1)
        if session.created_at <= cutoff:
            sid = new_session_id(session.tenant_id, session.user_id, cutoff + 1)
            session = msgspec.structs.replace(session, id=sid)
        if session.id in self._rows:
            return Created(session=session)
        living = self._members(session.tenant_id, session.user_id)
        if len(living) >= rules.limit:
            living = self._settled(session.tenant_id, session.user_id, rules, now)
        over = max(0, len(living) + 1 - rules.limit)
        if over and rules.reject:
            raise SessionLimitReached
        for row in living[:over]:
            self._finish(row, now, "evicted")
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
        return self._judged(row, rules, now)

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
        if presented == stored - 1 and rotation.digest == row.parent and now - row.rotated < rules.grace:
            return Rotated(outcome="replayed", session=row.change(last_active_at=seen), branch=row.branch)
        direct = presented == stored and rotation.digest == row.current
        retry = presented == stored - 1 and rotation.digest == row.parent
        if not (direct or retry or presented > stored):
            self._finish(row, now, "refresh_token_reused")
            return Rotated(outcome="reused", session=row.session)
        row.current, row.parent = rotation.successor, rotation.digest
        row.branch, row.rotated = rotation.branch, now
        session = row.change(last_active_at=seen, generation=presented + 1)
        return Rotated(outcome="rotated" if direct or retry else "ahead", session=session, branch=rotation.branch)

    async def revoke(self, tenant_id: str, session_id: str, reason: Reason, rules: Rules, now: int) -> bool:
        row = self._rows.get(session_id)
        if row is None or row.session.tenant_id != tenant_id or self._end_if_due(row, rules, now):
            return False
        self._finish(row, now, reason)
        return True

    async def revoke_user(
        self, tenant_id: str, user_id: str, except_id: str | None, reason: Reason, rules: Rules, now: int
    ) -> list[str]:
        living = [row for row in self._settled(tenant_id, user_id, rules, now) if row.session.id != except_id]
        for row in living:
            self._finish(row, now, reason)
        return [row.session.id for row in living]

    async def cut_off(self, tenant_id: str, now: int) -> int:
        self._cutoffs[tenant_id] = max(now, self._cutoffs.get(tenant_id, 0))
        self.events.append(("tenant.revoked", None, "tenant_revoked"))
        return sum(not row.ended and row.session.created_at <= now for row in self._of(tenant_id))

    async def uncut(self, tenant_id: str, shard: int, now: int) -> bool:
        return True

    async def collect(self) -> list[Count]:
        return []

    async def evict(self, tenant_id: str, user_id: str, rules: Rules, now: int) -> list[str]:
        if len(self._members(tenant_id, user_id)) <= rules.limit:
            return []
        living = self._settled(tenant_id, user_id, rules, now)
        victims = living[: max(0, len(living) - rules.limit)]
        for row in victims:
            self._finish(row, now, "evicted")
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
        self, tenant_id: str, session_id: str, changes: dict[str, Any], rules: Rules, now: int
    ) -> Session | None:
        row = self._rows.get(session_id)
        if row is None or row.session.tenant_id != tenant_id:
            return None
        if self._end_if_due(row, rules, now):
            return row.session
        self.events.append(("session.updated", session_id, None))
        return row.change(**changes)

    async def update_user(
        self, tenant_id: str, user_id: str, changes: dict[str, Any], rules: Rules, now: int
    ) -> list[str]:
        living = self._settled(tenant_id, user_id, rules, now)
        for row in living:
            await self.update(tenant_id, row.session.id, changes, rules, now)
        return [row.session.id for row in living]

    async def due(self, now: int, limit: int) -> list[Due]:
        shards: dict[int, list[Row]] = defaultdict(list)
        for row in sorted(self._rows.values(), key=lambda row: row.due):
            if row.due <= now:
                shards[shard_in(row.session.id)].append(row)
        rows = [row for shard in sorted(shards) for row in shards[shard][:limit]]
        return [Due(row.session.id, row.session.tenant_id, row.session.user_id) for row in rows]

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

    def _finish(self, row: Row, at: int, reason: Reason) -> None:
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
