"""What holds while revocations are not known up to date: the configured policy, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator

import pytest

from app.client.errors import VerifierStale
from app.client.verifier import Verifier
from tests.client.acts import Site, code, until, until_fresh, until_stale
from tests.faults.proxy import Proxy
from tests.service import Api

STALENESS_S = 1.0


@pytest.fixture(scope="module", params=["valkey_url"])
def redis_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
async def proxy(site: Site) -> AsyncIterator[Proxy]:
    """Stands before what the verifier follows: the service, or Redis. The service itself stays well."""
    async with Proxy(site.api.port if site.redis_url is None else _port(site.redis_url)) as wire:
        if site.redis_url is None:
            site.url = f"http://127.0.0.1:{wire.port}"
        else:
            site.redis_url = f"redis://127.0.0.1:{wire.port}/0"
        yield wire


def _port(redis_url: str) -> int:
    return int(redis_url.rsplit(":", 1)[1].split("/")[0])


@pytest.mark.parametrize("fault", ["cut", "freeze"])
async def test_refuse_holds_from_max_staleness_on_until_it_has_caught_up(site: Site, proxy: Proxy, fault: str) -> None:
    kept, gone = await site.create("usr_1"), await site.create("usr_2")
    async with site.verifier(on_stale="refuse", max_staleness=STALENESS_S) as verifier:
        tokens = kept["access_token"], gone["access_token"]
        for token in tokens:
            await until(verifier, token, "ok")
        proxy.cut() if fault == "cut" else proxy.freeze()
        await site.revoke(gone)
        waited = await until(verifier, tokens[1], "verifier_stale", STALENESS_S + 0.2)
        assert waited <= STALENESS_S + 0.2 and verifier.lag >= STALENESS_S
        assert await code(verifier, tokens[0]) == "verifier_stale"
        with pytest.raises(VerifierStale):
            verifier.check(tokens[0])
        proxy.heal()
        await until_fresh(verifier)
        assert [await code(verifier, token) for token in tokens] == ["ok", "session_revoked"]


async def test_allow_goes_on_with_what_is_known(site: Site, proxy: Proxy) -> None:
    known, gone, new = await site.create("usr_1"), await site.create("usr_2"), await site.create("usr_3")
    async with site.verifier(on_stale="allow", max_staleness=STALENESS_S) as verifier:
        await until(verifier, known["access_token"], "ok")
        await site.revoke(known)
        await until(verifier, known["access_token"], "session_revoked")
        proxy.cut()
        await site.revoke(gone)
        await until_stale(verifier)
        verdicts = [await code(verifier, session["access_token"]) for session in (known, gone, new)]
        assert verdicts == ["session_revoked", "ok", "ok"]
        assert verifier.check(new["access_token"]).user_id == "usr_3"
        proxy.heal()
        await until(verifier, gone["access_token"], "session_revoked")


async def test_ask_hears_from_the_service_what_it_could_not_follow(site: Site, proxy: Proxy) -> None:
    """Where the feed alone is away (Redis cannot be reached, the service can), the service is asked."""
    kept = await site.create("usr_1", role="member", claims={"plan": "free"})
    gone = await site.create("usr_2")
    async with site.verifier(max_staleness=STALENESS_S) as verifier:
        for session in (kept, gone):
            await until(verifier, session["access_token"], "ok")
        proxy.cut()
        await site.revoke(gone)
        change = {"role": "admin", "claims": {"plan": "pro"}}
        await site.call("PATCH", f"/v1/sessions/{kept['session']['id']}", json=change)
        await until_stale(verifier)
        if site.redis_url is None:
            assert await code(verifier, kept["access_token"]) == "service_unavailable"
            assert await code(verifier, gone["access_token"]) == "service_unavailable"
        else:
            claims = await verifier.verify(kept["access_token"])
            assert (claims.role, claims["plan"]) == ("admin", "pro")
            assert await code(verifier, gone["access_token"]) == "session_revoked"
        with pytest.raises(VerifierStale):
            verifier.check(kept["access_token"])


async def test_a_service_that_dies_leaves_the_policy(valkey_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "session_client")
    api = Api(valkey_url)
    site = Site(api, None)
    token = (await site.create())["access_token"]
    async with (
        site.verifier(max_staleness=STALENESS_S, on_stale="ask") as asking,
        site.verifier(max_staleness=STALENESS_S, on_stale="refuse") as refusing,
        site.verifier(max_staleness=STALENESS_S, on_stale="allow") as allowing,
    ):
        for verifier in (asking, refusing, allowing):
            await until(verifier, token, "ok")
        await asyncio.to_thread(api.stop, signal.SIGKILL)
        await until(asking, token, "service_unavailable", STALENESS_S + 0.2)
        await until(refusing, token, "verifier_stale", 0.5)
        await until_stale(allowing)
        assert await code(allowing, token) == "ok"
    assert "the event stream broke" in caplog.text


async def test_what_a_slow_reading_says_is_as_old_as_its_beginning(site: Site, proxy: Proxy) -> None:
    """Over a wire so slow that one pass over the log takes longer than `max_staleness`."""
    if site.redis_url is None:
        return
    proxy.delay_s = 0.05
    async with site.verifier(on_stale="refuse", max_staleness=STALENESS_S, start_timeout=60) as verifier:
        assert verifier.ready and verifier.lag > STALENESS_S and verifier.stale


async def test_a_blocked_event_loop_makes_it_stale_for_as_long_as_it_was_blocked(site: Site) -> None:
    """Nothing that lay in the kernel meanwhile counts as news."""
    token = (await site.create())["access_token"]
    async with site.verifier(on_stale="refuse", max_staleness=STALENESS_S) as verifier:
        await until(verifier, token, "ok")
        _block(2 * STALENESS_S)
        assert await code(verifier, token) == "verifier_stale"
        await until(verifier, token, "ok")


def _block(seconds: float) -> None:
    time.sleep(seconds)


async def test_a_wall_clock_that_was_ahead_for_a_while_costs_no_revocation(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By that clock the entry was past its time when it came, so it was not kept."""
    kept, gone = await site.create("usr_1"), await site.create("usr_2")
    async with site.verifier(on_stale="refuse", max_staleness=10.0) as verifier:
        with monkeypatch.context() as turned:
            turned.setattr("app.client.verifier._now", lambda: time.time() + 2 * 86_400)
            await site.revoke(gone)
            await until(verifier, gone["access_token"], "token_expired")
            await asyncio.sleep(4)
        await until(verifier, gone["access_token"], "session_revoked")
        await until(verifier, kept["access_token"], "ok")
        assert await code(verifier, gone["access_token"]) == "session_revoked"


async def test_a_start_that_is_cancelled_leaves_nothing_running(site: Site, proxy: Proxy) -> None:
    proxy.freeze()
    before = asyncio.all_tasks()
    verifier = Verifier(**site.options(on_stale="refuse", report_every=None))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await verifier.start()
    proxy.heal()
    assert [task for task in asyncio.all_tasks() - before if "/app/client/" in repr(task)] == []
