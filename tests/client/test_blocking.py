"""The verifier for code that does not await, from many threads and across a fork."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.client.blocking import BlockingVerifier
from app.client.errors import InvalidApiKey, InvalidToken, SessionError, SessionRevoked
from tests.client.acts import Site


@pytest.fixture(scope="module", params=["valkey_url"])
def redis_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


def _until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def _refused(verifier: BlockingVerifier, token: str) -> bool:
    try:
        verifier.verify(token)
    except SessionRevoked:
        return True
    return False


def test_it_verifies_and_hears_of_revocations(site: Site) -> None:
    session = site.backend.create("usr_1", role="admin")
    with BlockingVerifier(**site.options()) as verifier:
        claims = verifier.verify(session["access_token"])
        assert (claims.user_id, claims.role) == ("usr_1", "admin")
        assert verifier.verify(session["access_token"]) is claims
        assert verifier.ready and not verifier.stale and verifier.lag < 5
        with pytest.raises(InvalidToken):
            verifier.verify("nonsense")
        site.backend.call("DELETE", f"/v1/sessions/{session['session']['id']}")
        _until(lambda: _refused(verifier, session["access_token"]))
    assert not [thread for thread in threading.enumerate() if thread.name == "session_client"]


def test_many_threads_share_one_and_none_sees_a_revoked_session_again(site: Site) -> None:
    sessions = [site.backend.create(f"usr_{number}") for number in range(40)]
    stop = threading.Event()
    with BlockingVerifier(**site.options()) as verifier:

        def hammer(number: int) -> int:
            back = 0
            dead: set[str] = set()
            while not stop.is_set():
                for session in sessions:
                    token = session["access_token"]
                    try:
                        verifier.verify(token)
                        back += token in dead
                    except SessionError:
                        dead.add(token)
            return back + (len(dead) != len(sessions)) * 1_000

        with ThreadPoolExecutor(6) as pool:
            hammering = [pool.submit(hammer, number) for number in range(4)]
            for session in sessions:
                site.backend.call("DELETE", f"/v1/sessions/{session['session']['id']}")
            _until(lambda: all(_refused(verifier, session["access_token"]) for session in sessions))
            time.sleep(0.1)
            stop.set()
            assert [future.result() for future in hammering] == [0] * 4


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # which is what servers that fork do
def test_it_starts_at_its_first_use_and_again_after_a_fork(site: Site) -> None:
    session = site.backend.create()
    verifier = BlockingVerifier(**site.options(max_staleness=1.0))
    assert verifier.verify(session["access_token"]).user_id == "usr_1"
    child = os.fork()
    if child == 0:
        try:
            site.backend.api.http = type(site.backend.api.http)(base_url=site.api.url, trust_env=False)
            site.backend.call("DELETE", f"/v1/sessions/{session['session']['id']}")
            _until(lambda: _refused(verifier, session["access_token"]))
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    _until(lambda: _refused(verifier, session["access_token"]))
    verifier.close()


def test_a_wrong_key_is_told_at_the_start_and_leaves_no_thread(site: Site) -> None:
    if site.redis_url is not None:
        return
    with pytest.raises(InvalidApiKey):
        BlockingVerifier(**site.options(api_key="sk_live_" + "0" * 57)).start()
    assert not [thread for thread in threading.enumerate() if thread.name == "session_client"]
