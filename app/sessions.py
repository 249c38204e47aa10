"""The use cases: what a caller may ask of sessions. Each is one hop to the store and, for tokens, one signature."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec

from app.activity import Activity
from app.census import current_name
from app.client.claims import changed
from app.cursors import Cursors
from app.errors import (
    Conflict,
    IdempotencyKeyReused,
    InvalidToken,
    Problem,
    RefreshTokenInvalid,
    RefreshTokenReused,
    SessionEnded,
    SessionExpired,
    SessionNotFound,
    SessionRevoked,
    StoreUnavailable,
    TenantNotFound,
    TokenExpired,
    ValidationError,
)
from app.model import (
    DESCRIBES_CALLER,
    HOUR,
    RETRY_MS,
    SECOND,
    Reason,
    Rules,
    Session,
    Tenant,
    is_session_id,
    new_session_id,
    shard_in,
    shard_of,
)
from app.preview import Preview, preview
from app.store.base import Created, History, Once, Registry, Rotated, SessionStore, Touch
from app.store.statistics import Statistics
from app.tenants import Tenants
from app.tokens import AccessTokens, Presented, RefreshTokens

_log = logging.getLogger(__name__)
_EVERY: Final = frozenset({"active", "revoked", "expired"})
_LOOKED_UP: Final = 50
_PROPOSALS: Final = 20
_AT_ONCE: Final = 4
"""Reports of activity are looked up in parts, few at a time, so that they leave the connection to others."""
_INVALID: Final = (InvalidToken, TokenExpired, SessionNotFound, SessionRevoked, SessionExpired)


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend says about a sign-in."""

    user_id: str
    org_id: str | None = None
    role: str | None = None
    mfa_verified: bool | None = None
    user_agent: str | None = None
    ip_address: str | None = None
    country: str | None = None
    device_type: str | None = None
    claims: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A session with fresh tokens; `expires_in` seconds are for the access token. `regressed`: the refresh token was
    newer than the store, which must have lost writes (a failover, a power loss)."""

    session: Session
    access_token: str
    expires_in: int
    refresh_token: str | None = None
    evicted: list[str] = []
    regressed: bool = False


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """`code` and `message` say why a token or session is not valid."""

    valid: bool
    claims: dict[str, Any] | None = None
    session: Session | None = None
    code: str | None = None
    message: str | None = None


class SessionList(msgspec.Struct, frozen=True, kw_only=True):
    sessions: list[Session]
    has_more: bool
    next_cursor: str | None = None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """`active`: not recorded as ended. `created` and `ended` (by reason): in the last 24 hours."""

    active: int
    created: int
    ended: dict[str, int]


class Sessions:
    """Collaborators come in here; `device_of` and `country_of` fill in what a caller left out."""

    def __init__(
        self,
        store: SessionStore,
        registry: Registry,
        statistics: Statistics,
        tenants: Tenants,
        access: AccessTokens,
        refresh: RefreshTokens,
        cursors: Cursors,
        activity: Activity,
        device_of: Callable[[str | None], str | None],
        country_of: Callable[[str | None], str | None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._statistics = statistics
        self._tenants = tenants
        self._access = access
        self._refresh = refresh
        self._cursors = cursors
        self._activity = activity
        self._looking_up = asyncio.Semaphore(_AT_ONCE)
        self._proposing = WeakValueDictionary[str, asyncio.Lock]()
        self._device_of = device_of
        self._country_of = country_of

    async def create(
        self, tenant: Tenant, new: NewSession, now: int, idempotency_key: str | None = None, by: str = ""
    ) -> Issued:
        """Begin a session. Raises `SessionLimitReached` where the policy says `reject`.

        With an `idempotency_key` the call may be repeated for a day: the session is made once, and every answer has the
        same refresh token, because that is derived from the key. Raises `IdempotencyKeyReused` if the key came with
        something else before, `SessionEnded` if what it made is over, `Conflict` once that token has been used.
        """
        rules, details = tenant.rules, msgspec.structs.asdict(new)
        details["device_type"] = current_name(new.device_type) or self._device_of(new.user_agent)
        details["country"] = new.country or self._country_of(new.ip_address)
        session = Session(
            id=new_session_id(tenant.id, new.user_id, now),
            tenant_id=tenant.id,
            expires_at=(now + rules.duration) // SECOND * SECOND,
            last_active_at=now,
            **details,
        )
        created, first = await self._begin(session, new, rules, now, idempotency_key, by)
        if _is_over(created.session, now):
            raise SessionEnded
        if created.session.generation:
            raise Conflict("The session that this call has made is in use already")
        return await self._issue(created.session, rules, now, first, created.evicted)

    async def refresh(self, refresh_token: str, now: int, tenant_id: str | None = None) -> Issued:
        """Exchange a refresh token (DESIGN §4). Raises `RefreshTokenInvalid`, `RefreshTokenReused`,
        `SessionRevoked`, `SessionExpired`."""
        presented = self._refresh.parse(refresh_token)
        if tenant_id is not None and tenant_id != presented.tenant_id:
            raise RefreshTokenInvalid(genuine=True)
        try:
            tenant = await self._tenants.get(presented.tenant_id, now)
        except TenantNotFound:
            raise RefreshTokenInvalid(genuine=True) from None
        answer = await self._rotate(presented, tenant.rules, now)
        if answer.outcome == "missing" or answer.session is None:
            raise RefreshTokenInvalid(genuine=True)
        if answer.outcome == "expiring":
            raise SessionExpired
        if answer.outcome in ("reused", "ended"):
            raise _why(answer.session)
        if answer.outcome == "ahead":
            _log.warning("state regression: a refresh token was ahead of the store, which must have lost writes")
        successor = self._refresh.successor(presented, answer.session.generation, answer.branch)
        issued = await self._issue(answer.session, tenant.rules, now, successor)
        return msgspec.structs.replace(issued, regressed=answer.outcome == "ahead")

    async def verify(
        self, tenant: Tenant, now: int, *, token: str | None = None, session_id: str | None = None
    ) -> Verification:
        """Whether an access token, or a session, is good now. Counts as activity. The claims are what a token would say
        that is issued now: a change of role, organization, mfa or claims holds at once."""
        try:
            claims = None if token is None else await self._access.read(token, now, tenant.id)
            sid: str = session_id or "" if claims is None else claims["session_id"]
            user_id = None if claims is None else claims["sub"]
            session = await self._living(tenant, sid, user_id, now)
        except _INVALID as problem:
            return Verification(valid=False, code=problem.code, message=problem.detail)
        if claims is not None:
            claims = changed(claims, session.claims, session.org_id, session.role, session.mfa_verified)
        return Verification(valid=True, claims=claims, session=session)

    async def authenticate(self, access_token: str, now: int) -> tuple[Tenant, Session]:
        """An end user's own credential. Raises `InvalidToken`, `TokenExpired`, `SessionRevoked`, `SessionExpired`."""
        claims = await self._access.read(access_token, now, None)
        try:
            tenant = await self._tenants.get(claims["tenant_id"], now)
            return tenant, await self._living(tenant, claims["session_id"], claims["sub"], now)
        except (TenantNotFound, SessionNotFound):
            raise InvalidToken(genuine=True) from None

    async def get(self, tenant: Tenant, session_id: str, now: int) -> Session:
        """A session, alive or ended. Raises `SessionNotFound`."""
        session = await self._store.get(tenant.id, session_id, tenant.rules, now)
        if session is None:
            raise SessionNotFound
        return session

    async def history(self, tenant: Tenant, session_id: str, now: int) -> History:
        """What is known of a session's life. Raises `SessionNotFound`."""
        history = await self._store.history(tenant.id, session_id, tenant.rules, now)
        if history is None:
            raise SessionNotFound
        return history

    async def page(
        self,
        tenant: Tenant,
        now: int,
        *,
        user_id: str | None = None,
        status: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> SessionList:
        """A page of a user's or the whole tenant's sessions, newest first; `status` `None` means active."""
        statuses = _EVERY if status == "all" else frozenset({status or "active"})
        terms = (tenant.id, user_id, status)
        before = None if cursor is None else self._cursors.open(cursor, *terms)
        store, rules = self._store, tenant.rules
        if user_id is None:
            page = await store.list_tenant(tenant.id, statuses, limit, before, rules, now)
        else:
            page = await store.list_user(tenant.id, user_id, statuses, limit, before, rules, now)
        following = None if page.next_before is None else self._cursors.seal(page.next_before, *terms)
        return SessionList(sessions=page.sessions, has_more=page.more, next_cursor=following)

    async def update(self, tenant: Tenant, session_id: str, changes: dict[str, Any], now: int, by: str = "") -> Issued:
        """Change a living session's claims; the new access token says them. Raises `SessionEnded`."""
        if not changes:
            raise ValidationError("nothing to change")
        session = await self._store.update(tenant.id, session_id, changes, tenant.rules, now, by)
        if session is None:
            raise SessionNotFound
        if _is_over(session, now):
            raise SessionEnded
        return await self._issue(session, tenant.rules, now, None)

    async def update_user(
        self, tenant: Tenant, user_id: str, changes: dict[str, Any], now: int, by: str = ""
    ) -> list[str]:
        """Change the claims of all living sessions of a user; the ids. Those who verify locally are told at once."""
        if not changes:
            raise ValidationError("nothing to change")
        return await self._store.update_user(tenant.id, user_id, changes, tenant.rules, now, by)

    async def revoke(self, tenant: Tenant, session_id: str, reason: Reason, now: int, by: str = "") -> bool:
        """End one session; repeatable. Raises `SessionNotFound` if it never was."""
        if await self._store.revoke(tenant.id, session_id, reason, tenant.rules, now, by):
            return True
        await self.get(tenant, session_id, now)
        return False

    async def sign_out(self, refresh_token: str, now: int) -> None:
        """End the session of a refresh token that this deployment made; repeatable. Raises `RefreshTokenInvalid`."""
        presented = self._refresh.parse(refresh_token)
        with suppress(TenantNotFound):  # of a deleted tenant no session lives
            tenant = await self._tenants.get(presented.tenant_id, now)
            await self._store.sign_out(self._refresh.propose(presented), tenant.rules, now)

    async def sign_out_by_access_token(self, access_token: str, now: int) -> None:
        """End the session of a genuine access token, also of one that is past its `exp`; repeatable. Raises
        `InvalidToken`."""
        claims = await self._access.read(access_token, now, None, expired_too=True)
        with suppress(TenantNotFound, SessionNotFound):
            tenant = await self._tenants.get(claims["tenant_id"], now)
            await self.revoke(tenant, claims["session_id"], "signed_out", now, "user")

    async def revoke_user(
        self, tenant: Tenant, user_id: str, except_id: str | None, reason: Reason, now: int, by: str = ""
    ) -> list[str]:
        """End all of a user's sessions but one; the ids that ended."""
        return await self._store.revoke_user(tenant.id, user_id, except_id, reason, tenant.rules, now, by)

    async def revoke_all(self, tenant: Tenant, now: int, by: str = "") -> int:
        """End every session of a tenant at once; the worker records them one by one.

        The first mark is for the case that this process dies before it can make the second.
        """
        await self._registry.mark_pending(tenant.id, now + RETRY_MS)
        ended = await self._store.cut_off(tenant.id, now, by)
        await self._registry.mark_pending(tenant.id, now)
        return ended

    async def activity(self, tenant: Tenant, session_ids: list[str], now: int) -> int:
        """Sessions that a local verifier saw in use; how many of them are alive."""
        ids, living = [*set(session_ids)], list[Session]()
        for first in range(0, len(ids), _LOOKED_UP):
            async with self._looking_up:
                some = ids[first : first + _LOOKED_UP]
                found = await asyncio.gather(*(self._store.get(tenant.id, sid, tenant.rules, now) for sid in some))
            living += [session for session in found if session is not None and session.end_reason is None]
        touches = [
            Touch(session.id, tenant.id, session.user_id, now)
            for session in living
            if now - session.last_active_at >= tenant.rules.step(session)
        ]
        if touches:
            await self._store.touch(touches, {tenant.id: tenant.rules}, now)
        return len(living)

    async def stats(self, tenant: Tenant, now: int) -> Stats:
        """How many are active now, and what happened in the last 24 hours, a few seconds behind."""
        hour, counts = now // HOUR, Counter[str]()
        for (_, what), number in (await self._statistics.by_hour(tenant.id, range(hour - 24, hour + 1))).items():
            counts[what] += number
        created = counts.pop("created", 0)
        return Stats(active=await self._store.count_tenant(tenant.id), created=created, ended=dict(counts))

    async def preview(self, tenant: Tenant, changes: dict[str, Any], now: int) -> Preview:
        """What a change of policy would do now. Raises `ValidationError`."""
        return await preview(self._store, tenant, changes, now)

    async def flush(self) -> None:
        """Write the activity that waits."""
        await self._activity.flush()

    async def _living(self, tenant: Tenant, session_id: str, user_id: str | None, now: int) -> Session:
        if user_id is not None and not _leads_to(session_id, tenant.id, user_id):
            raise InvalidToken(genuine=True)
        session = await self._store.get(tenant.id, session_id, tenant.rules, now, user_id)
        if session is None:
            raise SessionNotFound
        if session.end_reason == "expired":
            raise SessionExpired
        if session.end_reason is not None:
            raise _revoked(session)
        self._activity.note(session, tenant.rules, now)
        return session

    async def _begin(
        self, session: Session, new: NewSession, rules: Rules, now: int, idempotency_key: str | None, by: str
    ) -> tuple[Created, str]:
        """The session in the store, and its first refresh token: under the secret that an earlier call with the same
        key was made under, if there was one."""
        name = idempotency_key and f"{session.tenant_id}\0{session.user_id}\0{idempotency_key}"
        forms = _asked(new) if idempotency_key else ()
        owner = session.tenant_id, session.user_id
        for under in self._refresh.unders:
            secret, digest = self._refresh.start(name, under)
            prints = [_hashed(form + digest.hex()) for form in forms]
            once = Once(_hashed(idempotency_key), *prints) if idempotency_key else None
            with suppress(IdempotencyKeyReused):
                created = await self._store.create(session, digest, rules, now, once, by)
                return created, self._refresh.first(created.session.id, *owner, secret, under)
        raise IdempotencyKeyReused

    async def _rotate(self, presented: Presented, rules: Rules, now: int) -> Rotated:
        """The store's answer. What else to propose it says itself: of a lost reply after the grace, or where others
        refresh at the same moment. One of a session proposes again at a time, or all would be overtaken by one."""
        answer = await self._store.rotate(self._refresh.propose(presented), rules, now)
        if answer.outcome != "fresh":
            return answer
        async with self._proposing.setdefault(presented.session_id, asyncio.Lock()):
            for _ in range(_PROPOSALS):
                stored = 0 if answer.session is None else answer.session.generation
                answer = await self._store.rotate(self._refresh.propose(presented, stored), rules, now)
                if answer.outcome != "fresh":
                    return answer
        raise StoreUnavailable("the session changes too fast")

    async def _issue(
        self,
        session: Session,
        rules: Rules,
        now: int,
        refresh_token: str | None,
        evicted: list[str] | None = None,
    ) -> Issued:
        token, expires_in = await self._access.mint(session, rules.minted_ttl(now), now)
        return Issued(
            session=session,
            access_token=token,
            expires_in=expires_in,
            refresh_token=refresh_token,
            evicted=evicted or [],
        )


def _asked(new: NewSession) -> tuple[str, str]:
    """The part of a request that a repeat under the same idempotency key must have in common; then the whole request,
    which earlier versions compared."""
    same = msgspec.structs.replace(new, **dict.fromkeys(DESCRIBES_CALLER))
    forms = [msgspec.json.encode(form, order="deterministic").decode() for form in (same, new)]
    return forms[0], forms[1]


def _hashed(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _leads_to(session_id: str, tenant_id: str, user_id: str) -> bool:
    return is_session_id(session_id) and shard_in(session_id) == shard_of(tenant_id, user_id)


def _is_over(session: Session, now: int) -> bool:
    """Whether a session has ended, or expires within a second: too soon for anybody to use a token of it."""
    return session.end_reason is not None or session.expires_at - now < SECOND


def _why(session: Session) -> Problem:
    """The refusal that fits how a session ended."""
    if session.end_reason == "refresh_token_reused":
        return RefreshTokenReused()
    if session.end_reason == "expired":
        return SessionExpired()
    return _revoked(session)


def _revoked(session: Session) -> SessionRevoked:
    known = session.end_reason != "unknown"
    return SessionRevoked(f"The session was ended: {session.end_reason}" if known else None)
