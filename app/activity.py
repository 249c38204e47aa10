"""Activity, written behind the answer: sessions seen in use are collected for a moment and stamped in one batch.

A stamp that Redis refuses is dropped: it only moves `last_active_at`, and the session's next use tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.errors import StoreUnavailable
from app.model import Rules, Session
from app.store.base import SessionStore, Touch

_WAIT_S = 0.02
_MOST = 20_000


class Activity:
    def __init__(self, store: SessionStore, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._seen: dict[str, Touch] = {}
        self._rules: dict[str, Rules] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writes: set[asyncio.Task[None]] = set()

    def note(self, session: Session, rules: Rules, now: int) -> None:
        """The session was used at `now`; written soon, and only if its last stamp is a step old."""
        if now - session.last_active_at < rules.step(session) or len(self._seen) >= _MOST:
            return
        self._seen[session.id] = Touch(session.id, session.tenant_id, session.user_id, now)
        self._rules[session.tenant_id] = rules
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WAIT_S, self._begin)

    async def flush(self) -> None:
        """Write what is waiting now, and return once it is written."""
        if self._timer is not None:
            self._timer.cancel()
            self._begin()
        await asyncio.gather(*self._writes)

    def _begin(self) -> None:
        self._timer = None
        writing = asyncio.create_task(self._write())
        self._writes.add(writing)
        writing.add_done_callback(self._writes.discard)

    async def _write(self) -> None:
        seen, rules = self._seen, self._rules
        self._seen, self._rules = {}, {}
        try:
            await self._store.touch(list(seen.values()), rules, self._clock())
        except StoreUnavailable:
            return
