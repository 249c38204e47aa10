"""The use cases of the worker: record what time has ended, carry policies out, collect statistics, mend and restore.

Each is idempotent, bounded and safe to run twice at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final, cast

from app.client.events import Event
from app.errors import Unreadable
from app.model import DAY, HOUR, MINUTE, SECOND, SHARDS, Reason, Rules
from app.pace import Pace
from app.store.base import Due, Registry, SessionStore
from app.store.statistics import EVERYONE, Statistics
from app.tenants import Tenants

_DUE_PER_SHARD: Final = 10
_STRIDE: Final = 100
_SHARDS_AT_ONCE: Final = 4
_MEMBERS: Final = 100
_log: Final = logging.getLogger(__name__)


class Upkeep:
    def __init__(self, store: SessionStore, registry: Registry, tenants: Tenants, statistics: Statistics) -> None:
        self._store = store
        self._registry = registry
        self._tenants = tenants
        self._statistics = statistics
        self._sweeping, self._walking = Pace(), Pace()

    async def beat(self, now: int) -> None:
        """A worker is alive."""
        await self._statistics.note_worker(seen_at=now)

    async def sweep(self, now: int) -> int:
        """One bounded pass over everything whose time has come; how many sessions had their turn: were ended, buried or
        given another. A backlog of any size makes way for others."""
        since = await self._store.due(now, _DUE_PER_SHARD)
        await self._statistics.note_worker(swept_at=now, lag=now - min(since.values(), default=now))
        sids = [*since]
        for first in range(0, len(sids), _STRIDE):
            stride = sids[first : first + _STRIDE]
            async with self._sweeping.stretch(len(stride)):
                due, rules = await self._governed(await self._store.owners(stride), now)
                await self._store.sweep(due, rules, now)
        return len(sids)

    async def apply_policies(self, clock: Callable[[], int]) -> int:
        """Walk the tenants whose policy changed, that were cut off or deleted: end, evict and re-score what that
        concerns; bury the deleted ones that have nothing left. Returns how many tenants were done. It takes minutes
        where there are millions of sessions, so `clock` and policy are looked at again as it goes."""
        pending = await self._registry.pending(clock())
        for tenant_id, marks in pending.items():
            try:
                again = await self._apply(tenant_id, clock)
            except Unreadable as error:
                _log.error("tenant %s cannot be walked (%s); it is tried again in an hour", tenant_id, error)
                again = HOUR
            if again:
                await self._registry.mark_pending(tenant_id, clock() + again)
            await self._registry.clear_pending(marks)
        return len(pending)

    async def collect(self, now: int) -> bool:
        """Bring what the shards have counted to the statistics; False if another does so now."""
        async with self._statistics.alone() as alone:
            if alone:
                await self._statistics.add(await self._store.collect(), now)
                await self._statistics.note_worker(collected_at=now)
            return alone

    async def recount(self, now: int) -> int | None:
        """Count the living anew, so that what a killed worker or a mended fault has cost the statistics is made good.
        By how many sessions they were wrong; `None` if another counts now."""
        async with self._statistics.alone() as alone:
            if not alone:
                return None
            found = await self._store.recount()
            await self._statistics.add(found.taken, now)
            wrong, everyone = 0, Counter[int]()
            for name in {*found.living, *[tenant.id async for tenant in self._registry.tenants()]}:
                before, after = await self._counted(name), found.living.get(name, Counter())
                wrong += sum(abs(after[kind] - before[kind]) for kind in {*after, *before})
                await self._statistics.put_living(name, after)
                everyone += after
            await self._statistics.put_living(EVERYONE, everyone)
            await self._statistics.note_worker(collected_at=now)
        await self._registry.add_repaired(Counter({"a wrong count": wrong} if wrong else {}))
        return wrong

    async def repair(self, now: int) -> Counter[str]:
        """Mend what the invariants do not allow; what was found, by name."""
        damages = await self._store.repair(lambda tenant_id: self._tenants.rules(tenant_id, now), now)
        await self._registry.add_repaired(damages)
        return damages

    async def restore(self, events: list[Event], now: int) -> list[Event]:
        """Carry out again what the store has lost after it had announced it: an end is final. Changes of claims are
        not restored; those who verify locally have them. Returns those that meet damage, to be tried again."""
        left: list[Event] = []
        for event in events:
            try:
                await self._restore(event, now)
            except Unreadable as error:
                _log.error("the end in event %s cannot be restored yet (%s)", event.id, error)
                left.append(event)
        return left

    async def _restore(self, event: Event, now: int) -> None:
        try:
            rules = await self._tenants.rules(event.tenant_id, now) or Rules()
        except Unreadable:
            rules = Rules(token_ttl=DAY)  # the longest there is
        if event.before is not None:
            await self._store.restore_cut_off(event.tenant_id, event.before)
        elif event.reason is not None and event.session_id is not None:
            reason = cast(Reason, event.reason)
            await self._store.revoke(event.tenant_id, event.session_id, reason, rules, now)

    async def _apply(self, tenant_id: str, clock: Callable[[], int]) -> int:
        """Walk one tenant; in how many milliseconds it must be walked again, or 0."""
        deleted = await self._tenants.rules(tenant_id, clock()) is None
        if deleted and await self._any_of(tenant_id):
            try:
                await self._store.cut_off(tenant_id, clock(), "worker")
            except Unreadable as error:
                _log.error("tenant %s is not cut off everywhere (%s)", tenant_id, error)
        if again := await self._walk(tenant_id, clock):
            return again
        if deleted and await self._any_of(tenant_id, tombstones=True):
            return HOUR
        if deleted:
            await self._tenants.bury(tenant_id)
        return 0

    async def _any_of(self, tenant_id: str, tombstones: bool = False) -> bool:
        """Whether sessions are left, or may be: not all of the indexes can be read."""
        try:
            return await self._store.count_tenant(tenant_id, tombstones) > 0
        except Unreadable:
            return True

    async def _walk(self, tenant_id: str, clock: Callable[[], int]) -> int:
        """Settle all of a tenant's sessions; in how many milliseconds that must be done again: 0 if no cut-off is left
        to remember."""
        again = 0
        for first in range(0, SHARDS, _SHARDS_AT_ONCE):
            shards = range(first, first + _SHARDS_AT_ONCE)
            again = max(again, *await asyncio.gather(*(self._walked(tenant_id, shard, clock) for shard in shards)))
        return again

    async def _walked(self, tenant_id: str, shard: int, clock: Callable[[], int]) -> int:
        """The same of one shard."""
        try:
            return 0 if await self._walk_shard(tenant_id, shard, clock) else MINUTE + SECOND
        except Unreadable as error:
            _log.error("shard %d of tenant %s was not walked to its end (%s)", shard, tenant_id, error)
            return HOUR

    async def _walk_shard(self, tenant_id: str, shard: int, clock: Callable[[], int]) -> bool:
        """True if no cut-off is left to remember in it."""
        after = ""
        while members := await self._store.tenant_members(tenant_id, shard, after, _MEMBERS):
            async with self._walking.stretch(len(members)):
                rules = await self._tenants.rules(tenant_id, now := clock())
                await self._store.sweep(members, {} if rules is None else {tenant_id: rules}, now)
                for user_id in {member.user_id for member in members}:
                    if rules := await self._tenants.rules(tenant_id, now := clock()):
                        await self._store.evict(tenant_id, user_id, rules, now)
            after = members[-1].session_id
        return await self._store.uncut(tenant_id, shard, clock())

    async def _counted(self, name: str) -> Counter[int]:
        """Nothing, where what was counted cannot be read."""
        try:
            return await self._statistics.living(name)
        except Unreadable:
            return Counter()

    async def _governed(self, due: list[Due], now: int) -> tuple[list[Due], dict[str, Rules]]:
        """Those whose tenant can be read, and the rules of every tenant concerned; deleted tenants have none. The
        others come again in a minute: no rules would be the wrong ones."""
        found: dict[str, Rules] = {}
        unreadable = set[str]()
        for tenant_id in {item.tenant_id for item in due}:
            try:
                rules = await self._tenants.rules(tenant_id, now)
            except Unreadable as error:
                _log.error("sessions of tenant %s cannot be settled (%s)", tenant_id, error)
                unreadable.add(tenant_id)
                continue
            if rules is not None:
                found[tenant_id] = rules
        await self._store.postpone([item for item in due if item.tenant_id in unreadable], now + MINUTE)
        return [item for item in due if item.tenant_id not in unreadable], found
