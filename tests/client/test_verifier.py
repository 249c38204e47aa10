"""The verifier against the running service: on one server and a cluster, following over HTTP and in Redis."""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

import pytest

from app.client.errors import InvalidApiKey
from app.client.verifier import Verifier
from tests.client.acts import ISSUER, Site, code, until, until_claim, until_fresh
from tests.service import Api

POLICY_S = 1.1
"""Every process knows a changed policy after a second."""


async def test_a_good_token_is_read_and_remembered(site: Site) -> None:
    token = (await site.create("usr_7", role="admin", org_id="org_1", claims={"plan": "pro"}))["access_token"]
    async with site.verifier() as verifier:
        claims = await verifier.verify(token)
        assert (claims.user_id, claims.role, claims.org_id, claims["plan"]) == ("usr_7", "admin", "org_1", "pro")
        assert await verifier.verify(token) is claims
        assert verifier.check(token) is claims
        assert verifier.recall(token) is claims
        assert verifier.ready and not verifier.stale and verifier.lag < 5


async def test_a_revoked_session_is_refused_within_milliseconds(site: Site) -> None:
    sessions = [await site.create(f"usr_{number}") for number in range(10)]
    async with site.verifier() as verifier:
        times = []
        for session in sessions:
            assert await code(verifier, session["access_token"]) == "ok"
            await site.revoke(session)
            times.append(await until(verifier, session["access_token"], "session_revoked", 2.0))
    assert statistics.median(times) < 0.1


async def test_what_ended_before_the_start_is_refused_from_the_start(site: Site) -> None:
    gone, alive = await site.create(), await site.create()
    await site.revoke(gone)
    async with site.verifier() as verifier:
        assert await code(verifier, gone["access_token"]) == "session_revoked"
        assert await code(verifier, alive["access_token"]) == "ok"


async def test_an_evicted_session_is_refused(site: Site) -> None:
    await site.call("PATCH", "/v1/admin/config", json={"max_sessions_per_user": 1})
    await asyncio.sleep(POLICY_S)
    first = await site.create("usr_e")
    async with site.verifier() as verifier:
        assert await code(verifier, first["access_token"]) == "ok"
        second = await site.create("usr_e")
        assert second["evicted"] == [first["session"]["id"]]
        await until(verifier, first["access_token"], "session_revoked", 2.0)
        assert await code(verifier, second["access_token"]) == "ok"


async def test_a_revoked_user_and_a_revoked_tenant_are_refused_and_who_comes_later_is_not(site: Site) -> None:
    users = [await site.create("usr_a"), await site.create("usr_a"), await site.create("usr_b")]
    tokens = [user["access_token"] for user in users]
    async with site.verifier() as verifier:
        assert [await code(verifier, token) for token in tokens] == ["ok"] * 3
        await site.call("POST", "/v1/sessions/revoke", json={"user_id": "usr_a"})
        await until(verifier, tokens[0], "session_revoked", 2.0)
        await until(verifier, tokens[1], "session_revoked", 2.0)
        assert await code(verifier, tokens[2]) == "ok"
        await site.call("POST", "/v1/sessions/revoke", json={"all": True})
        await until(verifier, tokens[2], "session_revoked", 2.0)
        assert await code(verifier, (await site.create("usr_b"))["access_token"]) == "ok"


async def test_a_tenant_revoked_before_the_start_is_refused_from_the_start(site: Site) -> None:
    token = (await site.create())["access_token"]
    await site.call("POST", "/v1/sessions/revoke", json={"all": True})
    async with site.verifier() as verifier:
        assert await code(verifier, token) == "session_revoked"


async def test_changed_claims_are_in_force_on_tokens_already_out(site: Site) -> None:
    session = await site.create("usr_1", role="member", org_id="org_1", claims={"plan": "free", "seats": 3})
    token, path = session["access_token"], f"/v1/sessions/{session['session']['id']}"
    async with site.verifier() as verifier:
        assert (await verifier.verify(token)).role == "member"
        changed: dict[str, Any] = {"role": "admin", "org_id": None, "mfa_verified": True, "claims": {"plan": "pro"}}
        fresh = (await site.call("PATCH", path, json=changed))["access_token"]
        claims = await until_claim(verifier, token, "role", "admin", 2.0)
        assert (claims.org_id, claims.mfa_verified, claims["plan"], claims.get("seats")) == (None, True, "pro", None)
        expected = {**(await verifier.verify(fresh)), "jti": claims["jti"], "iat": claims["iat"], "exp": claims["exp"]}
        assert dict(claims) == expected
        await site.call("PATCH", path, json={"role": None})
        await until_claim(verifier, token, "role", None, 2.0)
    async with site.verifier() as late:
        assert (await late.verify(token)).role is None
        assert (await late.verify(token))["plan"] == "pro"


async def test_claims_of_a_user_change_on_all_sessions(site: Site) -> None:
    tokens = [(await site.create("usr_many", role="member"))["access_token"] for _ in range(3)]
    other = (await site.create("usr_other", role="member"))["access_token"]
    async with site.verifier() as verifier:
        for token in [*tokens, other]:
            assert (await verifier.verify(token)).role == "member"
        await site.call("POST", "/v1/users/usr_many/claims", json={"role": "owner"})
        for token in tokens:
            await until_claim(verifier, token, "role", "owner", 2.0)
        assert (await verifier.verify(other)).role == "member"


async def test_two_tenants_know_nothing_of_each_other(api: Api, site: Site) -> None:
    other = Site(api, site.redis_url)
    mine, theirs = await site.create(), await other.create()
    async with site.verifier() as verifier, other.verifier() as second:
        assert await code(verifier, mine["access_token"]) == "ok"
        assert await code(second, theirs["access_token"]) == "ok"
        assert await code(verifier, theirs["access_token"]) == await code(second, mine["access_token"])
        assert await code(second, mine["access_token"]) == "invalid_token"
        await other.call("POST", "/v1/sessions/revoke", json={"all": True})
        await until(second, theirs["access_token"], "session_revoked", 2.0)
        assert await code(verifier, mine["access_token"]) == "ok"


async def test_forged_and_damaged_tokens_are_refused(site: Site) -> None:
    token = (await site.create())["access_token"]
    async with site.verifier() as verifier:
        other = "A" if token[-20] != "A" else "B"
        for forged in ("", "x", token[:-20] + other + token[-19:], token + "=", "a.b." + "c" * 86):
            assert await code(verifier, forged) == "invalid_token"


async def test_hundreds_of_ends_in_the_log_are_all_known_at_the_start(site: Site) -> None:
    await site.call("PATCH", "/v1/admin/config", json={"max_sessions_per_user": 500})
    sessions = await asyncio.gather(*(site.create(f"usr_{number % 4}") for number in range(400)))
    await asyncio.gather(*(site.call("POST", "/v1/sessions/revoke", json={"user_id": f"usr_{n}"}) for n in range(4)))
    async with site.verifier() as verifier:
        verdicts = [await code(verifier, session["access_token"]) for session in sessions]
    assert verdicts == ["session_revoked"] * 400


async def test_more_ends_than_there_is_room_for_make_it_stale_rather_than_forgetful(site: Site) -> None:
    sessions = [await site.create(f"usr_{number}") for number in range(7)]
    async with site.verifier(max_revocations=5, on_stale="refuse") as verifier:
        assert [await code(verifier, session["access_token"]) for session in sessions] == ["ok"] * 7
        for session in sessions[:5]:
            await site.revoke(session)
            await until(verifier, session["access_token"], "session_revoked", 2.0)
        assert await code(verifier, sessions[6]["access_token"]) == "ok"
        await site.revoke(sessions[5])
        await until(verifier, sessions[5]["access_token"], "verifier_stale", 2.0)
        assert await code(verifier, sessions[6]["access_token"]) == "verifier_stale"
        assert await code(verifier, sessions[0]["access_token"]) == "session_revoked"


async def test_a_wrong_api_key_fails_at_the_start(api: Api) -> None:
    site = Site(api, None)
    with pytest.raises(InvalidApiKey):
        await Verifier(**site.options(api_key="sk_live_" + "0" * 57)).start()


async def test_redis_can_be_followed_without_an_api_key(site: Site) -> None:
    if site.redis_url is None:
        with pytest.raises(ValueError, match="API key"):
            Verifier(**site.options(api_key=None))
        return
    session = await site.create()
    async with site.verifier(api_key=None) as verifier:
        assert await code(verifier, session["access_token"]) == "ok"
        await site.revoke(session)
        await until(verifier, session["access_token"], "session_revoked", 2.0)


async def test_a_service_that_comes_later_is_found(api: Api) -> None:
    site = Site(api, None)
    token = (await site.create())["access_token"]
    verifier = Verifier(**site.options(url="http://127.0.0.1:9", start_timeout=0.2, on_stale="refuse"))
    await verifier.start()
    assert not verifier.ready and verifier.stale
    assert await code(verifier, token) == "service_unavailable"
    await verifier.close()
    async with site.verifier() as found:
        await until_fresh(found)


async def test_a_wrong_setting_is_named_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    token = (await site.create())["access_token"]
    async with site.verifier(issuer="https://elsewhere.example") as verifier:
        assert [await code(verifier, token) for _ in range(2)] == ["invalid_token"] * 2
    said = [record.getMessage() for record in caplog.records if "expected were" in record.getMessage()]
    assert len(said) == 1
    assert all(name in said[0] for name in (ISSUER, "https://elsewhere.example", site.backend.tenant_id))
