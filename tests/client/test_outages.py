"""The feed cut while sessions end by the hundred, the API and Redis killed in between, the verifier's process stopped:
afterwards not one revoked token passes, and meanwhile the policy holds."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis import Redis

from app.client.shards import log_key
from app.client.verifier import Verifier
from app.embedded import Embedded
from app.model import shard_in
from tests.client.acts import ISSUER, Site, code, until, until_fresh, verdicts
from tests.faults.proxy import Proxy
from tests.service import ROOT, Api

FULL = os.environ.get("FAULTS") == "full"
GONE, KEPT = (10_000, 1_000) if FULL else (300, 100)
OUTAGE_S = 30.0 if FULL else 4.0
STALENESS_S = 2.5


class Outage:
    """A service whose verifiers follow through proxies, so that the wire can be cut and processes replaced."""

    def __init__(self, server: Embedded, direct: bool) -> None:
        self.server, self.direct = server, direct
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Outage:
        self.api = await asyncio.to_thread(Api, self.server.url)
        self._stack.callback(lambda: self.api.stop(signal.SIGKILL))
        self.web = await self._stack.enter_async_context(Proxy(self.api.port))
        self.redis = await self._stack.enter_async_context(Proxy(self.server.port))
        redis_url = f"redis://127.0.0.1:{self.redis.port}/0" if self.direct else None
        self.site = Site(self.api, redis_url, f"http://127.0.0.1:{self.web.port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def cut(self) -> None:
        self.web.cut()
        self.redis.cut()

    def heal(self) -> None:
        self.web.heal()
        self.redis.heal()

    async def restart(self) -> None:
        """Kill both; on return both serve again."""
        await asyncio.to_thread(self.api.stop, signal.SIGKILL)
        await asyncio.to_thread(self.server.stop, crash=True)
        await asyncio.to_thread(self.server.start)
        self.api = await asyncio.to_thread(Api, self.server.url)
        self.web.target = self.api.port
        self.site.backend.api = self.api


@pytest.fixture(params=["http", "redis"])
async def outage(request: pytest.FixtureRequest, own_server: Embedded) -> AsyncIterator[Outage]:
    async with Outage(own_server, request.param == "redis") as there:
        yield there


async def _sessions(site: Site, count: int) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    while len(made) < count:
        some = (site.create(f"usr_{number}") for number in range(len(made), min(count, len(made) + 50)))
        made += await asyncio.gather(*some)
    return made


async def _revoke(site: Site, sessions: list[dict[str, Any]]) -> None:
    for first in range(0, len(sessions), 50):
        await asyncio.gather(*(site.revoke(session) for session in sessions[first : first + 50]))


@pytest.mark.slow
async def test_after_an_outage_not_one_revoked_token_passes(outage: Outage) -> None:
    site = outage.site
    sessions = await _sessions(site, GONE + KEPT)
    gone, kept = sessions[:GONE], sessions[GONE:]
    async with site.verifier(on_stale="refuse", max_staleness=STALENESS_S, max_tokens=len(sessions)) as verifier:
        assert await verdicts(verifier, sessions) == {"ok"}
        outage.cut()
        began = time.monotonic()
        watch = asyncio.create_task(_stays_stale(verifier, gone[0]["access_token"], began))
        third = len(gone) // 3
        await _revoke(site, gone[:third])
        await outage.restart()
        await _revoke(site, gone[third : 2 * third])
        await outage.restart()
        await _revoke(site, gone[2 * third :])
        await asyncio.sleep(max(0.0, began + OUTAGE_S - time.monotonic()))
        assert not watch.done(), watch
        watch.cancel()
        outage.heal()
        await until_fresh(verifier)
        assert await verdicts(verifier, gone) == {"session_revoked"}
        assert await verdicts(verifier, kept) == {"ok"}


async def _stays_stale(verifier: Verifier, token: str, cut_at: float) -> None:
    """While the wire is cut, after the last moment at which anything could have been known: no answer but the
    policy's."""
    while True:
        late, verdict = time.monotonic() > cut_at + STALENESS_S + 0.1, await code(verifier, token)
        assert verdict == "verifier_stale" or not late
        await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_revocations_between_many_short_breaks_are_all_heard(outage: Outage) -> None:
    site = outage.site
    sessions = await _sessions(site, 60)
    async with site.verifier(on_stale="refuse") as verifier:
        assert await verdicts(verifier, sessions) == {"ok"}
        for first in range(0, 60, 10):
            outage.cut()
            await _revoke(site, sessions[first : first + 5])
            outage.heal()
            await _revoke(site, sessions[first + 5 : first + 10])
        for session in sessions:
            await until(verifier, session["access_token"], "session_revoked")


@pytest.mark.slow
async def test_a_log_that_lost_writes_is_read_anew(outage: Outage) -> None:
    """The verifier has seen an entry, of a primary whose clock was 30 s ahead, that the server no longer has. What is
    written afterwards, under older ids, is heard all the same; and what was heard stays."""
    site, server = outage.site, outage.server
    heard, lost, later = [await site.create("usr_1") for _ in range(3)]
    async with site.verifier(on_stale="refuse", max_staleness=STALENESS_S) as verifier:
        await site.revoke(heard)
        await until(verifier, heard["access_token"], "session_revoked")
        await asyncio.sleep(0.2)
        log = next(iter(sorted(server.folder.glob("appendonlydir/*.incr.aof"))))
        length = log.stat().st_size
        await asyncio.to_thread(_end_ahead, server, site, lost["session"]["id"])
        await until(verifier, lost["access_token"], "session_revoked")
        await asyncio.sleep(2.5)
        await asyncio.to_thread(server.stop, crash=True)
        with log.open("r+b") as file:
            file.truncate(length)
        await asyncio.to_thread(server.start)
        await until_fresh(verifier)
        await site.revoke(later)
        await until(verifier, later["access_token"], "session_revoked", 5.0)
        for session in (heard, lost):
            assert await code(verifier, session["access_token"]) == "session_revoked"


def _end_ahead(server: Embedded, site: Site, session_id: str) -> None:
    """An entry as a primary would have written it whose clock is 30 s ahead."""
    now = int(time.time())
    entry = {
        "t": "session.revoked", "n": site.backend.tenant_id, "u": "usr_1", "s": session_id, "r": "revoked",
        "at": str(now * 1_000), "na": str(now + 3_600),
    }  # fmt: skip
    words = [word for pair in entry.items() for word in pair]
    with Redis(port=server.port) as client:
        client.execute_command("XADD", log_key(shard_in(session_id)), f"{(now + 30) * 1_000}-0", *words)


class Child:
    """A verifier in a process of its own (`tests/client/watcher.py`), which says how its verdict on a token changes."""

    @classmethod
    async def start(cls, site: Site, token: str) -> Child:
        words = [site.url, site.backend.tenant_id, site.backend.key, ISSUER, site.redis_url or "", token]
        child = cls()
        child.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.client.watcher", *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        return child

    process: asyncio.subprocess.Process

    async def verdict(self) -> tuple[str, float]:
        """The next change, and the wall-clock time of the last `ok` before it."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 20)
        verdict, last_ok = line.decode().split()
        return verdict, float(last_ok)

    async def stop(self) -> None:
        self.process.kill()
        await self.process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("wire", ["whole", "frozen"])
async def test_a_process_that_was_stopped_wakes_up_stale(outage: Outage, wire: str) -> None:
    """Stopped for longer than `max_staleness`. With the wire frozen before the revocation, heartbeats from before it
    lie in the kernel when the process wakes: they count for nothing."""
    site = outage.site
    session = await site.create()
    child = await Child.start(site, session["access_token"])
    try:
        assert (await child.verdict())[0] == "ok"
        await asyncio.sleep(0.5)
        child.process.send_signal(signal.SIGSTOP)
        stopped = time.time()
        await asyncio.sleep(3.0)
        if wire == "frozen":
            outage.web.freeze()
            outage.redis.freeze()
        await site.revoke(session)
        await asyncio.sleep(0.2)
        child.process.send_signal(signal.SIGCONT)
        verdict, last_ok = await child.verdict()
        assert verdict in ("verifier_stale", "session_revoked")
        assert last_ok < stopped + 0.1
        await asyncio.sleep(1.0 if wire == "frozen" else 0.0)
        outage.heal()
        while verdict != "session_revoked":
            verdict, last_ok = await child.verdict()
            assert verdict != "ok"
    finally:
        await child.stop()
