"""One suite over both clients: the same requests to a Python and a Node server that protect themselves get the same
status, headers and problem document."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.client.pairs import Start, options
from tests.service import Api, Backend


@pytest.fixture(scope="module")
def api(valkey_url: str) -> Iterator[Api]:
    process = Api(valkey_url)
    yield process
    process.stop()


@pytest.fixture(scope="module")
def backend(api: Api) -> Backend:
    return api.tenant()


# roles and other rules of access


def test_a_role_is_required_in_both(backend: Backend, start_shared: Start) -> None:
    pair = start_shared(options(backend), role="admin")
    member, admin, nobody = (backend.create(role=role)["access_token"] for role in ("member", "admin", None))
    assert pair.code(admin) == (200, "usr_1")
    for token in (member, nobody):
        status, headers, said = pair.ask(token)
        assert (status, said["code"]) == (403, "insufficient_role")
        assert headers["www-authenticate"] == 'Bearer realm="sessions", error="insufficient_scope"'
    assert pair.code() == (401, "missing_token")


def test_a_session_is_optional_in_both_and_a_bad_token_is_still_refused(backend: Backend, start_shared: Start) -> None:
    pair = start_shared(options(backend), required=False, public=["/health"])
    assert pair.code() == (200, None)
    assert pair.code(backend.create()["access_token"]) == (200, "usr_1")
    assert pair.code("x") == (401, "invalid_token")
    assert pair.code(headers=[("Authorization", "Basic eDp5")]) == (401, "missing_token")


def test_public_paths_are_the_same_in_both(backend: Backend, start_shared: Start) -> None:
    pair = start_shared(options(backend), public=["/health"])
    for path in ("/health", "/health?verbose"):
        assert pair.code(path=path) == (200, None)
    for path in ("/", "/health/", "/health2", "//health", "/HEALTH"):
        assert pair.code(path=path) == (401, "missing_token")


def test_every_refusal_is_the_same_in_both(backend: Backend, start_shared: Start) -> None:
    pair = start_shared(options(backend), public=["/health"])
    good, gone = backend.create()["access_token"], backend.create()
    foreign = backend.api.tenant().create()["access_token"]
    assert backend.call("DELETE", f"/v1/sessions/{gone['session']['id']}").status_code == 204
    pair.until(gone["access_token"], "session_revoked")
    assert pair.code(good) == (200, "usr_1")
    assert pair.ask(gone["access_token"])[2]["code"] == "session_revoked"
    for token in ("x", foreign, "a.b.c", good[:-1], good + "="):
        assert pair.code(token) == (401, "invalid_token")
    for sent in ("Bearer", "Bearer a b", f"Bearer {good}, Bearer {good}", f"Bearer\t{good}"):
        assert pair.code(headers=[("Authorization", sent)]) == (401, "invalid_token")
    for sent in ("Basic eDp5", "Beare", ""):
        assert pair.code(headers=[("Authorization", sent)]) == (401, "missing_token")
    assert pair.code(headers=[("Authorization", f"bEARER  {good}")]) == (200, "usr_1")
    assert pair.ask(good, method="HEAD")[0] == 200


def test_two_authorization_headers_are_refused_in_both(backend: Backend, start_shared: Start) -> None:
    pair = start_shared(options(backend), public=["/health"])
    mine, other = backend.create()["access_token"], backend.create("usr_2")["access_token"]
    for second in (other, mine, "x"):
        sent = [("Authorization", f"Bearer {mine}"), ("authorization", f"Bearer {second}")]
        assert pair.code(headers=sent) == (401, "invalid_token")


def test_a_preflight_passes_in_both_and_nothing_that_only_resembles_one(backend: Backend, start_shared: Start) -> None:
    pair = start_shared(options(backend), public=["/health"])
    origin, wanted = ("Origin", "https://app.example"), ("Access-Control-Request-Method", "GET")
    assert pair.code(method="OPTIONS", headers=[origin, wanted]) == (200, None)
    for method, headers in (("OPTIONS", [origin]), ("OPTIONS", [wanted]), ("GET", [origin, wanted])):
        assert pair.code(method=method, headers=headers) == (401, "missing_token")


# options and clocks


def test_blanks_at_the_ends_of_options_are_no_part_of_them(backend: Backend, start: Start) -> None:
    given = {name: f" {value}\n" for name, value in options(backend).items()}
    assert start(given).code(backend.create()["access_token"]) == (200, "usr_1")


@pytest.mark.parametrize(("ahead", "verdict"), [(-59, "good"), (59, "good"), (-63, "invalid_token")])
def test_a_clock_may_be_a_minute_behind_the_service(backend: Backend, start: Start, ahead: int, verdict: str) -> None:
    pair = start(options(backend), clock=ahead)
    pair.until(backend.create()["access_token"], verdict, 0.5)


def test_a_clock_that_is_ahead_ends_tokens_so_much_earlier(backend: Backend, start: Start) -> None:
    created = backend.create()
    lifetime = created["expires_in"]
    assert start(options(backend), clock=lifetime - 30).code(created["access_token"]) == (200, "usr_1")
    assert start(options(backend), clock=lifetime + 1).code(created["access_token"]) == (401, "token_expired")


# a service that hangs


def test_a_service_that_hangs_costs_one_wait_and_one_line_of_log(valkey_url: str, start: Start) -> None:
    api = Api(valkey_url)
    try:
        backend = api.tenant()
        token = backend.create()["access_token"]
        pair = start(options(backend, max_staleness=2.5))
        pair.until(token, "good")
        api.child.send_signal(signal.SIGSTOP)
        pair.until(token, "service_unavailable", 30)
        began, waits = time.monotonic(), []
        while time.monotonic() < began + 8:
            for app in pair.apps:
                asked = time.monotonic()
                assert app.code(token) == "service_unavailable"
                waits.append(time.monotonic() - asked)
        assert max(waits) < 1 and len(waits) > 100
        for app in pair.apps:
            (begins,) = app.outages()
            assert "is not available" in begins
        api.child.send_signal(signal.SIGCONT)
        pair.until(token, "good", 30)
        for app in pair.apps:
            end = time.monotonic() + 20  # until the event stream is back too
            while len(app.outages()) < 2 and time.monotonic() < end:
                time.sleep(0.1)
            _, ends = app.outages()
            assert "available again" in ends
    finally:
        api.child.send_signal(signal.SIGCONT)
        api.stop()
