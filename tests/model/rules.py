"""The model: what a caller of the service may expect, in plain Python and without a store. Milliseconds.

It knows no scripts, indexes or caches. `reasons` is a set because a session that is dead for two causes at once, and
not yet recorded, may be recorded under either.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000
MOST = 10_000
AT_LIMIT_STEP = 100


@dataclass
class Held:
    """One session as its owner knows it: refresh tokens by age, access tokens each with its `exp`."""

    sid: str
    user: str
    created: int
    expires: int
    active: int
    current: str
    parent: str | None = None
    rotated: int = 0
    spent: list[str] = field(default_factory=list)
    access: list[tuple[str, int]] = field(default_factory=list)
    role: str | None = None
    timed_out: bool = False
    ended_at: int | None = None
    reasons: frozenset[str] = frozenset()

    @property
    def recorded(self) -> bool:
        return self.ended_at is not None


class Model:
    def __init__(self, now: int) -> None:
        self.now = now
        self.held: dict[str, Held] = {}
        self.limit: int | None = None
        self.idle: int | None = None
        self.duration, self.grace, self.ttl, self.reject = 30 * DAY, 10 * SECOND, HOUR, False
        self.ttl_before, self.ttl_since = 0, 0
        self.cutoff = -1

    def dead(self, one: Held) -> frozenset[str]:
        """Why a session is over; empty while it lives."""
        if one.recorded:
            return one.reasons
        causes = set()
        if one.expires <= self.now:
            causes.add("expired")
        if one.timed_out or (self.idle is not None and one.active + self.idle <= self.now):
            causes.add("idle_timeout")
        if one.created <= self.cutoff:
            causes.add("tenant_revoked")
        return frozenset(causes)

    def of(self, user: str) -> list[Held]:
        """A user's sessions that are not recorded as ended, the least recently active first."""
        return sorted((s for s in self.held.values() if s.user == user and not s.recorded), key=_age)

    def alive(self, user: str) -> list[str]:
        """Newest first. Looking trims a user to the limit."""
        self.trim(user)
        return sorted((s.sid for s in self.of(user) if not self.dead(s)), reverse=True)

    def end(self, one: Held, reason: str) -> None:
        """Record an end; for a session that was over already, with the cause it died of."""
        causes = self.dead(one)
        one.reasons, one.ended_at = causes or frozenset({reason}), self.now

    def settle(self, user: str) -> None:
        for one in self.of(user):
            if self.dead(one):
                self.end(one, "")

    def trim(self, user: str, room: int = 0) -> list[str]:
        """Make room under the limit: first who is dead anyway, then the least recently active."""
        limit = self.limit or MOST
        if len(self.of(user)) + room <= limit:
            return []
        self.settle(user)
        victims = self.of(user)[: max(0, len(self.of(user)) + room - limit)]
        for one in victims:
            self.end(one, "evicted")
        return [one.sid for one in victims]

    def full(self, user: str) -> bool:
        """Whether a sign-in is refused."""
        if not self.reject or len(self.of(user)) < (self.limit or MOST):
            return False
        self.settle(user)
        return len(self.of(user)) >= (self.limit or MOST)

    def refresh(self, one: Held, token: str) -> str:
        """`rotate`, `replay`, or why not; `expiring`: too little time is left to use a token."""
        if not one.recorded and not self.dead(one):
            self.trim(one.user)
        if self.dead(one):
            if not one.recorded:
                self.end(one, "")
            return "ended"
        if token not in (one.current, one.parent):
            self.end(one, "refresh_token_reused")
            return "reused"
        if one.expires - self.now < SECOND:
            return "expiring"
        one.active = max(one.active, self.now)
        return "replay" if token == one.parent and self.now - one.rotated < self.grace else "rotate"

    def rotated(self, one: Held, presented: str, successor: str) -> None:
        one.spent += [old for old in (one.parent, one.current) if old is not None and old != presented]
        one.parent, one.current, one.rotated = presented, successor, self.now

    def seen(self, one: Held) -> bool:
        """A session is used: whether it is good. Activity is kept to a sixtieth of the idle timeout."""
        if not one.recorded:
            self.trim(one.user)
        if self.dead(one):
            return False
        step = 60 * SECOND if self.idle is None else min(60 * SECOND, self.idle // 60)
        if self.limit is not None and self.limit > 1 and not self.reject and len(self.of(one.user)) >= self.limit:
            step = min(step, AT_LIMIT_STEP)
        if self.now - one.active >= step:
            one.active = self.now
        return True

    def new_idle(self, idle: int | None) -> None:
        """Who has timed out stays timed out, whatever the new timeout is."""
        if idle != self.idle and self.idle is not None:
            for one in self.held.values():
                one.timed_out = one.timed_out or one.active + self.idle <= self.now
        self.idle = idle

    def new_ttl(self, ttl: int) -> None:
        """A longer one makes tokens from a second later on: by then every process reckons with it."""
        if ttl > self.ttl:
            self.ttl_before, self.ttl_since = self.minted(), self.now + SECOND
        self.ttl = ttl

    def minted(self) -> int:
        return self.ttl_before if self.now < self.ttl_since else self.ttl

    def work(self) -> None:
        """The worker went round: everything that is over is recorded, everyone is within the limit."""
        for user in {one.user for one in self.held.values()}:
            self.settle(user)
            self.trim(user)


def _age(one: Held) -> tuple[int, str]:
    return one.active, one.sid
