"""A link that is slower than the events for a while: what lies in buffers on the way is counted, so heartbeats that
were written in time and come late make nothing fresh."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.client.acts import Site, code, until, until_fresh
from tests.faults.proxy import Proxy
from tests.service import Api

RATE = 20_000
STALENESS_S = 5.0


@pytest.fixture(scope="module")
def api(valkey_url: str) -> Iterator[Api]:
    process = Api(valkey_url)
    yield process
    process.stop()


@pytest.mark.slow
async def test_what_lies_in_buffers_on_the_way_makes_a_verifier_stale_in_time(api: Api) -> None:
    async with Proxy(api.port) as link:
        site = Site(api, None, f"http://127.0.0.1:{link.port}")
        gone = await site.create("usr_gone")
        for _ in range(60):
            await site.create("usr_1")
        link.rate = RATE
        async with site.verifier(on_stale="refuse", max_staleness=STALENESS_S, report_every=None) as verifier:
            assert await code(verifier, gone["access_token"]) == "ok"
            for number in range(6):
                await site.call("POST", "/v1/users/usr_1/claims", json={"claims": {"n": number, "pad": "x" * 900}})
                await asyncio.sleep(0.5)
            await site.revoke(gone)
            revoked, seen = time.monotonic(), set()
            while (verdict := await code(verifier, gone["access_token"])) != "session_revoked":
                since = time.monotonic() - revoked
                assert verdict == "verifier_stale" or since < STALENESS_S, f"good {since:.1f} s after its end"
                assert since < 60
                seen.add(verdict)
                await asyncio.sleep(0.02)
            assert "verifier_stale" in seen, "the link was not slow enough to tell"
            await until_fresh(verifier)
            other = await site.create()
            await site.revoke(other)
            await until(verifier, other["access_token"], "session_revoked")
