"""The store's contract: one method, one atomic act. Three implementations keep it, one suite checks it.

`now` is the caller's time in milliseconds; no method reads a clock. `rules` are the tenant's at the time of the
call. Every method may raise `StoreUnavailable`; a write may then have happened and is safe to repeat. Where it
meets damage it may raise `Unreadable`. A session of another tenant is a session that does not exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Literal, Protocol

import msgspec

from app.model import ApiKey, Reason, Rules, SealedKey, Session, Tenant

RulesOf = Callable[[str], Awaitable[Rules | None]]
"""A tenant's rules by its id; `None` if it is gone."""


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """A refresh token presented, and the successor that would replace it (DESIGN §4).

    `digest` is of the presented secret; `successor` of the one derived from it for the generation `number`. `branch`
    names the deployment secret that it is derived under.
    """

    session_id: str
    tenant_id: str
    user_id: str
    generation: int
    digest: bytes
    number: int
    successor: bytes
    branch: bytes


class Rotated(msgspec.Struct, frozen=True, kw_only=True):
    """`outcome`: `rotated`; `replayed`: derive the successor with `branch`, not with the proposed one;
    `ahead`: rotated, though the store had lost an earlier rotation; `fresh`: nothing has changed, propose the successor
    whose number follows the session's generation; `reused`: theft, the session has been ended by this call; `ended`: it
    was over before; `expiring`: nothing has changed, less than a second is left, in which no token could be used;
    `missing`: no such session. The successor's number is the session's generation.
    """

    outcome: Literal["rotated", "replayed", "ahead", "fresh", "reused", "ended", "expiring", "missing"]
    session: Session | None = None
    branch: bytes = b""


class Once(msgspec.Struct, frozen=True):
    """A call that its caller may have to repeat: `key` names it, `fingerprint` is of what it asks for, `legacy` is the
    fingerprint that earlier versions stored. All are digests."""

    key: str
    fingerprint: str
    legacy: str = ""


class Created(msgspec.Struct, frozen=True, kw_only=True):
    session: Session
    evicted: list[str] = []


class Due(msgspec.Struct, frozen=True):
    """A session whose turn has come. `exp`: its expiry as the hash has it, where that was read."""

    session_id: str
    tenant_id: str
    user_id: str
    exp: bytes = b""


class Touch(msgspec.Struct, frozen=True):
    """A session seen in use at `seen`."""

    session_id: str
    tenant_id: str
    user_id: str
    seen: int


class Count(msgspec.Struct, frozen=True):
    """How often `what` (`created`, or the reason of an end) happened to sessions of one `kind` (`app.census`) in the
    minute that began at `minute` × 60 s; if nobody collected for long, in the hour."""

    tenant_id: str
    minute: int
    what: str
    kind: int
    number: int


class Recount(msgspec.Struct, frozen=True):
    """The living sessions of each tenant by kind, and what had been counted and not collected: it is in there too."""

    living: dict[str, Counter[int]]
    taken: list[Count]


class Seen(msgspec.Struct, frozen=True):
    """A session as a policy sees it: `above` sessions of its user were active later, `cutoff` is its tenant's."""

    session: Session
    above: int
    cutoff: int | None


class Sample(msgspec.Struct, frozen=True):
    """Some of `active` sessions, each as likely as any other."""

    active: int
    seen: list[Seen]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a session's life beside its state. Times in ms. `ended_by` and `limit` are there if somebody, or
    the limit of sessions, decided the end; `*_by` is empty where that is not known."""

    session: Session
    refreshed_at: int | None = None
    changed_at: int | None = None
    changed_by: str = ""
    ended_by: str = ""
    limit: int | None = None


class Page(msgspec.Struct, frozen=True):
    """Sessions newest first; `more` if others follow `next_before`."""

    sessions: list[Session]
    more: bool = False
    next_before: str | None = None


class SessionStore(Protocol):
    """Sessions, their indexes and their events. `app/store/README.md` tells the data model.

    `by` is who does something, as the history shall tell it: `admin`, `key:<id>`, `user`, `worker`; empty for nobody.
    """

    async def create(
        self, session: Session, digest: bytes, rules: Rules, now: int, once: Once | None = None, by: str = ""
    ) -> Created:
        """Begin a session; beyond `rules.limit` evict the least recently active, or with `rules.reject` raise
        `SessionLimitReached`. The id may be renewed when a tenant's cut-off is newer than `now`.

        Within a day of a call with the same `once` nothing happens again: the answer is what that call has made, as it
        is now. Raises `IdempotencyKeyReused` if that call asked for something else."""

    async def get(
        self, tenant_id: str, session_id: str, rules: Rules, now: int, user_id: str | None = None
    ) -> Session | None:
        """One session, alive (with `at_limit`) or over (`end_reason`, and `ended_at` unless that is unknown). With
        `user_id` one round trip."""

    async def history(self, tenant_id: str, session_id: str, rules: Rules, now: int) -> History | None:
        """What is known of one session's life."""

    async def list_user(
        self,
        tenant_id: str,
        user_id: str,
        statuses: frozenset[str],
        limit: int,
        before: str | None,
        rules: Rules,
        now: int,
    ) -> Page:
        """A user's sessions, newest first, those with ids below `before`."""

    async def list_tenant(
        self, tenant_id: str, statuses: frozenset[str], limit: int, before: str | None, rules: Rules, now: int
    ) -> Page:
        """A tenant's sessions, newest first; a page may be short and still have `more`."""

    async def count_tenant(self, tenant_id: str, tombstones: bool = False) -> int:
        """How many sessions of a tenant have not been recorded as ended; with `tombstones` those that have, too."""

    async def rotate(self, rotation: Rotation, rules: Rules, now: int) -> Rotated:
        """Exchange a refresh token by the protocol of DESIGN §4, in one round trip. Counts as activity. A successor is
        kept only under the number one above the token's and the session's: no other is, so a repeat cannot fork."""

    async def revoke(
        self, tenant_id: str, session_id: str, reason: Reason, rules: Rules, now: int, by: str = ""
    ) -> bool:
        """End one session; True if this call ended it, False if it was over or never was."""

    async def sign_out(self, presented: Rotation, rules: Rules, now: int) -> bool:
        """End the session of a refresh token, whose MAC has been checked: `signed_out`, or `refresh_token_reused` for a
        token that `rotate` would take for theft. True if this call ended it. The proposed successor is not used."""

    async def revoke_user(
        self, tenant_id: str, user_id: str, except_id: str | None, reason: Reason, rules: Rules, now: int, by: str = ""
    ) -> list[str]:
        """End all of a user's sessions but one; up to 25 in one act, more in several."""

    async def cut_off(self, tenant_id: str, now: int, by: str = "") -> int:
        """End every session of a tenant at once, also those whose clock was ahead of `now`, with one `tenant.revoked`
        event; the sweep records them one by one. Returns how many it concerned."""

    async def restore_cut_off(self, tenant_id: str, before: int) -> int:
        """The same, of those created up to `before` alone."""

    async def uncut(self, tenant_id: str, shard: int, now: int) -> bool:
        """Forget a cut-off in one shard once every session it concerns has been recorded; True if none is left."""

    async def collect(self) -> list[Count]:
        """Take what has been counted since the last call. What a caller then loses is lost: statistics only."""

    async def recount(self) -> Recount:
        """Count the living anew, shard by shard, and take what has been counted of them until then. Right only while
        nobody collects."""

    async def sample(self, tenant_id: str, most: int) -> Sample:
        """A tenant's sessions not recorded as ended: all of them, or of more than `most` so many at random."""

    async def evict(self, tenant_id: str, user_id: str, rules: Rules, now: int) -> list[str]:
        """Trim a user to `rules.limit` sessions, the least recently active first."""

    async def touch(self, touches: list[Touch], rules: dict[str, Rules], now: int) -> list[str]:
        """Record activity of sessions that are alive at `now`; the ids that were. `rules` by tenant."""

    async def update(
        self, tenant_id: str, session_id: str, changes: dict[str, Any], rules: Rules, now: int, by: str = ""
    ) -> Session | None:
        """Change `org_id role mfa_verified claims metadata` of a live session (`None` clears) and tell verifiers.
        Returns the session as it is afterwards, ended ones unchanged; `None` if there is none."""

    async def update_user(
        self, tenant_id: str, user_id: str, changes: dict[str, Any], rules: Rules, now: int, by: str = ""
    ) -> list[str]:
        """`update` for each of a user's living sessions, one act each; the ids that were changed."""

    async def due(self, now: int, limit: int) -> dict[str, int]:
        """The ids of sessions whose deadline or whose tombstone's time has come, and since when (ms): up to `limit` for
        each shard, one shard after the other."""

    async def owners(self, session_ids: list[str]) -> list[Due]:
        """Whose they are. Those of which nothing is kept have no turn any more."""

    async def sweep(self, due: list[Due], rules: dict[str, Rules], now: int) -> int:
        """Settle them: end what is past its deadline, drop old tombstones, re-score the others. Returns how
        many ended. A tenant without rules is a deleted one. Safe to run twice at once."""

    async def postpone(self, due: list[Due], at: int) -> None:
        """Their next turn comes at `at`. Until then scripts on a user's sessions take them to be alive."""

    async def tenant_members(self, tenant_id: str, shard: int, after: str, limit: int) -> list[Due]:
        """Sessions of a tenant in one shard not recorded as ended, by age from `after` on (for policy changes): about
        `limit`, and none only if there are no more."""

    async def repair(self, rules_of: RulesOf, now: int) -> Counter[str]:
        """Look at every session and every index entry and mend what the invariants do not allow; what was found, by
        name. Empty on a healthy store. Safe beside everything else."""


class Registry(Protocol):
    """Tenants, API keys and signing keys: few, small, read often, kept outside the shards."""

    async def put_tenant(self, tenant: Tenant) -> bool:
        """Write if the stored version is `tenant.version - 1` (0: it must not exist); False otherwise."""

    async def tenant(self, tenant_id: str) -> Tenant | None:
        """Raises `Unreadable` if the record there is none of ours."""

    def tenants(self, after: str = "") -> AsyncGenerator[Tenant, None]:
        """All by id, those above `after`, but those whose record cannot be read."""

    async def bury_tenant(self, tenant: Tenant) -> bool:
        """Of a tenant that was deleted, keep this record and what has a TTL: its API keys go, a hundred in one act,
        and it is listed no more. False if its stored version is not `tenant.version - 1`. Repeatable."""

    async def put_api_key(self, key: ApiKey) -> None: ...

    async def api_key(self, key_id: str) -> ApiKey | None: ...

    async def api_keys(self, tenant_id: str) -> list[ApiKey]: ...

    async def change_api_key(self, key_id: str, change: Callable[[ApiKey], ApiKey]) -> None:
        """Read, change and write, again if somebody else wrote meanwhile. Raises `ApiKeyNotFound`, `Conflict`."""

    async def note_api_key_use(self, tenant_id: str, key_id: str, at: int) -> None: ...

    async def api_key_uses(self, tenant_id: str) -> dict[str, int]:
        """When each key of a tenant was last noted in use."""

    async def signing_keys(self) -> list[SealedKey]: ...

    async def put_signing_keys(self, keys: list[SealedKey], seen: frozenset[str]) -> bool:
        """Replace the ring if it still holds exactly the kids `seen`; False otherwise."""

    async def mark_pending(self, tenant_id: str, at: int) -> None:
        """Ask the worker to walk a tenant's sessions once `at` has come: its policy changed, or it was cut off.
        Each request is a mark of its own, so that none hides or delays another."""

    async def pending(self, now: int) -> dict[str, list[str]]:
        """Tenants to walk, each with the marks that asked for it."""

    async def clear_pending(self, marks: list[str]) -> None:
        """What these marks asked for is done."""

    async def add_repaired(self, damages: Counter[str]) -> None:
        """Count what a repair pass mended."""

    async def repaired(self) -> dict[str, int]:
        """What repair passes have mended, ever, by name."""

    async def check(self) -> None:
        """Raises `StoreUnavailable` unless every primary answers, `WritesRefused` unless each takes writes. Logs when
        that begins, once a minute while it lasts, and when it is over."""

    async def clock(self) -> int:
        """The store's own time in milliseconds."""
