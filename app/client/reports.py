"""Activity: sessions seen here are reported in batches, or the service would end them as idle."""

from __future__ import annotations

import asyncio
from typing import Final

import httpx
import msgspec

from .breaker import Breaker
from .errors import ServiceUnavailable

PATH: Final = "/v1/sessions/activity"

_BATCH: Final = 500
_MOST: Final = 50_000


class _Accepted(msgspec.Struct):
    """Response of the service to a report."""

    accepted: int


_accepted: Final = msgspec.json.Decoder(_Accepted).decode


class Reports:
    """Each session at most once in an interval, and of more than 50,000 only so many. What cannot be reported is tried
    once more and then dropped: it only moves a time, and the session's next use moves it again."""

    def __init__(self, http: httpx.AsyncClient, every: float | None, breaker: Breaker | None = None) -> None:
        self._http = http
        self._breaker = breaker or Breaker()
        self._every = every
        self._most = 0 if every is None else _MOST
        self._seen: set[str] = set()
        self._late: set[str] = set()

    def note(self, session_id: str) -> None:
        """A session was seen. For any thread."""
        if len(self._seen) < self._most:
            self._seen.add(session_id)

    async def run(self) -> None:
        """Report at the end of each interval, for ever."""
        while True:
            await asyncio.sleep(self._every or 60.0)
            await self.send()

    async def send(self) -> None:
        """Report what has been seen until now."""
        fresh, self._seen = self._seen, set()
        waiting, self._late = list(fresh | self._late), set()
        for first in range(0, len(waiting), _BATCH):
            batch = waiting[first : first + _BATCH]
            if not await self._send(batch):
                self._late |= fresh.intersection(batch)

    async def _send(self, batch: list[str]) -> bool:
        try:
            response = await self._breaker.run(lambda: self._http.post(PATH, json={"session_ids": batch}))
            if response.status_code == 200:
                _accepted(response.content)
                self._breaker.answered()
                return True
            reason = f"it answers {response.status_code} to a report of activity"
        except ServiceUnavailable:
            return False
        except (msgspec.DecodeError, RecursionError):
            reason = "its response to a report of activity has an unknown form"
        self._breaker.outage.failed(reason)
        return False
