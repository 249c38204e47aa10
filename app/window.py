"""What the shared reader has read lately, in memory: those who come back find it here instead of asking Redis.

Complete for every millisecond after `floor`; bounded, so that the floor rises when much happens.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from operator import attrgetter
from typing import Final

import msgspec

from app.client.events import Event
from app.store.log import Position

_place: Final = attrgetter("position")
_END: Final = Position(1 << 53, 0, 0)


class Entry(msgspec.Struct):
    """An event in its place in the log. `frame` is what the door made of it, once for all who listen."""

    position: Position
    event: Event
    frame: bytes = b""


class Window:
    def __init__(self, most: int) -> None:
        self.most = most
        self.floor = 0
        self._count = 0
        self._tenants: dict[str, list[Entry]] = defaultdict(list)

    def begin(self, floor: int) -> None:
        """Forget everything; from the millisecond after `floor` on, nothing will be missing."""
        self.floor, self._count = floor, 0
        self._tenants.clear()

    def add(self, entry: Entry) -> bool:
        """Whether it is new. Entries come nearly in order."""
        if entry.position.ms <= self.floor:
            return True
        entries = self._tenants[entry.event.tenant_id]
        at = bisect_left(entries, entry.position, key=_place)
        if at < len(entries) and entries[at].position == entry.position:
            return False
        entries.insert(at, entry)
        self._count += 1
        if self._count > self.most:
            self._raise_floor()
        return True

    def reach_back(self, floor: int, older: list[Entry]) -> None:
        """Take in everything that lies between a lower floor and the present one."""
        for entry in older:
            insort(self._tenants[entry.event.tenant_id], entry, key=_place)
        self._count += len(older)
        self.floor = floor

    @property
    def room(self) -> int:
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
        """Drop the oldest quarter, whole milliseconds of it."""
        times = sorted(entry.position.ms for entries in self._tenants.values() for entry in entries)
        self.floor = times[len(times) // 4]
        for tenant_id, entries in list(self._tenants.items()):
            del entries[: bisect_right(entries, self.floor, key=lambda entry: entry.position.ms)]
            if not entries:
                del self._tenants[tenant_id]
        self._count = sum(map(len, self._tenants.values()))
