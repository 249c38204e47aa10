"""Every kind of damage, planted by hand, is found by name, mended, and found no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from app.census import kind_of, place_of
from app.embedded import Embedded
from app.errors import Unreadable
from app.model import DAY, HOUR, MINUTE, SKEW_MS, Rules, Session, shard_in, shard_of
from app.store import keyspace
from app.store.redis import RedisSessionStore
from app.store.scripts import SCRIPTS
from app.store.wire import Wire, open_wire
from tests.builders import a_rotation, a_session, all_due
from tests.servers import Cluster
from tests.store.conftest import Announced

DIGEST = b"t0".ljust(16)


@pytest.fixture(scope="module", params=["valkey", "cluster"])
def own_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this file alone: the pass looks at everything there is."""
    folder: Path = tmp_path_factory.mktemp("repair")
    with Embedded(folder) if request.param == "valkey" else Cluster(folder) as server:
        yield server.url


@pytest.fixture
async def wire(own_url: str) -> AsyncIterator[Wire]:
    opened = await open_wire(own_url, 10_000)
    await opened.each("FLUSHALL")
    yield opened
    await opened.close()


@pytest.fixture
async def session(store: RedisSessionStore, tenant: str, now: int) -> Session:
    created = a_session(tenant, now)
    await store.create(created, DIGEST, Rules(), now)
    return created


async def rules_of(tenant_id: str) -> Rules | None:
    return Rules()


class Keys:
    """The keys of one session."""

    def __init__(self, session: Session) -> None:
        shard = shard_in(session.id)
        self.session = keyspace.session(shard, session.id)
        self.user = keyspace.user(shard, session.tenant_id, session.user_id)
        self.ended = keyspace.ended(shard, session.tenant_id, session.user_id)
        self.tenant = keyspace.tenant_index(shard, session.tenant_id)
        self.due = keyspace.due(shard)
        self.events = keyspace.events(shard)
        self.counts = keyspace.counts(shard)
        self.endings = keyspace.endings(shard)


Damage = Callable[[Wire, Keys, Session], Awaitable[object]]

TO_THE_LIVING: dict[str, tuple[Damage, bool, list[str]]] = {
    # damage: how it is done, whether the session lives on, the reasons of its end events
    "alive without a record": (lambda w, k, s: w.call(k.session, "DEL", k.session), False, ["admin"]),
    "alive without a record ": (lambda w, k, s: w.call(k.session, "HDEL", k.session, "exp"), False, ["admin"]),
    "alive without a record  ": (lambda w, k, s: w.call(k.session, "HDEL", k.session, "cur"), False, ["admin"]),
    "alive without a deadline": (lambda w, k, s: w.call(k.due, "ZREM", k.due, s.id), True, []),
    "alive but not in the tenant": (lambda w, k, s: w.call(k.tenant, "ZREM", k.tenant, s.id), True, []),
    "alive but not in the tenant ": (
        lambda w, k, s: w.call(k.tenant, "ZADD", k.tenant, -place_of(s.created_at, 0), s.id),
        True,
        [],
    ),
    "neither alive nor ended": (lambda w, k, s: w.call(k.user, "ZREM", k.user, s.id), False, ["admin"]),
    "an unreadable key": (lambda w, k, s: w.call(k.session, "HDEL", k.session, "tenant"), False, ["admin"]),
}
TO_THE_ENDED: dict[str, Damage] = {
    "ended yet alive": lambda w, k, s: w.call(k.user, "ZADD", k.user, s.last_active_at, s.id),
    "ended without a record": lambda w, k, s: w.call(k.session, "DEL", k.session),
    "ended without a burial": lambda w, k, s: w.call(k.due, "ZREM", k.due, s.id),
    "ended but not so in the tenant": lambda w, k, s: w.call(
        k.tenant, "ZADD", k.tenant, place_of(s.created_at, 0), s.id
    ),
    "a remainder": lambda w, k, s: w.call(k.ended, "ZREM", k.ended, s.id),
}


async def test_a_healthy_store_is_left_alone(store: RedisSessionStore, tenant: str, now: int) -> None:
    for number in range(30):
        one = a_session(tenant, now, user=f"u{number % 5}", life=MINUTE if number % 3 else DAY)
        await store.create(one, DIGEST, Rules(limit=4), now)
        if number % 4 == 0:
            await store.revoke(tenant, one.id, "revoked", Rules(), now)
    assert not await store.repair(rules_of, now + 2 * MINUTE)
    due = await all_due(store, now + 2 * MINUTE)
    await store.sweep(due, {tenant: Rules()}, now + 2 * MINUTE)
    assert not await store.repair(rules_of, now + 3 * MINUTE)


@pytest.mark.parametrize("doubt", ["its turn", "idle", "cut off"])
async def test_a_session_that_is_no_hash_keeps_nobody_from_signing_out_everywhere(
    store: RedisSessionStore, wire: Wire, announced: Announced, tenant: str, now: int, doubt: str
) -> None:
    rules = Rules(idle=MINUTE) if doubt == "idle" else Rules()
    sessions = [a_session(tenant, now + step, life=DAY if step else MINUTE) for step in range(3)]
    for one in sessions:
        await store.create(one, DIGEST, Rules(), one.created_at)
    key = Keys(sessions[0]).session
    await wire.call(key, "SET", key, "rubbish")
    late = now + 2 * MINUTE
    assert await store.owners([*await store.due(late, 10)]) == [], "and it has no turn any more"
    if doubt == "cut off":
        await store.cut_off(tenant, late)
    await store.revoke_user(tenant, "u1", None, "user_revoked", rules, late)
    assert sorted(sid for sid, _ in await announced.ends()) == sorted(one.id for one in sessions)
    assert await store.revoke_user(tenant, "u1", None, "user_revoked", rules, late) == []


async def test_a_user_whose_sessions_cannot_be_settled_is_told_and_not_tried_for_ever(
    store: RedisSessionStore, wire: Wire, session: Session, now: int
) -> None:
    key = Keys(session).tenant
    await wire.call(key, "SET", key, "rubbish")
    with pytest.raises(Unreadable):
        await store.revoke_user(session.tenant_id, "u1", None, "user_revoked", Rules(idle=MINUTE), now + HOUR)
    assert await store.repair(rules_of, now + HOUR)
    assert await store.revoke_user(session.tenant_id, "u1", None, "user_revoked", Rules(idle=MINUTE), now + HOUR) == []


async def test_a_cut_off_ends_all_though_an_index_cannot_be_read(
    store: RedisSessionStore, wire: Wire, tenant: str, now: int
) -> None:
    ahead = now + SKEW_MS - 1  # by the clock of another process
    sessions = [a_session(tenant, ahead, user=f"u{number}") for number in range(8)]
    for one in sessions:
        await store.create(one, DIGEST, Rules(), ahead)
    key = Keys(sessions[0]).tenant
    await wire.call(key, "SET", key, "rubbish")
    assert await store.cut_off(tenant, now) < 8
    elsewhere = next(one.user_id for one in sessions if shard_in(one.id) != shard_in(sessions[0].id))
    late = await store.create(a_session(tenant, now, user=elsewhere), DIGEST, Rules(), now)
    for one in sessions:
        found = await store.get(tenant, one.id, Rules(), now + 1)
        assert found is not None and found.status == "revoked"
    found = await store.get(tenant, late.session.id, Rules(), now + 1)
    assert found is not None and found.status == "active"
    assert await store.repair(rules_of, now + 2)
    assert not await store.repair(rules_of, now + 3)


async def test_a_cut_off_is_remembered_while_an_index_may_not_hold_everyone(
    store: RedisSessionStore, wire: Wire, tenant: str, now: int
) -> None:
    sessions = [a_session(tenant, now) for _ in range(3)]
    for one in sessions:
        await store.create(one, DIGEST, Rules(), now)
    await store.cut_off(tenant, now)
    index = Keys(sessions[0]).tenant
    await wire.call(index, "RENAME", index, keyspace.parked(index))  # a repair pass, and then it was killed
    with pytest.raises(Unreadable):
        await store.uncut(tenant, shard_in(sessions[0].id), now + HOUR)
    for one in sessions:
        found = await store.get(tenant, one.id, Rules(), now + HOUR)
        assert found is not None and found.status == "revoked"
    await wire.call(keyspace.parked(index), "UNLINK", keyspace.parked(index))  # a week later


@pytest.mark.parametrize("kind", ["cutoff", "events"])
@pytest.mark.parametrize("home", [False, True], ids=["a shard", "its own shard"])
async def test_a_shard_that_cannot_be_cut_off_keeps_no_other_from_it_nor_the_event(
    store: RedisSessionStore, wire: Wire, announced: Announced, tenant: str, now: int, home: bool, kind: str
) -> None:
    sessions = [a_session(tenant, now, user=f"u{number}") for number in range(8)]
    for one in sessions:
        await store.create(one, DIGEST, Rules(), now)
    own = shard_of(tenant, "")
    bad = own if home else next(shard for one in sessions if (shard := shard_in(one.id)) != own)
    key = keyspace.cutoff(bad) if kind == "cutoff" else keyspace.events(bad)
    await wire.batch(key, [("UNLINK", key), ("SET", key, "rubbish")])
    if kind == "cutoff" or home:
        with pytest.raises(Unreadable):
            await store.cut_off(tenant, now)
    else:
        await store.cut_off(tenant, now)
    for one in sessions:
        if kind == "events" or shard_in(one.id) != bad:
            found = await store.get(tenant, one.id, Rules(), now + 1)
            assert found is not None and found.status == "revoked"
    assert (await store.repair(rules_of, now + 1))["an unreadable key"] == 1
    assert await announced.cut_offs() == [now]


async def test_what_is_parked_is_what_is_of_the_wrong_type_at_that_moment(
    wire: Wire, store: RedisSessionStore, session: Session
) -> None:
    key = Keys(session).user
    park = ([key, keyspace.parked(key)], ["zset", 60_000])
    assert await wire.script(SCRIPTS["park"], *park) == 0
    await wire.batch(key, [("UNLINK", key), ("SET", key, "rubbish")])
    assert await wire.script(SCRIPTS["park"], *park) == 1
    assert await wire.script(SCRIPTS["park"], *park) == 0
    assert 0 < await wire.call(key, "PTTL", keyspace.parked(key)) <= 60_000
    await wire.call(key, "UNLINK", keyspace.parked(key))


async def test_no_session_begins_where_an_index_cannot_be_read(
    store: RedisSessionStore, wire: Wire, session: Session, now: int
) -> None:
    for key in (Keys(session).tenant, Keys(session).due, Keys(session).user):
        await wire.batch(key, [("RENAME", key, f"{key}:aside"), ("SET", key, "rubbish")])
        refused = a_session(session.tenant_id, now, user=session.user_id)
        with pytest.raises(Unreadable):
            await store.create(refused, DIGEST, Rules(), now)
        await wire.call(key, "RENAME", f"{key}:aside", key)
        assert await store.get(session.tenant_id, refused.id, Rules(), now) is None
        assert await wire.call(Keys(session).user, "ZCARD", Keys(session).user) == 1
    assert not await store.repair(rules_of, now)


async def test_a_tombstone_that_later_ones_pushed_out_is_no_damage(
    store: RedisSessionStore, tenant: str, now: int
) -> None:
    sessions = [a_session(tenant, now) for _ in range(1_010)]
    for session in sessions:
        await store.create(session, DIGEST, Rules(), now)
    assert len(await store.revoke_user(tenant, "u1", None, "user_revoked", Rules(), now)) == 1_010
    assert not await store.repair(rules_of, now + 1)
    found = [await store.get(tenant, one.id, Rules(), now + 1) for one in sessions]
    assert all(one is not None and one.status == "revoked" for one in found)
    gone = [one for one in found if one is not None and one.end_reason == "unknown"]
    assert len(gone) == 10
    rotated = await store.rotate(a_rotation(gone[0], b"t0", 0, b"t1", b"b"), Rules(), now + 1)
    assert rotated.outcome == "ended"


@pytest.mark.parametrize("name", TO_THE_LIVING)
async def test_damage_to_a_living_session(
    store: RedisSessionStore, wire: Wire, session: Session, announced: Announced, now: int, name: str
) -> None:
    damage, survives, reasons = TO_THE_LIVING[name]
    await damage(wire, Keys(session), session)
    found = await store.repair(rules_of, now + 1)
    assert found[name.strip()] == 1
    assert not await store.repair(rules_of, now + 2)
    after = await store.get(session.tenant_id, session.id, Rules(), now + 3)
    assert (after is not None and after.end_reason is None) is survives
    assert [reason for _, reason in await announced.ends()] == reasons
    rotated = await store.rotate(a_rotation(session, b"t0", 0, b"t1", b"b"), Rules(), now + 4)
    assert (rotated.outcome == "rotated") is survives
    counted = await store.count_tenant(session.tenant_id)
    assert counted == int(survives)


@pytest.mark.parametrize("name", TO_THE_ENDED)
async def test_damage_to_an_ended_session(
    store: RedisSessionStore, wire: Wire, session: Session, announced: Announced, now: int, name: str
) -> None:
    await store.revoke(session.tenant_id, session.id, "signed_out", Rules(), now)
    await TO_THE_ENDED[name](wire, Keys(session), session)
    assert await store.repair(rules_of, now + 1) == {name: 1}
    assert not await store.repair(rules_of, now + 2)
    after = await store.get(session.tenant_id, session.id, Rules(), now + 3)
    assert after is None or after.end_reason == "signed_out"
    assert [reason for _, reason in await announced.ends()] == ["signed_out"]
    due = await all_due(store, now + DAY + 1)
    await store.sweep(due, {session.tenant_id: Rules()}, now + DAY + 1)
    assert await store.get(session.tenant_id, session.id, Rules(), now + DAY + 2) is None


async def test_entries_that_lead_nowhere_are_dropped(
    store: RedisSessionStore, wire: Wire, session: Session, now: int
) -> None:
    keys, stranger = Keys(session), a_session(session.tenant_id, now, user=session.user_id).id
    await wire.call(keys.due, "ZADD", keys.due, now, stranger)
    await wire.call(keys.tenant, "ZADD", keys.tenant, now, stranger)
    await wire.call(keys.tenant, "ZADD", keys.tenant, now, "no session id")
    assert await store.repair(rules_of, now) == {"an entry without a record": 3}
    assert not await store.repair(rules_of, now)


@pytest.mark.parametrize(
    "kind", ["session", "user", "ended", "tenant", "due", "cutoff", "counts", "events", "endings", "eventids"]
)
async def test_no_name_that_a_user_may_have_makes_a_key_look_damaged(
    store: RedisSessionStore, tenant: str, now: int, kind: str
) -> None:
    users = [f"x}}:{kind}", f"x}}:{kind}:y", f"x}}:{kind}:y:z", "\U0001f600" * 255, "e\u0301" * 60, "\u00e9", "*[a] "]
    sessions = [a_session(tenant, now, user=user) for user in users]
    for one in sessions:
        await store.create(one, DIGEST, Rules(), now)
    assert await store.revoke(tenant, sessions[2].id, "revoked", Rules(), now)
    assert not await store.repair(rules_of, now)
    for one in (*sessions[:2], *sessions[3:]):
        found = await store.get(tenant, one.id, Rules(), now)
        assert found is not None and found.status == "active" and found.user_id == one.user_id
    assert (await store.recount()).living == {tenant: {kind_of(None, None): 6}}


async def test_a_long_user_id_is_read_whole_when_its_sessions_are_swept(
    store: RedisSessionStore, tenant: str, now: int
) -> None:
    users = ["\U0001f600" * 255, "\U0001f600" * 254, "\u00e9" * 33, "a" * 64, "a" * 128]
    sessions = [a_session(tenant, now, user=user, life=MINUTE) for user in users]
    for one in sessions:
        await store.create(one, DIGEST, Rules(), now)
    owners = await store.owners([one.id for one in sessions])
    assert {owner.session_id: owner.user_id for owner in owners} == {one.id: one.user_id for one in sessions}
    assert await store.sweep(await all_due(store, now + DAY), {tenant: Rules()}, now + DAY) == len(users)
    for one in sessions:
        page = await store.list_user(tenant, one.user_id, frozenset({"expired"}), 10, None, Rules(), now + DAY)
        assert [found.id for found in page.sessions] == [one.id]


@pytest.mark.parametrize("kind", ["session", "user", "ended", "tenant", "due", "events"])
async def test_a_key_of_another_type_stops_nothing_and_is_parked(
    store: RedisSessionStore, wire: Wire, session: Session, now: int, kind: str
) -> None:
    others = [a_session(session.tenant_id, now, user=f"v{n}", life=MINUTE) for n in range(20)]
    for other in others:
        await store.create(other, DIGEST, Rules(), now)
    key = getattr(Keys(session), kind)
    await wire.call(key, "SET", key, "poison")
    late = now + 31 * DAY
    swept = 0
    while due := await all_due(store, late):
        swept += await store.sweep(due, {session.tenant_id: Rules()}, late)
        if swept >= 20 - sum(shard_in(other.id) == shard_in(session.id) for other in others):
            break
    assert swept >= 19
    assert (await store.repair(rules_of, late))["an unreadable key"] == 1
    parked = key.replace("}:", "}:parked:")
    assert await wire.call(parked, "TYPE", parked) == b"string"
    assert not await store.repair(rules_of, late)


async def test_an_index_of_events_of_another_type_stops_nothing_and_goes_by_itself(
    store: RedisSessionStore, wire: Wire, session: Session, now: int, announced: Announced
) -> None:
    """It is not parked: where it were missing, readers would take it for an empty one."""
    others = [a_session(session.tenant_id, now, user=session.user_id) for _ in range(2)]
    for other in others:
        await store.create(other, DIGEST, Rules(), now)
    key = keyspace.event_ids(shard_in(session.id), session.tenant_id)
    await wire.call(key, "SET", key, "rubbish")
    assert (await store.repair(rules_of, now))["an unreadable key"] == 1
    assert not await store.repair(rules_of, now)
    assert await wire.call(key, "TYPE", key) == b"string"
    assert await wire.call(key, "PTTL", key) > 90 * DAY
    assert await store.revoke(session.tenant_id, session.id, "revoked", Rules(), now)
    assert await store.revoke_user(session.tenant_id, session.user_id, None, "admin", Rules(), now)
    assert len(await announced.ends()) == 3
    assert await wire.call(key, "ZCARD", key) == 3
    assert await wire.call(key, "PTTL", key) <= 2 * DAY


async def test_a_deadline_that_is_no_number_keeps_the_sweep_from_nobody(
    store: RedisSessionStore, wire: Wire, session: Session, now: int, announced: Announced
) -> None:
    key, other = Keys(session).session, a_session(session.tenant_id, now, user="v")
    await store.create(other, DIGEST, Rules(), now)
    await wire.call(key, "HSET", key, "exp", "soon")
    late = now + 31 * DAY
    assert await store.sweep(await all_due(store, late), {session.tenant_id: Rules()}, late) == 2
    assert await announced.ends() == sorted([(session.id, "expired"), (other.id, "expired")])


async def test_a_turn_without_a_beginning_keeps_the_sweep_from_nobody(
    store: RedisSessionStore, wire: Wire, session: Session, now: int, announced: Announced
) -> None:
    key = Keys(session).due
    await wire.call(key, "ZADD", key, "-inf", session.id)
    assert await store.sweep(await all_due(store, now), {session.tenant_id: Rules()}, now) == 0
    late = now + 31 * DAY
    assert session.id in [due.session_id for due in await all_due(store, late)]


async def test_a_walk_over_a_tenant_does_not_end_where_records_are_missing(
    store: RedisSessionStore, wire: Wire, session: Session, now: int
) -> None:
    later = [a_session(session.tenant_id, now + n, user=session.user_id) for n in range(1, 4)]
    for one in later:
        await store.create(one, DIGEST, Rules(), one.created_at)
    for one in (session, *later[:2]):
        await wire.call(Keys(one).session, "DEL", Keys(one).session)
    walked = await store.tenant_members(session.tenant_id, shard_in(session.id), "", 1)
    assert [member.session_id for member in walked] == [later[2].id]


async def test_a_count_that_is_no_number_costs_nothing_but_that_count(
    store: RedisSessionStore, wire: Wire, session: Session, now: int, announced: Announced
) -> None:
    key, other = Keys(session).counts, a_session(session.tenant_id, now, user=session.user_id)
    await store.create(other, DIGEST, Rules(), now)
    for minute in (now // MINUTE, now // MINUTE + 1):
        await wire.call(key, "HSET", key, f"{session.tenant_id} {minute} user_revoked 0", "many")
    ended = await store.revoke_user(session.tenant_id, session.user_id, None, "user_revoked", Rules(), now + 1)
    assert sorted(ended) == sorted((session.id, other.id))
    await wire.batch(key, [("UNLINK", key), ("SET", key, "rubbish")])
    more = a_session(session.tenant_id, now, user=session.user_id)
    await store.create(more, DIGEST, Rules(), now)
    assert await store.revoke(session.tenant_id, more.id, "revoked", Rules(), now)
    ends = {(session.id, "user_revoked"), (other.id, "user_revoked"), (more.id, "revoked")}
    assert set(await announced.ends()) == ends


@pytest.mark.parametrize("kind", ["ended", "tenant", "due", "events", "endings"])
async def test_an_act_that_meets_a_key_of_another_type_has_changed_nothing(
    store: RedisSessionStore, wire: Wire, session: Session, now: int, kind: str, announced: Announced
) -> None:
    key, me = getattr(Keys(session), kind), (session.tenant_id, session.user_id)
    await wire.call(key, "DEL", key)
    await wire.call(key, "SET", key, "poison")
    with pytest.raises(ResponseError):
        await store.revoke_user(*me, None, "user_revoked", Rules(), now + 1, "admin")
    await wire.call(key, "DEL", key)
    assert await announced.ends() == []
    assert await store.revoke_user(*me, None, "user_revoked", Rules(), now + 2, "admin") == [session.id]
    assert await announced.ends() == [(session.id, "user_revoked")]
