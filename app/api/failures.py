"""Bad credentials, counted by where they come from and by the API key they name.

Looked at only when a credential has been refused, so a good one is never slowed down and its holder never locked out,
whoever else is guessing beside it. What lies behind a key id is not asked: an id that never was is counted too. What
this deployment has made itself is no guess, whatever has become of it; nor is anything that a good key was sent with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from starlette.types import Scope

from app.api.forwarded import source
from app.errors import InvalidApiKey, InvalidToken, Problem, RefreshTokenInvalid, TooManyFailures
from app.settings import Network

_COUNTED: Final = (InvalidApiKey, InvalidToken, RefreshTokenInvalid)
_KEY_ID: Final = re.compile(rb"bearer +sk_(?:live|test)_([0-9A-Z]{16})_", re.IGNORECASE)
_MINUTE: Final = 60_000
_REMEMBERED: Final = 10_000


class Failures:
    """`per_minute` for one source, a fifth of it for one key id; 0: no limit. `proxies`: whose word is taken for where
    a request comes from."""

    def __init__(self, per_minute: int = 0, proxies: Sequence[Network] = ()) -> None:
        self._limits = {"source": per_minute, "key": max(1, per_minute // 5)} if per_minute else {}
        self._proxies = proxies
        self._free_at: dict[str, float] = {}

    def judge(self, problem: Problem, scope: Scope, headers: dict[bytes, bytes], now: int) -> Problem:
        """The refusal itself, or `TooManyFailures` in its place. `now` in milliseconds."""
        if not self._limits or problem.genuine or not isinstance(problem, _COUNTED):
            return problem
        waits = [self._spend("source", source(scope, headers, self._proxies), now)]
        if named := _KEY_ID.match(headers.get(b"authorization", b"")):
            waits.append(self._spend("key", named[1].decode(), now))
        return TooManyFailures(-(-max(waits) // 1_000)) if max(waits) else problem

    def _spend(self, kind: str, name: str, now: int) -> int:
        """Milliseconds until this is allowed again; 0: it was (the generic cell rate algorithm, ITU-T I.371)."""
        step, key = _MINUTE / self._limits[kind], f"{kind} {name}"
        free_at = max(self._free_at.pop(key, 0), now)
        wait = free_at + step - now - _MINUTE
        if len(self._free_at) >= _REMEMBERED:
            del self._free_at[next(iter(self._free_at))]
        self._free_at[key] = free_at if wait > 0 else free_at + step
        return max(0, round(wait))
