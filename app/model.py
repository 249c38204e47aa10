"""The words of the domain: sessions, policies, tenants, ids and the one rule of life (`deadline`).

Every time is an integer of milliseconds since the epoch; every duration an integer of milliseconds too,
except where a name ends in `_s`. Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

import re
import secrets
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, Literal, get_args

import msgspec

from app.client.shards import CROCKFORD
from app.client.shards import SHARDS as SHARDS
from app.client.shards import base32 as base32

Reason = Literal[
    "signed_out",
    "revoked",
    "admin",
    "evicted",
    "idle_timeout",
    "refresh_token_reused",
    "user_revoked",
    "tenant_revoked",
    "expired",
]
EndReason = Reason | Literal["unknown"]
"""`unknown`: the session is over, but its tombstone has made room for later ones of the same user."""
Status = Literal["active", "revoked", "expired"]
Scope = Literal[
    "sessions:read",
    "sessions:write",
    "sessions:verify",
    "events:read",
    "config:read",
    "config:write",
    "stats:read",
    "audit:read",
    "keys:rotate",
]

REASONS: Final[tuple[Reason, ...]] = (
    "expired",
    "idle_timeout",
    "signed_out",
    "revoked",
    "admin",
    "evicted",
    "refresh_token_reused",
    "user_revoked",
    "tenant_revoked",
)
"""Position is the code that Redis keeps: append only."""

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""What an API key may be allowed. Reporting activity belongs to `sessions:verify`: a verify counts as activity too."""

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

MAX_SESSIONS_PER_USER: Final = 10_000
"""The ceiling that holds also when a policy says "unlimited" (DESIGN §5)."""
PROPAGATION_MS: Final = 1_000
"""Within this time every process knows a changed policy, key or tenant."""
SKEW_MS: Final = 5 * SECOND
"""How far clocks of processes and servers may lie apart; beyond it the self-check says so."""
MIN_IDLE_MS: Final = 5 * SECOND
"""The shortest idle timeout that a policy may have."""
AT_LIMIT_STEP_MS: Final = 100
"""How far apart stamps of activity lie for a user at the limit of sessions, where they decide an eviction."""
RETRY_MS: Final = 10_000
"""After this time the worker looks whether a process died between two steps of a change."""

_VALUE: Final = {letter: value for value, letter in enumerate(CROCKFORD)}
_BASE32HEX: Final = str.maketrans(CROCKFORD, "0123456789abcdefghijklmnopqrstuv")
"""To the digits that `int` knows."""
_SESSION_ID: Final = re.compile(f"ses_0[{CROCKFORD}]{{25}}").fullmatch


DESCRIBES_CALLER: Final = frozenset({"user_agent", "ip_address", "country", "device_type"})
"""Fields of requests that only describe the caller: a repeat from another network asks for the same."""


def shard_of(tenant_id: str, user_id: str) -> int:
    """The virtual shard (0-1023) where everything of one user lives. Frozen: stored ids depend on it."""
    digest = blake2b(f"{tenant_id}\0{user_id}".encode(), digest_size=2).digest()
    return int.from_bytes(digest) % SHARDS


def new_session_id(tenant_id: str, user_id: str, now: int) -> str:
    """`ses_` + 10 characters of time, 2 of shard, 14 of chance (70 bits). Sorts by age; never a credential."""
    shard = base32(shard_of(tenant_id, user_id), 2)
    return "ses_" + base32(now, 10) + shard + base32(secrets.randbits(70), 14)


def new_id(prefix: str) -> str:
    """A random id of 130 bits, for example `tnt_…`."""
    return f"{prefix}_{base32(secrets.randbits(130), 26)}"


def is_session_id(text: str) -> bool:
    """Whether `text` has the form of a session id, whatever it names."""
    return _SESSION_ID(text) is not None


def created_ms(session_id: str) -> int:
    """When the session was created, read from its id."""
    return int(session_id[4:14].translate(_BASE32HEX), 32)


def shard_in(session_id: str) -> int:
    """The shard that a session id names."""
    return _VALUE[session_id[14]] * 32 + _VALUE[session_id[15]]


def shard_of_event(event_id: str) -> int:
    """The shard in whose log an event lies."""
    return _VALUE[event_id[0]] * 32 + _VALUE[event_id[1]]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant decides about its sessions (DESIGN §5). Durations in seconds."""

    session_duration_s: int = 30 * 86_400
    access_token_ttl_s: int = 3_600
    max_sessions_per_user: int | None = None
    idle_timeout_s: int | None = None
    on_limit: Literal["evict", "reject"] = "evict"
    refresh_grace_s: int = 10


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """A policy as the store applies it, with what earlier policies have already decided. Milliseconds.

    `idle_cut` keeps ended sessions ended when an idle timeout grows: whoever was last active at or before
    it had timed out under an earlier policy, at `idle_cut_at` at the latest. `token_horizon` is the latest
    `exp` that tokens of an earlier, longer `access_token_ttl` may carry. A longer one makes tokens from `ttl_since` on
    and `ttl_before` until then, so that every process reckons with it before there is such a token.
    """

    idle: int | None = None
    idle_cut: int = 0
    idle_cut_at: int = 0
    limit: int = MAX_SESSIONS_PER_USER
    reject: bool = False
    grace: int = 10_000
    token_ttl: int = HOUR
    token_horizon: int = 0
    ttl_before: int = 0
    ttl_since: int = 0
    duration: int = 30 * DAY

    def step(self, session: Session) -> int:
        """Activity is written at most once in this time: 1/60 of the idle timeout, a minute without one; finer at the
        limit, where the time decides which session the next sign-in evicts."""
        step = MINUTE if self.idle is None else max(1, min(MINUTE, self.idle // 60))
        return min(step, AT_LIMIT_STEP_MS) if session.at_limit else step

    def is_at_limit(self, size: int) -> bool:
        """Whether the next sign-in of a user with `size` sessions has to choose one to evict."""
        return not self.reject and size >= self.limit > 1

    def not_after(self, now: int) -> int:
        """Until when (epoch *seconds*) an access token issued up to `now` could still pass `exp`, whoever's clock."""
        return -(-(max(now + self.token_ttl, self.token_horizon) + SKEW_MS) // 1_000)

    def minted_ttl(self, now: int) -> int:
        """How long a token that is issued now is good for."""
        return self.ttl_before if now < self.ttl_since else self.token_ttl

    def relevant_from(self, now: int) -> int:
        """Since when an event may still matter: what is older concerns access tokens that have all expired."""
        longest = DAY if self.token_horizon > now else self.token_ttl
        return now - longest - MINUTE


class Tenant(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A tenant as the registry keeps it. The fields of `Rules` mean what they mean there."""

    id: str
    name: str
    created_at: int
    policy: Policy = Policy()
    idle_cut: int = 0
    idle_cut_at: int = 0
    token_horizon: int = 0
    ttl_before: int = 0
    ttl_since: int = 0
    deleted_at: int | None = None
    version: int = 0

    @cached_property
    def rules(self) -> Rules:
        policy = self.policy
        return Rules(
            idle=None if policy.idle_timeout_s is None else policy.idle_timeout_s * SECOND,
            idle_cut=self.idle_cut,
            idle_cut_at=self.idle_cut_at,
            limit=min(policy.max_sessions_per_user or MAX_SESSIONS_PER_USER, MAX_SESSIONS_PER_USER),
            reject=policy.on_limit == "reject",
            grace=policy.refresh_grace_s * SECOND,
            token_ttl=policy.access_token_ttl_s * SECOND,
            token_horizon=self.token_horizon,
            ttl_before=self.ttl_before,
            ttl_since=self.ttl_since,
            duration=policy.session_duration_s * SECOND,
        )

    def with_policy(self, policy: Policy, now: int) -> Tenant:
        """The tenant under a new policy; what the old one has already decided stays decided."""
        old = self.rules
        timed_out = now - old.idle if old.idle is not None else 0
        changed = old.idle is not None and policy.idle_timeout_s != self.policy.idle_timeout_s
        shorter = policy.access_token_ttl_s < self.policy.access_token_ttl_s
        longer = policy.access_token_ttl_s > self.policy.access_token_ttl_s
        return msgspec.structs.replace(
            self,
            policy=policy,
            idle_cut=max(self.idle_cut, timed_out) if changed else self.idle_cut,
            idle_cut_at=now if changed else self.idle_cut_at,
            token_horizon=max(self.token_horizon, now + PROPAGATION_MS + old.token_ttl)
            if shorter
            else self.token_horizon,
            ttl_before=old.minted_ttl(now) if longer else self.ttl_before,
            ttl_since=now + PROPAGATION_MS if longer else self.ttl_since,
        )


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A backend's credential as the registry keeps it: never the secret, only its keyed digest. `scopes` `None`: all,
    those of later versions too."""

    id: str
    tenant_id: str
    name: str
    digest: bytes
    hint: str
    created_at: int
    revoked_at: int | None = None
    scopes: frozenset[Scope] | None = None
    expires_at: int | None = None

    def lives(self, now: int) -> bool:
        """Until `expires_at` as it is shown, in whole seconds."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at // SECOND * SECOND)

    def may(self, scope: Scope | None) -> bool:
        return scope is None or self.scopes is None or scope in self.scopes


class SealedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A signing key at rest. It signs from `sign_from` until the next key's `sign_from`. Milliseconds."""

    kid: str
    x: str
    sealed: bytes
    created_at: int
    sign_from: int


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One session as the store keeps it. `expires_at` is a whole second, so that answers and tokens show it exactly.

    `at_limit`: the user has as many sessions as the policy allows: the next sign-in evicts the least recently active.
    """

    id: str
    tenant_id: str
    user_id: str
    expires_at: int
    last_active_at: int
    user_agent: str | None = None
    ip_address: str | None = None
    country: str | None = None
    device_type: str | None = None
    org_id: str | None = None
    role: str | None = None
    mfa_verified: bool | None = None
    claims: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    generation: int = 0
    ended_at: int | None = None
    end_reason: EndReason | None = None
    at_limit: bool = False

    @property
    def created_at(self) -> int:
        return created_ms(self.id)

    @property
    def status(self) -> Status:
        if self.end_reason is None:
            return "active"
        return "expired" if self.end_reason == "expired" else "revoked"


def natural_end(session: Session, rules: Rules, cutoff: int | None, now: int) -> tuple[int, Reason] | None:
    """When and why time or a tenant's cut-off ended the session; `None` while it lives (DESIGN §12.1).

    The same rule stands in `store/prelude.lua`; the contract suite holds the two together.
    """
    ends: list[tuple[int, Reason]] = [(session.expires_at, "expired")]
    if rules.idle is not None:
        ends.append((session.last_active_at + rules.idle, "idle_timeout"))
    if session.last_active_at <= rules.idle_cut:
        ends.append((min(rules.idle_cut_at, now), "idle_timeout"))
    if cutoff is not None and session.created_at <= cutoff:
        ends.append((min(cutoff, now), "tenant_revoked"))
    end = min(ends, key=lambda end: end[0])
    return end if end[0] <= now else None


def deadline(expires_at: int, last_active_at: int, rules: Rules) -> int:
    """When the session ends if nothing more happens: min(`expires_at`, `last_active_at` + idle)."""
    if rules.idle is None:
        return expires_at
    return min(expires_at, last_active_at + rules.idle)
