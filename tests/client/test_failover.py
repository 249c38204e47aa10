"""One address for two servers: the replica becomes the primary, and every connection to the old one stays open."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.client.acts import Site, code, until
from tests.faults.pair import Pair
from tests.servers import wait_until
from tests.service import Api

pytestmark = pytest.mark.slow
STALENESS_S = 5.0
PROMPT_S = 0.5
"""Well below the two seconds after which the service looks at the log without having been told."""


@pytest.mark.parametrize("way", ["http", "redis"])
async def test_a_verifier_does_not_trust_the_silence_of_the_old_primary(tmp_path: Path, way: str) -> None:
    async with Pair(tmp_path) as pair:
        api = await asyncio.to_thread(Api, pair.url, HELLOJOHN_LOG="error")
        try:
            site = await asyncio.to_thread(Site, api, pair.url if way == "redis" else None)
            kept, gone, *more = [await site.create(f"usr_{number}") for number in range(5)]
            async with site.verifier(on_stale="refuse", max_staleness=STALENESS_S) as verifier:
                assert [await code(verifier, session["access_token"]) for session in (kept, gone)] == ["ok", "ok"]
                await asyncio.to_thread(pair.fail_over)
                await asyncio.to_thread(wait_until, lambda: _revoked(site, gone), "the new primary to be found", 5)
                acknowledged = time.monotonic()
                while await code(verifier, gone["access_token"]) == "ok":
                    assert time.monotonic() < acknowledged + STALENESS_S + 0.2
                    await asyncio.sleep(0.01)
                await until(verifier, gone["access_token"], "session_revoked")
                await until(verifier, kept["access_token"], "ok")
                await asyncio.sleep(3)
                for session in more:
                    await site.revoke(session)
                    await until(verifier, session["access_token"], "session_revoked", PROMPT_S)
                assert await code(verifier, kept["access_token"]) == "ok"
        finally:
            api.stop()


def _revoked(site: Site, session: dict[str, dict[str, str]]) -> bool:
    return site.backend.call("DELETE", f"/v1/sessions/{session['session']['id']}").status_code == 204
