"""One request that came by the dashboard's door: whom the cookie stands for, and what that person has to do first."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from app.api.auth import Caller
from app.errors import FreshSignInRequired
from app.operators import Operator

if TYPE_CHECKING:
    from app.runtime import Runtime

COOKIE: Final = "__Host-hellojohn"
_VALUES: Final = re.compile(rb"(?:^|;)[ \t]*" + COOKIE.encode() + rb"=([^;\s]*)")


class Visit:
    """`now`: when the request came, in milliseconds. One that says it is in the background (a page that polls, while
    nobody does anything) does not keep a session from ending idle."""

    def __init__(self, headers: dict[bytes, bytes], running: Callable[[], Runtime], now: int) -> None:
        self._headers = headers
        self._running = running
        self._now = now
        self._used = b"x-background" in headers

    async def operator(self, now: int | None = None) -> Operator:
        """Raises `MissingToken`."""
        use, self._used = not self._used, True
        return await self._running().operators.find(token(self._headers), now or self._now, use)

    async def holder(self, now: int) -> Caller:
        """The caller of an operation. Raises `MissingToken`."""
        self._found = await self.operator(now)
        return caller_of(self._found)

    def step_up(self) -> None:
        """Raises `FreshSignInRequired` unless the credential was shown a moment ago."""
        if self._now >= self._found.fresh_until:
            raise FreshSignInRequired


def token(headers: dict[bytes, bytes]) -> str | None:
    """What the cookie says; nothing where there are two of it (RFC 6265bis gives no order to rely on)."""
    values = _VALUES.findall(headers.get(b"cookie", b""))
    return values[0].decode("latin-1") if len(values) == 1 else None


def caller_of(operator: Operator) -> Caller:
    if operator.key is not None:
        return Caller("key", operator.tenant, key=operator.key)
    return Caller("admin", subject=operator.identity.id if operator.identity.credential == "oidc" else None)
