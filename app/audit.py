"""Who did what: changes that the operator or a tenant's backend made, in a log that shows if it was tampered with.

Each entry carries a MAC over itself and the MAC before it, so that none can be changed, left out or put in between by
whoever can write in Redis. What cannot be seen is that the newest are missing: keep a copy elsewhere, by the API.
"""

from __future__ import annotations

import hmac
from itertools import pairwise
from typing import Any, Final, Literal

import msgspec

from app.cursors import Cursors
from app.errors import Conflict
from app.store.audit import AuditLog, Kept

Action = Literal[
    "api_key.created",
    "api_key.revoked",
    "api_key.rotated",
    "config.changed",
    "dashboard.signed_in",
    "dashboard.signed_out",
    "session.revoked",
    "session.updated",
    "sessions.revoked",
    "sessions.updated",
    "signing_key.removed",
    "signing_key.rotated",
    "tenant.created",
    "tenant.deleted",
    "tenant.renamed",
]
"""All that goes on record. Each has its words in `app/dashboard/assets/audit.js`."""

OPERATOR: Final = "operator"
"""The log of what concerns no one tenant."""
_ATTEMPTS: Final = 50
_LOOKED_AT: Final = 1_000


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """`actor`: `admin`, the id of an API key, or `oidc:` and a subject. `before` and `after`: what was changed, never a
    secret."""

    at: int
    actor: str
    action: str
    target: str
    request_id: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class Found(msgspec.Struct, frozen=True):
    """Entries newest first, each with its id. `intact`: every one is as it was written, and none between is missing."""

    entries: list[tuple[str, Entry]]
    intact: bool
    more: bool
    next_cursor: str | None


class Audit:
    """`keys`: entries are sealed with the first and checked with any."""

    def __init__(self, log: AuditLog, cursors: Cursors, *keys: bytes) -> None:
        self._log = log
        self._cursors = cursors
        self._keys = keys

    async def record(self, name: str, entry: Entry) -> None:
        """Append to a tenant's log, or to the operator's. Raises `Conflict` where too many do at once."""
        for _ in range(_ATTEMPTS):
            last = await self._log.page(name, None, 1)
            after, mac = (last[0].id, last[0].mac) if last else ("", b"")
            raw = msgspec.json.encode(entry)
            if await self._log.append(name, after, raw, _mac(self._keys[0], name, mac, raw)):
                return
        raise Conflict

    async def page(self, name: str, limit: int, cursor: str | None, action: str | None, actor: str | None) -> Found:
        """A page of those that match, of the thousand entries before the cursor at the most."""
        terms = (name, "audit", action, actor)
        before = None if cursor is None else self._cursors.open(cursor, *terms)
        kept = await self._log.page(name, before, _LOOKED_AT + 1)
        found: list[tuple[str, Entry]] = []
        seen = kept[:_LOOKED_AT]
        for number, one in enumerate(seen):
            entry = msgspec.json.decode(one.entry, type=Entry)
            if (action is None or entry.action == action) and (actor is None or entry.actor == actor):
                found.append((one.id, entry))
                if len(found) == limit:
                    seen = seen[: number + 1]
                    break
        more = len(kept) > len(seen)
        following = self._cursors.seal(seen[-1].id, *terms) if more else None
        return Found(found, self._intact(name, kept[: len(seen) + 1]), more, following)

    def _intact(self, name: str, kept: list[Kept]) -> bool:
        """Each entry with the MAC of the one before it; the oldest of them has none to be checked with."""
        return all(
            any([hmac.compare_digest(one.mac, _mac(key, name, before.mac, one.entry)) for key in self._keys])
            for one, before in pairwise(kept)
        )


def _mac(key: bytes, name: str, before: bytes, entry: bytes) -> bytes:
    return hmac.digest(key, name.encode() + b"\0" + before.rjust(32, b"\0") + entry, "sha256")
