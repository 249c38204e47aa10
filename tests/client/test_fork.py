"""Client objects in a forked child: stale until they follow by themselves, and nothing of the parent's is used."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable

import pytest

from app.client.blocking import BlockingVerifier
from app.client.errors import SessionRevoked, VerifierStale
from app.client.verifier import Verifier
from tests.client.acts import Site, code
from tests.client.test_activity import _calls

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(scope="module", params=["valkey_url"])
def redis_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


def in_child(act: Callable[[], None], before: Callable[[], object] = lambda: None) -> int:
    """Fork, do something in the parent, then act in the child; 0 if that ends well."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.read(reader, 1)
            act()
            status = 0
        finally:
            os._exit(status)
    try:
        before()
    finally:
        os.write(writer, b"x")
        os.close(writer)
        os.close(reader)
    end = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(child, 9)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1])


def test_a_blocking_verifier_in_a_child_never_accepts_what_was_revoked_since(site: Site) -> None:
    session = site.backend.create()
    token, path = session["access_token"], f"/v1/sessions/{session['session']['id']}"
    verifier = BlockingVerifier(**site.options(max_staleness=30.0))
    assert verifier.verify(token) is verifier.verify(token)

    def refused() -> None:
        with pytest.raises(SessionRevoked):
            verifier.verify(token)
        assert verifier.ready and not verifier.stale

    assert in_child(refused, lambda: site.backend.call("DELETE", path)) == 0
    verifier.close()


def test_a_lock_that_another_thread_held_at_the_fork_does_not_block_the_child(site: Site) -> None:
    token = site.backend.create()["access_token"]
    verifier = BlockingVerifier(**site.options())
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with verifier._lock:
            held.set()
            free.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def verifies() -> None:
        assert verifier.verify(token).user_id == "usr_1"

    assert in_child(verifies) == 0
    free.set()
    thread.join()


async def test_a_verifier_in_a_child_is_stale_and_reports_nothing_until_it_is_started_there(site: Site) -> None:
    token = (await site.create())["access_token"]
    async with site.verifier(on_stale="refuse", report_every=60.0, max_staleness=30.0) as verifier:
        assert await code(verifier, token) == "ok"
        before = await _calls(site)

        async def look() -> None:
            assert verifier.stale and not verifier.ready
            with pytest.raises(VerifierStale):
                verifier.check(token)

        async def follow() -> None:
            assert await code(verifier, token) == "verifier_stale"
            await verifier.start()
            assert verifier.ready and await code(verifier, token) == "ok"
            await verifier.close()

        assert in_child(lambda: asyncio.run(look())) == 0
        assert in_child(lambda: asyncio.run(verifier.close())) == 0
        assert await _calls(site) == before
        assert in_child(lambda: asyncio.run(follow())) == 0
        assert await _calls(site) == before + 1  # of the child's own
        assert await code(verifier, token) == "ok" and not verifier.stale
    assert await _calls(site) == before + 2


async def test_a_verifier_that_a_child_asks_with_has_connections_of_its_own(site: Site) -> None:
    token = (await site.create())["access_token"]
    async with site.verifier(max_staleness=30.0, api_key=site.backend.key, on_stale="ask") as verifier:
        assert await code(verifier, token) == "ok"
        parents = verifier._http

        async def ask() -> None:
            assert await code(verifier, token) == "ok"
            assert verifier._http is not parents

        assert in_child(lambda: asyncio.run(ask())) == 0


async def test_a_closed_verifier_says_so_and_can_be_started_again(site: Site) -> None:
    session, other = await site.create(), await site.create()
    verifier = Verifier(**site.options())
    for _ in range(2):
        async with verifier:
            assert verifier.ready and await code(verifier, session["access_token"]) == "ok"
            with pytest.raises(RuntimeError, match="started already"):
                await verifier.start()
        assert verifier.stale and not verifier.ready
        assert await code(verifier, session["access_token"]) == "service_unavailable"
    await site.revoke(other)
    async with verifier:
        assert await code(verifier, other["access_token"]) == "session_revoked"
    blocking = BlockingVerifier(**site.options())
    for _ in range(2):
        with blocking:
            await asyncio.to_thread(blocking.verify, session["access_token"])
