"""What a verifier knows: sessions that ended, the tenant's cut-off, changed claims, and tokens it has verified."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from .claims import changed
from .denylist import Denylist
from .errors import InvalidToken, SessionRevoked
from .events import Event
from .shards import created_ms, session_number

_SWEEP_S: Final = 60
_APART_S: Final = 5
"""How far clocks of the service's processes may lie apart: a token that seems newer than a change may not know it."""

SKEW_S: Final = 60
"""What is known is kept so long past its time, for a wall clock here that runs ahead of the service's."""


class Claims(Mapping[str, Any]):
    """What a token says, with later changes applied. Read only: it is shared by all who show the same token."""

    __slots__ = ("_said",)

    def __init__(self, said: dict[str, Any]) -> None:
        self._said = said

    def __getitem__(self, name: str) -> Any:
        return self._said[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._said)

    def __len__(self) -> int:
        return len(self._said)

    def __repr__(self) -> str:
        return f"Claims({self._said!r})"

    @property
    def user_id(self) -> str:
        return str(self._said["sub"])

    @property
    def sub(self) -> str:
        """Same as `user_id`."""
        return self.user_id

    @property
    def session_id(self) -> str:
        return str(self._said["session_id"])

    @property
    def tenant_id(self) -> str:
        return str(self._said["tenant_id"])

    @property
    def org_id(self) -> str | None:
        return self._said.get("org_id")

    @property
    def role(self) -> str | None:
        return self._said.get("role")

    @property
    def mfa_verified(self) -> bool:
        return bool(self._said.get("mfa_verified"))

    @property
    def expires_at(self) -> int:
        """Epoch seconds."""
        return int(self._said["exp"])


class Hit(NamedTuple):
    """A token that was verified before: good until `expires_at` unless it is forgotten first."""

    claims: Claims
    expires_at: int
    session_id: str
    session: int


class Update(NamedTuple):
    """What a session's tokens issued up to `at_ms` should say; `order` is its place in the log."""

    order: tuple[int, int]
    at_ms: int
    not_after: int
    event: Event


class Memory:
    """Bounded throughout. Verified tokens give way to newer ones; what is known of sessions is never let go."""

    def __init__(self, max_revocations: int, max_updates: int, max_tokens: int) -> None:
        self.revoked = Denylist(max_revocations)
        self.hits: OrderedDict[str, Hit] = OrderedDict()
        self.overflowed = False
        self._before = -1
        self._updates: dict[int, Update] = {}
        self._max_updates = max_updates
        self._max_revocations = max_revocations
        self._max_tokens = max_tokens
        self._tokens: dict[int, tuple[str, ...]] = {}
        self._next_sweep_s = 0

    def apply(self, event: Event, now_s: int) -> None:
        """Take an event in; a second time does no harm. Raises `ValueError` for what is not of the contract."""
        now_s -= SKEW_S
        match event.type:
            case "tenant.revoked":
                self._before = max(self._before, event.before or 0)
                self.forget_tokens()
            case "session.updated":
                self._update(self._forget(event), event, now_s)
            case "session.revoked" | "session.expired":
                session = self._forget(event)
                self._updates.pop(session, None)
                self.overflowed |= not self.revoked.add(session, event.not_after, now_s)

    def admit(self, token: str, said: dict[str, Any]) -> Claims:
        """The claims of a genuine token as they are now; it need not be verified again. Raises `SessionRevoked`,
        `InvalidToken`."""
        try:
            session = session_number(said["session_id"])
        except ValueError:
            raise InvalidToken from None
        if session in self.revoked or created_ms(session) <= self._before:
            raise SessionRevoked
        update = self._updates.get(session)
        if update is not None and (said["iat"] - _APART_S) * 1_000 <= update.at_ms:
            event = update.event
            said = changed(said, event.claims, event.org_id, event.role, event.mfa_verified)
        claims = Claims(said)
        self._keep(token, Hit(claims, said["exp"], said["session_id"], session))
        return claims

    def forget_tokens(self) -> None:
        self.hits.clear()
        self._tokens.clear()

    def sweep(self, now_s: int) -> bool:
        """Free a part of what is past its time. True once there is room again after there was none."""
        now_s -= SKEW_S
        self.revoked.sweep(now_s)
        if now_s >= self._next_sweep_s:
            self._next_sweep_s = now_s + _SWEEP_S
            self._updates = {session: known for session, known in self._updates.items() if known.not_after > now_s}
        room = 10 * len(self.revoked) <= 9 * self._max_revocations and len(self._updates) < self._max_updates
        if self.overflowed and room:
            self.overflowed = False
            return True
        return False

    def _update(self, session: int, event: Event, now_s: int) -> None:
        _, ms, sequence = event.id.split("-")
        order = int(ms), int(sequence)
        known = self._updates.get(session)
        if event.not_after <= now_s or session in self.revoked or (known is not None and known.order >= order):
            return
        if known is None and len(self._updates) >= self._max_updates:
            self.overflowed = True
            return
        at_ms = round(datetime.fromisoformat(event.occurred_at).timestamp() * 1_000)
        self._updates[session] = Update(order, at_ms, event.not_after, event)

    def _forget(self, event: Event) -> int:
        """The session that the event is about, whose tokens are no longer known."""
        session = session_number(event.session_id or "")
        for token in self._tokens.pop(session, ()):
            self.hits.pop(token, None)
        return session

    def _keep(self, token: str, hit: Hit) -> None:
        if self._max_tokens < 1 or token in self.hits:
            return
        if len(self.hits) >= self._max_tokens:
            self._drop(*self.hits.popitem(last=False))
        self.hits[token] = hit
        self._tokens[hit.session] = (*self._tokens.get(hit.session, ()), token)

    def _drop(self, token: str, hit: Hit) -> None:
        rest = tuple(other for other in self._tokens[hit.session] if other is not token)
        if rest:
            self._tokens[hit.session] = rest
        else:
            del self._tokens[hit.session]
