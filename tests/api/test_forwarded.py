"""Where a request comes from, in every form that proxies write it, and what is no guess of a credential."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from app.api.failures import Failures
from app.api.forwarded import source
from app.model import HOUR, new_session_id
from app.sessions import NewSession
from tests.api.world import World, a_world, bearer

PROXIES = [ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48")]


@pytest.fixture
async def world(valkey_url: str) -> AsyncIterator[World]:
    """A minute with sixty bad credentials of one source, twelve of one key."""
    async with a_world(valkey_url) as found:
        found.door.site.failures = Failures(60, [ip_network("127.0.0.0/8")])
        yield found


@pytest.mark.parametrize(
    ("peer", "said", "expected"),
    [
        ("192.0.2.9", "203.0.113.7", "192.0.2.9"),
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7:51234", "203.0.113.7"),
        ("10.0.0.1", " 203.0.113.7:51234 ,10.0.0.2:443 ", "203.0.113.7"),
        ("10.0.0.1", "[2001:db8::1]:443", "2001:db8::/64"),
        ("10.0.0.1", "[2001:db8::1]", "2001:db8::/64"),
        ("10.0.0.1", "2001:db8::1", "2001:db8::/64"),
        ("10.0.0.1", '"[2001:db8::1]:443"', "2001:db8::/64"),
        ("10.0.0.1", "::ffff:203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "[::ffff:203.0.113.7]:80", "203.0.113.7"),
        ("10.0.0.1", "fe80::1%eth0", "fe80::/64"),
        ("10.0.0.1", "203.0.113.7, [2001:db8:ffff::2]:8443", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7,,", "203.0.113.7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "rubbish", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7:51234:9", "10.0.0.1"),
        ("2001:db8::1", "", "2001:db8::/64"),
        ("::ffff:192.0.2.9", "", "192.0.2.9"),
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
    ],
)
def test_x_forwarded_for(peer: str, said: str, expected: str) -> None:
    headers = {b"x-forwarded-for": said.encode()} if said else {}
    assert source({"type": "http", "client": (peer, 1)}, headers, PROXIES) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("for=203.0.113.7", "203.0.113.7"),
        ("For=203.0.113.7;proto=https;by=10.0.0.1", "203.0.113.7"),
        ('by=10.0.0.1;FOR="203.0.113.7:47011"', "203.0.113.7"),
        ('for="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::/64"),
        ("for=6.6.6.6, for=203.0.113.7", "203.0.113.7"),
        ('for=203.0.113.7;host="a,b;for=6.6.6.6", for=10.0.0.2', "203.0.113.7"),
        ("for=_gazonk", "_gazonk"),
        ('for="_gazonk:_port"', "_gazonk"),
        ("for=unknown", "10.0.0.1"),
        ("proto=https", "10.0.0.1"),
        ("for = 203.0.113.7", "203.0.113.7"),
        ("", "10.0.0.1"),
    ],
)
def test_forwarded(said: str, expected: str) -> None:
    assert source({"type": "http", "client": ("10.0.0.1", 1)}, {b"forwarded": said.encode()}, PROXIES) == expected
    assert source({"type": "http", "client": ("192.0.2.9", 1)}, {b"forwarded": said.encode()}, PROXIES) == "192.0.2.9"


def test_who_invents_the_other_header_gets_nowhere() -> None:
    """A proxy that writes one of both headers may hand on the client's own other one."""
    both = {b"x-forwarded-for": b"6.6.6.6", b"forwarded": b"for=203.0.113.7"}
    same = {b"x-forwarded-for": b"203.0.113.7:1", b"forwarded": b"for=203.0.113.7"}
    assert source({"type": "http", "client": ("10.0.0.1", 1)}, both, PROXIES) == "10.0.0.1"
    assert source({"type": "http", "client": ("10.0.0.1", 1)}, same, PROXIES) == "203.0.113.7"


async def test_several_lines_are_one_list(world: World) -> None:
    """As two proxies in a row may write it: each guesser has a limit of their own."""
    statuses = []
    for number in range(2 * 61):
        hops = [("X-Forwarded-For", f"203.0.113.{number % 2}"), ("X-Forwarded-For", "127.0.0.2")]
        statuses.append(
            (await world.http.get("/v1/me/sessions", headers=[("Authorization", "Bearer x"), *hops])).status_code
        )
    assert statuses == [401] * 120 + [429] * 2


async def test_dead_tokens_that_a_backend_sends_are_no_guesses(world: World) -> None:
    """Users whose sessions are long gone are told to sign in, however many there are."""
    sessions, signed = world.runtime.sessions, world.credentials[0].sent
    codes = set()
    for number in range(400):
        user = f"gone_{number}"
        sid = new_session_id(world.own.id, user, world.now)
        token = sessions._refresh.first(sid, world.own.id, user, bytes(32))
        answer = await world.http.post("/v1/sessions/refresh", json={"refresh_token": token}, headers=signed)
        codes.add((answer.status_code, answer.json()["code"]))
        rubbish = await world.http.post("/v1/sessions/refresh", json={"refresh_token": "rt_x"}, headers=signed)
        codes.add((rubbish.status_code, rubbish.json()["code"]))
    assert codes == {(401, "refresh_token_invalid")}


async def test_what_this_deployment_has_made_is_no_guess(world: World) -> None:
    """Whatever has become of it, and although nobody vouches for it."""
    gone = await world.runtime.tenants.create("gone", world.now)
    issued = await world.runtime.sessions.create(gone, NewSession(user_id="u"), world.now)
    key = (await world.key(gone))[1]
    expired = (await world.key(world.own, world.now - 2 * HOUR, expires_in="1h"))[1]
    await world.runtime.tenants.delete(gone.id, world.now)
    world.runtime.tenants._tenants.forget(gone.id)
    statuses = set()
    for _ in range(400):
        for path, credential in (
            ("/v1/me/sessions", issued.access_token),
            ("/v1/sessions", key),
            ("/v1/sessions", expired),
        ):
            statuses.add((await world.http.get(path, headers=bearer(credential))).status_code)
        body = {"refresh_token": issued.refresh_token}
        statuses.add((await world.http.post("/v1/sessions/refresh", json=body)).status_code)
    assert statuses == {401}
    guesses = [await world.http.post("/v1/sessions/refresh", json={"refresh_token": "rt_x"}) for _ in range(61)]
    assert guesses[-1].status_code == 429, "guesses are still counted"


@pytest.mark.parametrize("blank", [" ", "\t", " \t "])
async def test_blanks_around_a_header_are_no_part_of_its_value(world: World, blank: str) -> None:
    """RFC 9110 §5.5."""
    _, key = await world.key(world.own)
    sent = {"Authorization": f"Bearer {key}{blank}", "X-Tenant-ID": f"{blank}{world.own.id}{blank}"}
    found = await world.http.get("/v1/admin/config", headers=sent)
    assert found.status_code == 200
    more = {"If-Match": found.headers["etag"] + blank, "X-Request-ID": f"r1{blank}"}
    policy = {"max_sessions_per_user": 7}
    changed = await world.http.patch("/v1/admin/config", json=policy, headers=sent | more)
    assert (changed.status_code, changed.headers["x-request-id"]) == (200, "r1"), changed.text
    new = {"user_id": "u9"}
    once = [
        await world.http.post("/v1/sessions", json=new, headers=sent | {"Idempotency-Key": name})
        for name in ("k1", f"k1{blank}")
    ]
    assert len({answer.json()["session"]["id"] for answer in once}) == 1


async def test_browsers_tracing_headers_pass_the_preflight(world: World) -> None:
    world.door.site.origins = frozenset({b"https://app.example"})
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
    answer = await world.http.options("/v1/me/sessions", headers=asked)
    allowed = set(answer.headers["access-control-allow-headers"].split(", "))
    assert allowed >= {"authorization", "traceparent", "tracestate", "baggage", "sentry-trace", "x-request-id"}
