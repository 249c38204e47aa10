"""The use cases on a real server: what a caller may rely on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from app.client.events import Event
from app.client.redis_address import parse_address
from app.embedded import Embedded
from app.errors import (
    InvalidApiKey,
    RefreshTokenInvalid,
    RefreshTokenReused,
    SessionEnded,
    SessionExpired,
    SessionLimitReached,
    SessionNotFound,
    SessionRevoked,
    TenantNotFound,
    ValidationError,
)
from app.model import DAY, HOUR, MINUTE, SECOND, Tenant, shard_in, shard_of
from app.runtime import Runtime, now_ms, open_runtime
from app.sessions import Issued, NewSession
from app.settings import Settings
from app.store import keyspace
from tests.servers import command

SECRET = b"a secret of forty characters for testing"


def settings(url: str) -> Settings:
    return Settings(
        redis_url=parse_address(url), secret=SECRET, admin_key="mk_live_" + "a" * 40, issuer="https://sessions.example"
    )


@pytest.fixture(params=["single", "cluster"])
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[Runtime]:
    name = "valkey_url" if request.param == "single" else "cluster_url"
    async with open_runtime(settings(request.getfixturevalue(name))) as opened:
        yield opened


@pytest.fixture
async def tenant(runtime: Runtime) -> Tenant:
    return await runtime.tenants.create("Acme", now_ms())


async def active(runtime: Runtime, tenant: Tenant) -> int:
    return (await runtime.sessions.stats(tenant, now_ms())).active


async def sign_in(runtime: Runtime, tenant: Tenant, user: str = "usr_1", now: int | None = None) -> Issued:
    return await runtime.sessions.create(tenant, NewSession(user_id=user), now_ms() if now is None else now)


async def test_a_new_session_verifies_and_says_what_was_given(runtime: Runtime, tenant: Tenant) -> None:
    new = NewSession(user_id="usr_1", role="admin", claims={"plan": "pro"}, user_agent="Mozilla/5.0 (Windows NT 10.0)")
    issued = await runtime.sessions.create(tenant, new, now_ms())
    verified = await runtime.sessions.verify(tenant, now_ms(), token=issued.access_token)
    assert verified.valid and verified.claims is not None and verified.session is not None
    assert verified.claims["role"] == "admin" and verified.claims["plan"] == "pro"
    assert verified.session.device_type == "desktop"
    life = issued.session.expires_at - issued.session.created_at
    assert 30 * DAY - SECOND < life <= 30 * DAY and issued.session.expires_at % SECOND == 0


async def test_a_hundred_parallel_refreshes_make_one_rotation(runtime: Runtime, tenant: Tenant) -> None:
    issued = await sign_in(runtime, tenant)
    assert issued.refresh_token is not None
    answers = await asyncio.gather(*(runtime.sessions.refresh(issued.refresh_token, now_ms()) for _ in range(100)))
    assert len({answer.refresh_token for answer in answers}) == 1
    assert {answer.session.generation for answer in answers} == {1}
    assert (await runtime.sessions.verify(tenant, now_ms(), token=issued.access_token)).valid


async def test_a_lost_reply_is_retried_hours_later(runtime: Runtime, tenant: Tenant) -> None:
    now = now_ms()
    issued = await sign_in(runtime, tenant, now=now)
    lost = await runtime.sessions.refresh(issued.refresh_token or "", now)
    retried = await runtime.sessions.refresh(issued.refresh_token or "", now + 5 * 60 * MINUTE)
    assert retried.refresh_token != lost.refresh_token
    again = await runtime.sessions.refresh(retried.refresh_token or "", now + 6 * 60 * MINUTE)
    assert (retried.session.generation, again.session.generation) == (2, 3)
    with pytest.raises(RefreshTokenReused):
        await runtime.sessions.refresh(lost.refresh_token or "", now + 6 * 60 * MINUTE)


async def test_without_a_grace_each_of_many_tabs_gets_a_fresh_successor(runtime: Runtime, tenant: Tenant) -> None:
    """The last to be numbered is the current one, the others are dead."""
    now = now_ms()
    await runtime.tenants.set_policy(tenant.id, {"refresh_grace": 0}, now)
    issued = await sign_in(runtime, tenant, now=now)
    answers = await asyncio.gather(*(runtime.sessions.refresh(issued.refresh_token or "", now) for _ in range(100)))
    assert sorted(answer.session.generation for answer in answers) == [*range(1, 101)]
    last = max(answers, key=lambda answer: answer.session.generation)
    assert (await runtime.sessions.refresh(last.refresh_token or "", now)).session.generation == 101


async def test_an_old_token_ends_the_session_once(runtime: Runtime, tenant: Tenant) -> None:
    issued = await sign_in(runtime, tenant)
    second = await runtime.sessions.refresh(issued.refresh_token or "", now_ms())
    third = await runtime.sessions.refresh(second.refresh_token or "", now_ms())
    for token in (issued.refresh_token, issued.refresh_token, third.refresh_token):
        with pytest.raises(RefreshTokenReused):
            await runtime.sessions.refresh(token or "", now_ms())
    session = await runtime.sessions.get(tenant, issued.session.id, now_ms())
    assert session.end_reason == "refresh_token_reused"


async def test_a_flipped_bit_anywhere_changes_nothing(runtime: Runtime, tenant: Tenant) -> None:
    issued = await sign_in(runtime, tenant)
    token = issued.refresh_token or ""
    for place in range(len(token)):
        damaged = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(RefreshTokenInvalid):
            await runtime.sessions.refresh(damaged, now_ms())
    assert (await runtime.sessions.refresh(token, now_ms())).session.generation == 1


async def test_another_tenant_neither_reads_nor_consumes(runtime: Runtime, tenant: Tenant) -> None:
    other = await runtime.tenants.create("Other", now_ms())
    issued = await sign_in(runtime, tenant)
    with pytest.raises(RefreshTokenInvalid):
        await runtime.sessions.refresh(issued.refresh_token or "", now_ms(), other.id)
    with pytest.raises(SessionNotFound):
        await runtime.sessions.get(other, issued.session.id, now_ms())
    with pytest.raises(SessionNotFound):
        await runtime.sessions.revoke(other, issued.session.id, "revoked", now_ms())
    assert not (await runtime.sessions.verify(other, now_ms(), token=issued.access_token)).valid
    assert not (await runtime.sessions.verify(other, now_ms(), session_id=issued.session.id)).valid
    assert await runtime.sessions.revoke_user(other, "usr_1", None, "user_revoked", now_ms()) == []
    assert (await runtime.sessions.refresh(issued.refresh_token or "", now_ms(), tenant.id)).session.generation == 1


async def test_expiry_needs_no_worker(runtime: Runtime, tenant: Tenant) -> None:
    now = now_ms()
    issued = await sign_in(runtime, tenant, now=now)
    end = issued.session.expires_at
    assert (await runtime.sessions.verify(tenant, end - 1, session_id=issued.session.id)).valid
    assert (await runtime.sessions.verify(tenant, end, session_id=issued.session.id)).code == "session_expired"
    with pytest.raises(SessionExpired):
        await runtime.sessions.refresh(issued.refresh_token or "", end)
    listed = await runtime.sessions.page(tenant, end, user_id="usr_1", status="expired")
    assert [session.id for session in listed.sessions] == [issued.session.id]


async def test_a_policy_change_is_in_force_within_a_second_and_wakes_no_one(runtime: Runtime, tenant: Tenant) -> None:
    now = now_ms()
    issued = await sign_in(runtime, tenant, now=now)
    await runtime.tenants.set_policy(tenant.id, {"idle_timeout": "10m"}, now)
    changed = await runtime.tenants.get(tenant.id, now + 1_000)
    late = now + 11 * MINUTE
    assert not (await runtime.sessions.verify(changed, late, session_id=issued.session.id)).valid
    longer = (await runtime.tenants.set_policy(tenant.id, {"idle_timeout": "30d"}, late)).after
    verdict = await runtime.sessions.verify(longer, late + 1, session_id=issued.session.id)
    assert not verdict.valid and verdict.code == "session_revoked"


async def test_a_lowered_limit_ends_the_least_recently_active_at_the_next_use(runtime: Runtime, tenant: Tenant) -> None:
    now = now_ms()
    issued = [await sign_in(runtime, tenant, now=now + step) for step in range(5)]
    changed = (await runtime.tenants.set_policy(tenant.id, {"max_sessions_per_user": 2}, now + 10)).after
    verdicts = [
        (await runtime.sessions.verify(changed, now + 20, token=one.access_token)).valid for one in reversed(issued)
    ]
    assert verdicts == [True, True, False, False, False]


async def test_a_lowered_limit_is_carried_out_by_the_worker_on_those_who_do_not_come(
    runtime: Runtime, tenant: Tenant
) -> None:
    now = now_ms()
    for step in range(5):
        await sign_in(runtime, tenant, now=now + step)
    await runtime.tenants.set_policy(tenant.id, {"max_sessions_per_user": 2}, now + 10)
    await runtime.upkeep.apply_policies(lambda: now + 2_000)
    assert (await runtime.sessions.stats(tenant, now + 2_000)).active == 2


async def test_a_single_walk_goes_by_the_policy_and_the_time_as_they_are_then(own_server: Embedded) -> None:
    """It may take minutes, and a limit that was a slip is put right meanwhile: whoever is left is not signed out."""
    async with open_runtime(settings(own_server.url)) as runtime:
        tenant = await runtime.tenants.create("Acme", now_ms())
        for number in range(150):
            await asyncio.gather(*(sign_in(runtime, tenant, f"usr_{number}") for _ in range(3)))
        await runtime.tenants.set_policy(tenant.id, {"max_sessions_per_user": 1}, now_ms())
        begun = now_ms() + 2_000
        clock = itertools.count(begun, MINUTE)
        walk = asyncio.create_task(runtime.upkeep.apply_policies(lambda: next(clock)))
        while await active(runtime, tenant) > 430:
            pass
        await runtime.tenants.set_policy(tenant.id, {"max_sessions_per_user": 10}, now_ms())
        left = await active(runtime, tenant)
        assert await walk == 1
        assert 200 < left <= await active(runtime, tenant) + 8, "no more end than what was under way"
        page = await runtime.sessions.page(tenant, now_ms(), status="revoked", limit=100)
        ended = [session.ended_at or 0 for session in page.sessions]
        assert ended and max(ended) >= begun + 10 * MINUTE


async def test_what_cannot_be_read_of_a_single_tenant_keeps_the_worker_from_no_other(own_server: Embedded) -> None:
    now, late = now_ms(), now_ms() + 31 * DAY
    async with open_runtime(settings(own_server.url)) as runtime, open_runtime(settings(own_server.url)) as worker:
        sound, damaged = [await runtime.tenants.create(name, now) for name in ("Sound", "Damaged")]
        for tenant in (damaged, sound):
            for user in ("usr_1", "usr_1", "usr_1", "usr_2", "usr_2"):
                await sign_in(runtime, tenant, user, now=now)
            await runtime.tenants.set_policy(tenant.id, {"max_sessions_per_user": 1}, now)
        command(own_server, "SET", keyspace.user(shard_of(damaged.id, "usr_1"), damaged.id, "usr_1"), "rubbish")
        assert await worker.upkeep.apply_policies(lambda: now + MINUTE) == 2
        assert (await active(runtime, sound), await active(runtime, damaged)) == (2, 4), "all but one user"
        assert list(await runtime.registry.pending(now + MINUTE + HOUR)) == [damaged.id]
        command(own_server, "HSET", keyspace.tenant(damaged.id), "record", "rubbish")
        assert await worker.upkeep.apply_policies(lambda: now + 2 * HOUR) == 1
        assert [await worker.upkeep.sweep(late) for _ in range(3)][-1] == 0
        assert (await active(runtime, sound), await active(runtime, damaged)) == (0, 4)
        assert await worker.upkeep.sweep(late + MINUTE) == 5
        found = await worker.upkeep.repair(late)
        assert found == {"an unreadable key": 1, "a session whose tenant cannot be read": 5}
        assert [tenant.name for tenant in await runtime.tenants.page("", 10)] == ["Sound"]


@pytest.mark.parametrize("key_of", [keyspace.tenant_index, lambda shard, _: keyspace.cutoff(shard)])
async def test_a_deleted_tenant_is_cleared_though_a_shard_cannot_be_read(
    own_server: Embedded, key_of: Callable[[int, str], str]
) -> None:
    now = now_ms()
    async with open_runtime(settings(own_server.url)) as runtime, open_runtime(settings(own_server.url)) as worker:
        tenant = await runtime.tenants.create("Acme", now)
        issued = [await sign_in(runtime, tenant, f"usr_{number}", now=now) for number in range(40)]
        bad = key_of(shard_of(tenant.id, "usr_0"), tenant.id)
        command(own_server, "SET", bad, "rubbish")
        await runtime.tenants.delete(tenant.id, now + 1)
        for one in issued:
            with pytest.raises((RefreshTokenInvalid, SessionRevoked, TenantNotFound)):
                await runtime.sessions.refresh(one.refresh_token or "", now + 2)
        assert await worker.upkeep.apply_policies(lambda: now + HOUR) == 1
        assert list(await runtime.registry.pending(now + 3 * HOUR)) == [tenant.id], "it is not done yet"
        await worker.upkeep.repair(now + HOUR)
        assert await worker.upkeep.apply_policies(lambda: now + 3 * HOUR) == 1
        assert (await runtime.sessions.stats(tenant, now)).active == 0


async def test_an_end_is_restored_though_its_tenant_cannot_be_read(own_server: Embedded) -> None:
    now = now_ms()
    async with open_runtime(settings(own_server.url)) as runtime, open_runtime(settings(own_server.url)) as witness:
        sound, damaged = [await runtime.tenants.create(name, now) for name in ("Sound", "Damaged")]
        lost = [await sign_in(runtime, tenant, now=now) for tenant in (damaged, sound)]
        command(own_server, "HSET", keyspace.tenant(damaged.id), "record", "rubbish")
        ends = [
            Event(
                id=str(number),
                type="session.revoked",
                tenant_id=tenant.id,
                occurred_at="",
                not_after=0,
                session_id=one.session.id,
                reason="revoked",
            )
            for number, (tenant, one) in enumerate(zip((damaged, sound), lost, strict=True))
        ]
        stuck = await sign_in(runtime, sound, "usr_2", now=now)
        command(own_server, "SET", keyspace.ended(shard_of(sound.id, "usr_2"), sound.id, "usr_2"), "rubbish")
        ends.insert(0, msgspec.structs.replace(ends[1], session_id=stuck.session.id))
        assert await witness.upkeep.restore(ends, now) == ends[:1]
        for tenant, one in zip((damaged, sound), lost, strict=True):
            key = keyspace.user(shard_of(tenant.id, "usr_1"), tenant.id, "usr_1")
            assert command(own_server, "ZSCORE", key, one.session.id) is None


async def test_reject_refuses_the_sign_in_and_ends_no_one(runtime: Runtime, tenant: Tenant) -> None:
    changed = (
        await runtime.tenants.set_policy(tenant.id, {"max_sessions_per_user": 1, "on_limit": "reject"}, now_ms())
    ).after
    first = await sign_in(runtime, changed)
    with pytest.raises(SessionLimitReached):
        await sign_in(runtime, changed)
    assert (await runtime.sessions.verify(changed, now_ms(), token=first.access_token)).valid


async def test_a_tenant_wide_cut_is_dead_at_once_and_later_sign_ins_live(runtime: Runtime, tenant: Tenant) -> None:
    before = [await sign_in(runtime, tenant, f"usr_{n}") for n in range(20)]
    assert await runtime.sessions.revoke_all(tenant, now_ms()) == 20
    after = await sign_in(runtime, tenant)
    verdicts = [(await runtime.sessions.verify(tenant, now_ms(), token=one.access_token)).valid for one in before]
    assert not any(verdicts)
    assert (await runtime.sessions.verify(tenant, now_ms(), token=after.access_token)).valid
    await runtime.upkeep.apply_policies(now_ms)
    assert (await runtime.sessions.stats(tenant, now_ms())).active == 1


async def test_statistics_count_every_creation_and_every_end_by_reason(runtime: Runtime, tenant: Tenant) -> None:
    limited = (await runtime.tenants.set_policy(tenant.id, {"max_sessions_per_user": 2}, now_ms())).after
    issued = [await sign_in(runtime, limited) for _ in range(3)]
    await runtime.sessions.revoke(limited, issued[2].session.id, "signed_out", now_ms())
    await runtime.upkeep.collect(now_ms())
    await runtime.upkeep.collect(now_ms())
    stats = await runtime.sessions.stats(limited, now_ms())
    assert (stats.active, stats.created, stats.ended) == (1, 3, {"evicted": 1, "signed_out": 1})


async def test_a_deleted_tenant_leaves_no_session_and_no_cut_off_behind(runtime: Runtime, tenant: Tenant) -> None:
    now = now_ms()
    for number in range(20):
        await sign_in(runtime, tenant, f"usr_{number}", now)
    await runtime.tenants.delete(tenant.id, now + 1)
    for later in (5_000, 100_000, 200_000):
        await runtime.upkeep.apply_policies(partial(int, now + later))
    assert (await runtime.sessions.stats(tenant, now)).active == 0
    cutoffs = [line for line in (await everything(runtime)).split(b"\n") if line.startswith(b"cutoff ")]
    assert not [line for line in cutoffs if tenant.id.encode() in line]


async def test_claims_change_while_a_session_lives_and_not_after(runtime: Runtime, tenant: Tenant) -> None:
    issued = await sign_in(runtime, tenant)
    changed = await runtime.sessions.update(tenant, issued.session.id, {"role": "owner", "claims": {"x": 1}}, now_ms())
    assert changed.session.role == "owner" and changed.session.claims == {"x": 1}
    await runtime.sessions.revoke(tenant, issued.session.id, "signed_out", now_ms())
    with pytest.raises(SessionEnded):
        await runtime.sessions.update(tenant, issued.session.id, {"role": "member"}, now_ms())
    with pytest.raises(SessionRevoked):
        await runtime.sessions.authenticate(issued.access_token, now_ms())


async def test_api_keys_are_refused_when_damaged_revoked_or_of_a_deleted_tenant(
    runtime: Runtime, tenant: Tenant
) -> None:
    now = now_ms()
    key, text = await runtime.api_keys.create(tenant.id, "backend", now)
    assert (await runtime.api_keys.authenticate(text, now))[1].id == tenant.id
    with pytest.raises(InvalidApiKey):
        await runtime.api_keys.authenticate(text[:-1] + ("0" if text[-1] != "0" else "1"), now)
    _, second = await runtime.api_keys.create(tenant.id, "other", now)
    await runtime.api_keys.revoke(tenant.id, key.id, now)
    with pytest.raises(InvalidApiKey):
        await runtime.api_keys.authenticate(text, now)
    await runtime.tenants.delete(tenant.id, now)
    with pytest.raises(InvalidApiKey):
        await runtime.api_keys.authenticate(second, now)
    with pytest.raises(TenantNotFound):
        await runtime.tenants.get(tenant.id, now)


@pytest.mark.parametrize(
    "changes",
    [
        {"idle_timeout": "10x"},
        {"session_duration": "1s"},
        {"max_sessions_per_user": 0},
        {"max_sessions_per_user": True},
        {"on_limit": "panic"},
        {"refresh_grace": "2m"},
        {"colour": "red"},
        {"access_token_ttl": "1h", "session_duration": "30m"},
    ],
)
async def test_a_bad_policy_changes_nothing(runtime: Runtime, tenant: Tenant, changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        await runtime.tenants.set_policy(tenant.id, changes, now_ms())
    assert (await runtime.tenants.get(tenant.id, now_ms() + 1_000)).policy == tenant.policy


async def test_nothing_usable_lies_in_redis(runtime: Runtime, tenant: Tenant) -> None:
    _, key = await runtime.api_keys.create(tenant.id, "backend", now_ms())
    issued = await sign_in(runtime, tenant)
    refreshed = await runtime.sessions.refresh(issued.refresh_token or "", now_ms())
    secrets = [key[-47:-7], issued.access_token, issued.refresh_token or "", refreshed.refresh_token or ""]
    ring = await runtime.keys.verifiers(now_ms())
    secrets += [str(key.as_dict(private=True)["d"]) for key in ring.values()]
    dump = await everything(runtime)
    assert dump
    assert not [secret for secret in secrets if secret[:40].encode() in dump or secret[-40:].encode() in dump]


async def everything(runtime: Runtime) -> bytes:
    """Every value of every key, as Redis would write it to disk and as plain text."""
    from app.store.wire import open_wire

    wire = await open_wire(runtime.settings.redis_url, 5_000)
    reads = {b"hash": "HGETALL", b"string": "GET", b"zset": "ZRANGE", b"stream": "XRANGE"}
    found: list[bytes] = []
    for keys in await wire.each("KEYS", "hj:*"):
        for key in keys:
            kind = await wire.call(key.decode(), "TYPE", key)
            rest = {b"zset": (0, -1), b"stream": ("-", "+")}.get(kind, ())
            value = repr(await wire.call(key.decode(), reads[kind], key, *rest))
            found.append(f"{key.decode().rpartition(':')[2]} {value}".encode())
    await wire.close()
    return b"\n".join(found)


async def test_what_repair_mends_is_counted_and_announced(tmp_path: Path) -> None:
    with Embedded(tmp_path) as server:
        async with open_runtime(settings(server.url)) as runtime:
            tenant = await runtime.tenants.create("Acme", now_ms())
            issued = await sign_in(runtime, tenant)
            command(server, "DEL", keyspace.session(shard_in(issued.session.id), issued.session.id))
            assert await runtime.upkeep.repair(now_ms()) == {"alive without a record": 1}
            assert await runtime.upkeep.repair(now_ms()) == {}
            assert await runtime.registry.repaired() == {"alive without a record": 1}
            assert (await runtime.sessions.stats(tenant, now_ms())).active == 0
