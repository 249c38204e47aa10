"""What the shared reader has read lately, in memory: those who come back find it here instead of asking Redis.

Complete for every millisecond after `floor`; bounded, so that the floor rises when much happens. For a tenant who asks
it reaches further back.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from operator import attrgetter
from typing import Final

from app.store.log import Entry, Position

_place: Final = attrgetter("position")
_END: Final = Position(1 << 53, 0, 0)


class Window:
    """`most`: how many entries of all tenants are kept as they come, and how many older ones that tenants asked for."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.floor = 0
        self._count = self._older = 0
        self._tenants: dict[str, list[Entry]] = defaultdict(list)
        self._floors: dict[str, int] = {}

    def begin(self, floor: int) -> None:
        """Forget everything; from the millisecond after `floor` on, nothing will be missing."""
        self.floor, self._count, self._older = floor, 0, 0
        self._tenants.clear()
        self._floors.clear()

    def add(self, entry: Entry) -> bool:
        """Whether it is new. Entries come nearly in order."""
        if entry.position.ms <= self.floor_of(entry.tenant_id):
            return True
        entries = self._tenants[entry.tenant_id]
        at = bisect_left(entries, entry.position, key=_place)
        if at < len(entries) and entries[at].position == entry.position:
            return False
        entries.insert(at, entry)
        self._count += 1
        if self._count > self.most:
            self._raise_floor()
        return True

    def floor_of(self, tenant_id: str) -> int:
        """The tenant's own floor, which lies below that of all if older entries were read for it."""
        return self._floors.get(tenant_id, self.floor)

    def reach_back(self, floor: int, older: list[Entry]) -> None:
        """Take in everything of all tenants that lies between a lower floor and the present one."""
        for entry in older:
            if entry.position.ms <= self.floor_of(entry.tenant_id):
                insort(self._tenants[entry.tenant_id], entry, key=_place)
                self._count += 1
        self._floors = {tenant_id: own for tenant_id, own in self._floors.items() if own < floor}
        self.floor = floor

    def reach_back_for(self, tenant_id: str, floor: int, older: list[Entry]) -> None:
        """Take in all of one tenant's entries, in order, between a lower floor and its present one. Where they do not
        fit in, what was taken in so before is dropped."""
        if self._older + len(older) > self.most:
            begun = tenant_id in self._floors
            self._drop(self.floor)
            if begun:
                return
        self._tenants[tenant_id][:0] = older
        self._older += len(older)
        self._floors[tenant_id] = floor

    @property
    def room(self) -> int:
        """How many more entries of all tenants fit in."""
        return self.most - self._count

    def after(self, tenant_id: str, position: Position, until: Position = _END, most: int | None = None) -> list[Entry]:
        """A tenant's entries behind a position that is not below the floor, oldest first, up to `most`."""
        entries = self._tenants.get(tenant_id, [])
        first, last = (bisect_right(entries, place, key=_place) for place in (position, until))
        return entries[first : last if most is None else min(last, first + most)]

    def of_shard(self, shard: int, since: int) -> list[Entry]:
        """One shard's entries from a millisecond on, of all tenants, oldest first. Looks at everything."""
        found = (entry for entries in self._tenants.values() for entry in entries if entry.position.shard == shard)
        return sorted((entry for entry in found if entry.position.ms >= since), key=_place)

    def _raise_floor(self) -> None:
        """Drop the oldest quarter, whole milliseconds of it, and all that is older."""
        times = (entry.position.ms for entries in self._tenants.values() for entry in entries)
        kept = sorted(ms for ms in times if ms > self.floor)
        self._drop(kept[len(kept) // 4])

    def _drop(self, floor: int) -> None:
        """Drop everything up to a floor."""
        self.floor, self._older = floor, 0
        self._floors.clear()
        for tenant_id, entries in list(self._tenants.items()):
            del entries[: bisect_right(entries, floor, key=lambda entry: entry.position.ms)]
            if not entries:
                del self._tenants[tenant_id]
        self._count = sum(map(len, self._tenants.values()))
