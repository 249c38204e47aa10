"""Pages of sessions: whole, in order, without holes or repeats, and truthful about what has ended."""

from __future__ import annotations

from app.model import MINUTE, Rules
from app.store.base import SessionStore
from tests.builders import a_session

DIGEST = b"d" * 16
EVERY = frozenset({"active", "revoked", "expired"})


async def test_pages_of_a_user_and_of_a_tenant(store: SessionStore, tenant: str, now: int) -> None:
    sessions = [a_session(tenant, now + step // 3, user=f"u{step % 2}") for step in range(23)]
    for session in sessions:
        await store.create(session, DIGEST, Rules(), session.created_at)
    for number in range(0, 23, 4):
        await store.revoke(tenant, sessions[number].id, "revoked", Rules(), now + 100)

    async def walk(user: str | None, statuses: frozenset[str]) -> list[str]:
        before, seen = None, list[str]()
        while True:
            if user is None:
                page = await store.list_tenant(tenant, statuses, 3, before, Rules(), now + 200)
            else:
                page = await store.list_user(tenant, user, statuses, 3, before, Rules(), now + 200)
            seen += [session.id for session in page.sessions]
            before = page.next_before
            if not page.more:
                return seen

    active = [s for number, s in enumerate(sessions) if number % 4]
    newest = sorted((s.id for s in sessions), reverse=True)
    assert await walk(None, EVERY) == newest
    assert await walk(None, frozenset({"active"})) == sorted((s.id for s in active), reverse=True)
    assert await walk("u1", EVERY) == sorted((s.id for s in sessions if s.user_id == "u1"), reverse=True)
    assert await walk("u0", frozenset({"active"})) == sorted((s.id for s in active if s.user_id == "u0"), reverse=True)


async def test_what_time_has_ended_is_listed_as_ended_without_a_sweep(
    store: SessionStore, tenant: str, now: int
) -> None:
    short, long = a_session(tenant, now, life=MINUTE), a_session(tenant, now)
    for session in (short, long):
        await store.create(session, DIGEST, Rules(), now)
    at = now + MINUTE
    for listed, statuses in ((long, frozenset({"active"})), (short, frozenset({"expired"}))):
        mine = await store.list_user(tenant, "u1", statuses, 10, None, Rules(), at)
        everyone = await store.list_tenant(tenant, statuses, 10, None, Rules(), at)
        assert [s.id for s in mine.sessions] == [s.id for s in everyone.sessions] == [listed.id]
