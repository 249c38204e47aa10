"""Sessions that have ended, exactly, in 29 to 40 bytes each; every entry goes when no token of it can pass `exp`.

Each of 256 tables is an open-addressed hash (linear probing) over three flat arrays: 16 bytes of session, 4 of time.
A session id ends in 70 bits of chance, so its lowest bits are the hash. A table is rebuilt alone, so no pause grows
with the whole.
"""

from __future__ import annotations

from array import array
from typing import Final

_TABLES: Final = 256
_LOW: Final = (1 << 64) - 1
_SMALLEST: Final = 8


class Denylist:
    """`limit` bounds the entries. When it is reached nothing is forgotten: `add` refuses, and says so."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tables = [_Table(_SMALLEST) for _ in range(_TABLES)]
        self._next = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, session: int) -> bool:
        table = self._tables[(session & _LOW) >> 56]
        return table.until[table.place(session)] > 0

    @property
    def nbytes(self) -> int:
        """What the arrays take."""
        return sum(table.nbytes for table in self._tables)

    def add(self, session: int, not_after: int, now_s: int) -> bool:
        """Remember a session until `not_after`; both times in epoch seconds. False if there is no room."""
        index = (session & _LOW) >> 56
        table = self._tables[index]
        place = table.place(session)
        if table.until[place]:
            table.until[place] = max(table.until[place], not_after)
            return True
        if not_after <= now_s:
            return True
        if self._count >= self._limit:
            return False
        if not table.has_room:
            table = self._rebuild(index, now_s)
        table.put(session, not_after)
        self._count += 1
        return True

    def sweep(self, now_s: int) -> None:
        """Look through the next four tables and free what has passed its time; each is met every 64 calls."""
        for _ in range(4):
            self._next = (self._next + 1) % _TABLES
            table = self._tables[self._next]
            if table.used and sum(until > now_s for until in table.until) < 0.75 * table.used:
                self._rebuild(self._next, now_s)

    def _rebuild(self, index: int, now_s: int) -> _Table:
        old = self._tables[index]
        alive = [place for place, until in enumerate(old.until) if until > now_s]
        new = self._tables[index] = _Table(max(_SMALLEST, 2 * len(alive)))
        for place in alive:
            new.put(old.high[place] << 64 | old.low[place], old.until[place])
        self._count += new.used - old.used
        return new


class _Table:
    """A place is free where `until` is 0. At most 7 in 10 are taken."""

    __slots__ = ("high", "low", "until", "used")

    def __init__(self, size: int) -> None:
        self.low = array("Q", bytes(8 * size))
        self.high = array("Q", bytes(8 * size))
        self.until = array("I", bytes(4 * size))
        self.used = 0

    @property
    def has_room(self) -> bool:
        return 10 * (self.used + 1) <= 7 * len(self.until)

    @property
    def nbytes(self) -> int:
        return sum(part.itemsize * len(part) for part in (self.low, self.high, self.until))

    def place(self, session: int) -> int:
        """Where the session is, or the free place where it would be."""
        low, high = session & _LOW, session >> 64
        lows, until = self.low, self.until
        size = len(until)
        place = low % size
        while until[place] and (lows[place] != low or self.high[place] != high):
            place += 1
            if place == size:
                place = 0
        return place

    def put(self, session: int, until: int) -> None:
        place = self.place(session)
        self.low[place], self.high[place], self.until[place] = session & _LOW, session >> 64, until
        self.used += 1
