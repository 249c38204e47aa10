"""Many at once, on real servers; and random stories in which Redis and the oracle must agree at every step."""

from __future__ import annotations

import asyncio
import random

import pytest

from app.model import DAY, MINUTE, Rules, Session
from app.store.base import Rotated, Rotation, SessionStore, Touch
from app.store.wire import Wire
from tests.builders import a_rotation, a_session, all_due
from tests.oracle import OracleStore
from tests.store.conftest import Announced

DIGEST = b"d" * 16
REAL = pytest.mark.parametrize("wire", ["valkey", "cluster"], indirect=True)


@REAL
async def test_parallel_creates_never_exceed_the_limit(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    rules, most = Rules(limit=5), 0
    sessions = [a_session(tenant, now + step) for step in range(50)]
    creating = [asyncio.create_task(store.create(s, DIGEST, rules, s.created_at)) for s in sessions]
    while not all(task.done() for task in creating):
        page = await store.list_user(tenant, "u1", frozenset({"active"}), 100, None, rules, now + 60)
        most = max(most, len(page.sessions))
    left = await store.list_user(tenant, "u1", frozenset({"active"}), 100, None, rules, now + 60)
    assert most <= 5
    assert len(await announced.ends()) == 45
    assert sorted(s.id for s in left.sessions) == sorted(s.id for s in sessions[-5:])


@REAL
async def test_parallel_rotations_of_one_token_make_one(store: SessionStore, tenant: str, now: int) -> None:
    session = a_session(tenant, now)
    await store.create(session, b"t0".ljust(16), Rules(), now)
    attempts = [a_rotation(session, b"t0", 0, b"s%d" % n, b"branch%02d" % n) for n in range(100)]
    answers = await asyncio.gather(*(store.rotate(attempt, Rules(), now) for attempt in attempts))
    assert sorted(answer.outcome for answer in answers) == ["replayed"] * 99 + ["rotated"]
    assert len({answer.branch for answer in answers}) == 1


@REAL
async def test_parallel_retries_after_the_grace_make_one_successor(store: SessionStore, tenant: str, now: int) -> None:
    """All have been told that the session is at 1; the first to come back moves it on, the others get what it made."""
    session, later = a_session(tenant, now), now + MINUTE
    await store.create(session, b"t0".ljust(16), Rules(), now)
    await store.rotate(a_rotation(session, b"t0", 0, b"lost", b"b"), Rules(), now)

    async def retry(number: int, successor: bytes) -> Rotated:
        return await store.rotate(a_rotation(session, b"t0", 0, successor, successor, number), Rules(), later)

    asked = await asyncio.gather(*(retry(1, b"s%d" % n) for n in range(100)))
    assert {answer.outcome for answer in asked} == {"fresh"}
    answers = await asyncio.gather(*(retry(2, b"s%d" % n) for n in range(100)))
    assert sorted(answer.outcome for answer in answers) == ["replayed"] * 99 + ["rotated"]
    assert len({answer.branch for answer in answers}) == 1


@REAL
async def test_after_a_revoke_nothing_is_refreshed(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    sessions = [a_session(tenant, now, user=f"u{n}") for n in range(200)]
    await asyncio.gather(*(store.create(s, b"t0".ljust(16), Rules(), now) for s in sessions))

    async def race(session: Session) -> tuple[bool, str]:
        revoked, _ = await asyncio.gather(
            store.revoke(tenant, session.id, "revoked", Rules(), now),
            store.rotate(a_rotation(session, b"t0", 0, b"t1", b"b"), Rules(), now),
        )
        after = await store.rotate(a_rotation(session, b"t1", 1, b"t2", b"b"), Rules(), now)
        return revoked, after.outcome

    assert set(await asyncio.gather(*(race(session) for session in sessions))) == {(True, "ended")}
    assert len(await announced.ends()) == 200


@REAL
async def test_two_sweeps_at_once_end_each_session_once(
    store: SessionStore, tenant: str, now: int, announced: Announced
) -> None:
    sessions = [a_session(tenant, now, user=f"u{n}", life=MINUTE) for n in range(2_000)]
    await asyncio.gather(*(store.create(s, DIGEST, Rules(), now) for s in sessions))
    due = [item for item in await all_due(store, now + MINUTE) if item.tenant_id == tenant]
    counts = await asyncio.gather(*(store.sweep(due, {tenant: Rules()}, now + MINUTE) for _ in range(3)))
    assert sum(counts) == 2_000
    assert await announced.ends() == sorted((s.id, "expired") for s in sessions)


@REAL
async def test_sign_ins_racing_revoke_all_land_on_one_side_of_it(store: SessionStore, tenant: str, now: int) -> None:
    sessions = [a_session(tenant, now) for _ in range(64)]
    creating = asyncio.gather(*(store.create(s, DIGEST, Rules(), now) for s in sessions))
    ended = set(await store.revoke_user(tenant, "u1", None, "user_revoked", Rules(), now))
    await creating
    found = [await store.get(tenant, session.id, Rules(), now, "u1") for session in sessions]
    assert {s.id for s in found if s is not None and s.end_reason is not None} == ended
    assert all(session is not None for session in found)


@pytest.mark.parametrize("wire", ["fakeredis", "valkey", "cluster"], indirect=True)
@pytest.mark.parametrize("seed", range(4))
async def test_redis_and_the_oracle_tell_the_same_story(
    store: SessionStore, wire: Wire, tenant: str, now: int, announced: Announced, seed: int
) -> None:
    chance, numbers, oracle = random.Random(seed), random.Random(f"numbers {seed}"), OracleStore()
    sessions: list[Session] = []
    for _ in range(300):
        now += chance.choice([1, 500, 20_000, MINUTE, 20 * MINUTE])
        rules = Rules(limit=chance.choice([2, 3, 10_000]), idle=chance.choice([None, 30 * MINUTE]), grace=10_000)
        step = chance.choice(["create", "rotate", "revoke", "revoke_user", "touch", "update", "sweep", "cut"])
        if step == "create" or not sessions:
            session = a_session(tenant, now, user=chance.choice(["u1", "u2"]), life=chance.choice([MINUTE, DAY]))
            sessions.append(session)
            got: list[object] = [
                (await one.create(session, b"g0".ljust(16), rules, now)).evicted for one in (store, oracle)
            ]
        else:
            session = chance.choice(sessions[-6:])
            number = chance.choice([0, 0, 1, 2, 3])
            following = number + numbers.choice([1, 1, 1, 2])
            rotation = a_rotation(session, b"g%d" % number, number, b"g%d" % following, b"b%d" % number, following)
            got = [await _step(one, step, tenant, session, rotation, rules, now) for one in (store, oracle)]
        assert got[0] == got[1], (seed, step)
    assert await announced.ends() == sorted((sid, reason) for _, sid, reason in oracle.events if sid and reason)


async def _step(
    one: SessionStore, step: str, tenant: str, session: Session, rotation: Rotation, rules: Rules, now: int
) -> object:
    if step == "rotate":
        return await one.rotate(rotation, rules, now)
    if step == "revoke":
        return await one.revoke(tenant, session.id, "signed_out", rules, now)
    if step == "revoke_user":
        return sorted(await one.revoke_user(tenant, session.user_id, session.id, "user_revoked", rules, now))
    if step == "touch":
        return await one.touch([Touch(session.id, tenant, session.user_id, now)], {tenant: rules}, now)
    if step == "update":
        return await one.update(tenant, session.id, {"role": f"r{now}"}, rules, now)
    if step == "sweep":
        due = [item for item in await all_due(one, now) if item.tenant_id == tenant]
        return await one.sweep(due, {tenant: rules}, now)
    return await one.list_user(tenant, session.user_id, frozenset({"active"}), 20, None, rules, now)
