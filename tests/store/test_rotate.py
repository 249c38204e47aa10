"""rotate: the refresh protocol."""

from __future__ import annotations

import pytest

from app.model import DAY, MINUTE, Rules
from app.store.base import SessionStore
from tests.builders import a_rotation, a_session
from tests.store.conftest import Announced

RULES = Rules(grace=10_000)


async def test_current_parent_and_lost_reply(store: SessionStore, tenant: str, now: int) -> None:
    session = a_session(tenant, now)
    await store.create(session, b"t0".ljust(16), RULES, now)
    first = await store.rotate(a_rotation(session, b"t0", 0, b"t1", b"branch-1"), RULES, now)
    again = await store.rotate(a_rotation(session, b"t0", 0, b"xx", b"branch-x"), RULES, now + 9_999)
    late = await store.rotate(a_rotation(session, b"t0", 0, b"t2", b"branch-2", number=2), RULES, now + 10_000)
    assert [r.outcome for r in (first, again, late)] == ["rotated", "replayed", "rotated"]
    assert (again.branch, late.branch) == (b"branch-1", b"branch-2")
    assert first.session is not None and again.session is not None and late.session is not None
    assert [r.session.generation for r in (first, again, late) if r.session] == [1, 1, 2]
    assert first.session.expires_at == late.session.expires_at == session.expires_at


@pytest.mark.parametrize(("digest", "generation"), [(b"t0", 0), (b"t1", 1), (b"nonsense", 2), (b"nonsense", 1)])
async def test_anything_older_or_replaced_ends_the_session_once(
    store: SessionStore, tenant: str, now: int, announced: Announced, digest: bytes, generation: int
) -> None:
    session = a_session(tenant, now)
    await store.create(session, b"t0".ljust(16), RULES, now)
    chain = [(b"t0", 0, b"t1"), (b"t1", 1, b"t2"), (b"t2", 2, b"t3")]
    for presented, number, successor in chain:
        await store.rotate(a_rotation(session, presented, number, successor, b"branch"), RULES, now)
    theft = await store.rotate(a_rotation(session, digest, generation, b"zz", b"b"), RULES, now + 1)
    after = await store.rotate(a_rotation(session, b"t3", 3, b"t4", b"b"), RULES, now + 2)
    assert (theft.outcome, after.outcome) == ("reused", "ended")
    assert after.session is not None and after.session.end_reason == "refresh_token_reused"
    assert await announced.ends() == [(session.id, "refresh_token_reused")]


async def test_a_replaced_successor_is_theft(store: SessionStore, tenant: str, now: int) -> None:
    session = a_session(tenant, now)
    await store.create(session, b"t0".ljust(16), RULES, now)
    await store.rotate(a_rotation(session, b"t0", 0, b"lost", b"b1"), RULES, now)
    await store.rotate(a_rotation(session, b"t0", 0, b"fresh", b"b2", number=2), RULES, now + MINUTE)
    stolen = await store.rotate(a_rotation(session, b"lost", 1, b"zz", b"b3"), RULES, now + MINUTE)
    assert stolen.outcome == "reused"


async def test_a_grandparent_within_the_grace_is_theft(store: SessionStore, tenant: str, now: int) -> None:
    session = a_session(tenant, now)
    await store.create(session, b"t0".ljust(16), RULES, now)
    await store.rotate(a_rotation(session, b"t0", 0, b"t1", b"b"), RULES, now)
    await store.rotate(a_rotation(session, b"t1", 1, b"t2", b"b"), RULES, now + 1)
    assert (await store.rotate(a_rotation(session, b"t0", 0, b"zz", b"b"), RULES, now + 2)).outcome == "reused"


async def test_a_store_that_lost_rotations_follows_the_token(store: SessionStore, tenant: str, now: int) -> None:
    session = a_session(tenant, now)
    await store.create(session, b"t0".ljust(16), RULES, now)
    ahead = await store.rotate(a_rotation(session, b"t5", 5, b"t6", b"b"), RULES, now)
    assert ahead.outcome == "ahead" and ahead.session is not None and ahead.session.generation == 6
    assert (await store.rotate(a_rotation(session, b"t6", 6, b"t7", b"b"), RULES, now)).outcome == "rotated"


async def test_a_successor_under_another_number_changes_nothing(store: SessionStore, tenant: str, now: int) -> None:
    """The next above the token and the session, or none: whatever the token is."""
    session = a_session(tenant, now)
    await store.create(session, b"t0".ljust(16), RULES, now)
    for presented, generation, wrong, right, at in [
        (b"t0", 0, (0, 2), 1, now),  # the current one
        (b"t0", 0, (1, 3), 2, now + MINUTE),  # its parent, later
        (b"t0", 0, (1, 2, 4), 3, now + 2 * MINUTE),  # and once more: the first fresh one has not been used either
        (b"t9", 9, (4, 11), 10, now + 3 * MINUTE),  # one that the store has forgotten
    ]:
        before = await store.get(tenant, session.id, RULES, at)
        for number in wrong:
            asked = await store.rotate(a_rotation(session, presented, generation, b"no", b"b", number), RULES, at)
            assert (asked.outcome, asked.session, asked.branch) == ("fresh", before, b""), (presented, number)
        made = await store.rotate(a_rotation(session, presented, generation, b"s", b"b", right), RULES, at)
        assert made.outcome in ("rotated", "ahead") and made.session is not None
        assert made.session.generation == right


async def test_a_parent_is_known_however_far_its_successor_is_numbered(
    store: SessionStore, tenant: str, now: int
) -> None:
    """The parent of a fresh successor is two generations below it, and repeats that one within the grace."""
    session = a_session(tenant, now)
    await store.create(session, b"t0".ljust(16), RULES, now)
    await store.rotate(a_rotation(session, b"t0", 0, b"lost", b"b1"), RULES, now)
    await store.rotate(a_rotation(session, b"t0", 0, b"fresh", b"b2", number=2), RULES, now + MINUTE)
    again = await store.rotate(a_rotation(session, b"t0", 0, b"x", b"b3"), RULES, now + MINUTE + 9_999)
    assert (again.outcome, again.branch) == ("replayed", b"b2")
    assert again.session is not None and again.session.generation == 2


async def test_what_is_over_is_not_refreshed(store: SessionStore, tenant: str, now: int, announced: Announced) -> None:
    idle, expired, revoked = (a_session(tenant, now, user=name) for name in ("idle", "expired", "revoked"))
    for session in (idle, expired, revoked):
        await store.create(session, b"t0".ljust(16), RULES, now)
    await store.revoke(tenant, revoked.id, "admin", RULES, now)
    rules = Rules(idle=MINUTE)
    answers = [
        await store.rotate(a_rotation(idle, b"t0", 0, b"t1", b"b"), rules, now + MINUTE),
        await store.rotate(a_rotation(expired, b"t0", 0, b"t1", b"b"), RULES, now + 30 * DAY),
        await store.rotate(a_rotation(revoked, b"t0", 0, b"t1", b"b"), RULES, now + 1),
    ]
    assert [answer.outcome for answer in answers] == ["ended"] * 3
    reasons = [answer.session.end_reason for answer in answers if answer.session is not None]
    assert reasons == ["idle_timeout", "expired", "admin"]
    assert len(await announced.ends()) == 3


async def test_refreshing_is_activity_and_unknown_sessions_are_missing(
    store: SessionStore, tenant: str, now: int
) -> None:
    session, rules = a_session(tenant, now), Rules(idle=MINUTE)
    await store.create(session, b"t0".ljust(16), rules, now)
    await store.rotate(a_rotation(session, b"t0", 0, b"t1", b"b"), rules, now + MINUTE - 1)
    found = await store.get(tenant, session.id, rules, now + MINUTE + 10)
    assert found is not None and found.status == "active"
    assert (
        await store.rotate(a_rotation(a_session(tenant, now), b"t", 0, b"s", b"b"), rules, now)
    ).outcome == "missing"


async def test_in_the_last_second_nothing_is_rotated_and_theft_is_still_seen(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    session = a_session(tenant, now)
    await store.create(session, b"t0".ljust(16), RULES, now)
    last = session.expires_at - 500
    for _ in range(2):
        answer = await store.rotate(a_rotation(session, b"t0", 0, b"t1", b"b"), RULES, last)
        assert answer.outcome == "expiring"
    assert await announced.ends() == []
    assert (await store.rotate(a_rotation(session, b"xx", 0, b"t1", b"b"), RULES, last)).outcome == "reused"
    assert await announced.ends() == [(session.id, "refresh_token_reused")]
