"""Two tenants with everything that a call can name, and every credential that one can carry."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from app.api.call import Site
from app.api.http import Door
from app.api.logs import Log
from app.api.metrics import Metrics
from app.api.operations import OPERATIONS
from app.apikeys import checksum
from app.model import DAY, HOUR, SCOPES, Tenant, new_id, new_session_id
from app.runtime import Runtime, now_ms, open_runtime
from app.sessions import Issued, NewSession
from app.settings import Settings
from tests.service import ADMIN_KEY, environment

OF_OUR_PAGES = {"X-Requested-With": "hellojohn-dashboard", "Sec-Fetch-Site": "same-origin"}
FOREIGN_MARK = "only-of-the-other-tenant"


@dataclass
class Credential:
    """`kind`: whom it stands for; `refused`: the code it gets wherever a credential is looked at. `door`: what comes
    before the path of a call, if it is not the public API's."""

    name: str
    kind: str
    sent: dict[str, str] = field(default_factory=dict)
    refused: str | None = None
    scopes: frozenset[str] = frozenset()
    tenant: str = "own"
    door: str = ""


@dataclass
class World:
    runtime: Runtime
    door: Door
    http: httpx.AsyncClient
    own: Tenant
    foreign: Tenant
    now: int
    credentials: list[Credential] = field(default_factory=list)

    def tenant(self, whose: str) -> Tenant:
        return self.foreign if whose == "foreign" else self.own

    async def session(self, whose: str, user_id: str = "u1") -> Issued:
        tenant = self.tenant(whose)
        details: dict[str, Any] = {"role": FOREIGN_MARK} if tenant is self.foreign else {}
        return await self.runtime.sessions.create(tenant, NewSession(user_id=user_id, **details), self.now)

    async def session_id(self, whose: str) -> str:
        """`neighbour`: another user's of the same tenant."""
        if whose == "random":
            return new_session_id(self.own.id, "u1", self.now)
        issued = await self.session(whose, "u2" if whose == "neighbour" else "u1")
        return issued.session.id

    async def call(self, method: str, path: str, credential: Credential, **more: Any) -> httpx.Response:
        headers = {**credential.sent, **more.pop("headers", {})}
        if credential.door and method == "DELETE" and path.startswith("/v1/admin/tenants/"):
            headers["X-Confirm"] = "t"  # the name of all that the rows make
        path = credential.door + path if path.startswith("/v1/") else path
        return await self.http.request(method, path, headers=headers, **more)

    async def key(self, tenant: Tenant, created: int | None = None, **more: Any) -> tuple[str, str]:
        """Id and text."""
        key, text = await self.runtime.api_keys.create(tenant.id, "k", created or self.now, **more)
        return key.id, text


@asynccontextmanager
async def a_world(redis_url: str, clock: Callable[[], int] | None = None, /, **more: str) -> AsyncIterator[World]:
    """On a clock that stands still, unless it is given another."""
    settings = Settings.from_env(environment(redis_url, HELLOJOHN_ISSUER="https://sessions.example", **more))
    now = now_ms()
    clock = clock or (lambda: now)
    async with open_runtime(settings, clock) as runtime:
        door = Door(OPERATIONS, Site(Metrics(), b"{}", b"", runtime), clock, Log("error"))
        transport = httpx.ASGITransport(door)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
            own = await runtime.tenants.create("own", now)
            foreign = await runtime.tenants.create(FOREIGN_MARK, now)
            world = World(runtime, door, http, own, foreign, now)
            world.credentials = [*await _keys(world), *await _users(world), *_admins(world), *_broken()]
            world.credentials += await _cookies(world)
            yield world


def bearer(text: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}", **more}


async def _keys(world: World) -> list[Credential]:
    """Good ones of every scope, and every way in which a key can be no good."""
    everything = frozenset[str](SCOPES)
    _, whole = await world.key(world.own)
    _, theirs = await world.key(world.foreign)
    dead_id, revoked = await world.key(world.own)
    await world.runtime.api_keys.revoke(world.own.id, dead_id, world.now)
    _, expired = await world.key(world.own, world.now - DAY, expires_in="1h")
    _, mode = await world.key(world.own, mode="test")
    ended = await world.runtime.tenants.create("ended", world.now)
    _, orphan = await world.key(ended)
    await world.runtime.tenants.delete(ended.id, world.now)
    found = [
        Credential("key", "key", bearer(whole), scopes=everything),
        Credential("key and its tenant", "key", bearer(whole, **{"X-Tenant-ID": world.own.id}), scopes=everything),
        Credential("test key", "key", bearer(mode), scopes=everything),
        Credential("foreign key", "key", bearer(theirs), scopes=everything, tenant="foreign"),
        *(
            Credential(
                f"key for {name}", "key", bearer(whole, **{"X-Tenant-ID": tenant}), "tenant_mismatch", everything
            )
            for name, tenant in (("a foreign tenant", world.foreign.id), ("no tenant", new_id("tnt")), ("rubbish", "x"))
        ),
    ]
    for scope in SCOPES:
        _, text = await world.key(world.own, scopes=frozenset({scope}))
        found.append(Credential(f"key: {scope}", "key", bearer(text), scopes=frozenset({scope})))
    bad = {
        "unknown key": _unknown(whole),
        "wrong secret": _wrong_secret(whole),
        "wrong checksum": whole[:-1] + ("0" if whole[-1] != "0" else "1"),
        "half a key": "sk_live_x",
        "revoked key": revoked,
        "expired key": expired,
        "key of an ended tenant": orphan,
    }
    return found + [Credential(name, "key", bearer(text), "invalid_api_key") for name, text in bad.items()]


async def _users(world: World) -> list[Credential]:
    sessions = world.runtime.sessions
    good, theirs, ended = await world.session("own"), await world.session("foreign"), await world.session("own")
    await sessions.revoke(world.own, ended.session.id, "signed_out", world.now)
    stale = await sessions.create(world.own, NewSession(user_id="u1"), world.now - 2 * HOUR)
    forged = good.access_token[:-3] + ("AAA" if good.access_token[-3:] != "AAA" else "BBA")
    return [
        Credential("user", "user", bearer(good.access_token)),
        Credential("foreign user", "user", bearer(theirs.access_token), tenant="foreign"),
        Credential("ended user", "user", bearer(ended.access_token), "session_revoked"),
        Credential("expired user", "user", bearer(stale.access_token), "token_expired"),
        Credential("forged user", "user", bearer(forged), "invalid_token"),
        Credential("refresh token", "user", bearer(good.refresh_token or ""), "invalid_token"),
        Credential("session id", "user", bearer(good.session.id), "invalid_token"),
    ]


async def _cookies(world: World) -> list[Credential]:
    """Of people who are signed in to the dashboard, at its door and at the wrong one."""
    _, whole = await world.key(world.own)
    _, theirs = await world.key(world.foreign)
    _, narrow = await world.key(world.own, scopes=frozenset({"sessions:read"}))
    dead_id, dead = await world.key(world.own)
    key, admin = await signed_in(world.http, whole), await signed_in(world.http, ADMIN_KEY)
    revoked = await signed_in(world.http, dead)
    await world.runtime.api_keys.revoke(world.own.id, dead_id, world.now)
    everything, reading = frozenset[str](SCOPES), frozenset({"sessions:read"})
    named = {"X-Tenant-ID": world.own.id}
    wrong = {"X-Tenant-ID": world.foreign.id}
    door = "/dashboard/api"
    return [
        Credential("dashboard: key", "key", key, scopes=everything, door=door),
        Credential(
            "dashboard: foreign key", "key", await signed_in(world.http, theirs), None, everything, "foreign", door
        ),
        Credential("dashboard: narrow key", "key", await signed_in(world.http, narrow), None, reading, door=door),
        Credential("dashboard: a foreign tenant", "key", key | wrong, "tenant_mismatch", everything, door=door),
        Credential("dashboard: admin", "admin", admin, door=door),
        Credential("dashboard: admin for a tenant", "admin of own", admin | named, door=door),
        Credential("dashboard: revoked key", "key", revoked, "missing_token", door=door),
        Credential("dashboard: no cookie", "nobody", {**OF_OUR_PAGES, **bearer(whole)}, "missing_token", door=door),
        Credential("cookie at the public door", "nobody", admin, "missing_token"),
    ]


async def signed_in(http: httpx.AsyncClient, key: str) -> dict[str, str]:
    """The headers of a page of ours, signed in with a key."""
    answer = await http.post("/dashboard/api/session", json={"key": key}, headers=OF_OUR_PAGES)
    assert answer.status_code == 201, answer.text
    http.cookies.clear()
    return {**OF_OUR_PAGES, "Cookie": answer.headers["set-cookie"].split(";")[0]}


def _admins(world: World) -> list[Credential]:
    return [
        Credential("admin", "admin", bearer(ADMIN_KEY)),
        Credential("admin for a tenant", "admin of own", bearer(ADMIN_KEY, **{"X-Tenant-ID": world.own.id})),
        Credential("admin for no tenant", "admin of none", bearer(ADMIN_KEY, **{"X-Tenant-ID": new_id("tnt")})),
        Credential("wrong admin", "admin", bearer("mk_live_" + secrets.token_urlsafe(32)), "invalid_api_key"),
    ]


def _broken() -> list[Credential]:
    return [
        Credential("nothing", "nobody", {}, "missing_token"),
        Credential("basic", "nobody", {"Authorization": "Basic dTpw"}, "missing_token"),
        Credential("malformed", "nobody", bearer("a b"), "malformed"),
        Credential("empty", "nobody", {"Authorization": "Bearer"}, "malformed"),
        Credential("key in a cookie", "nobody", {"Cookie": "token=sk_live_x"}, "missing_token"),
    ]


def _unknown(key: str) -> str:
    text = key[:8] + "0000000000000000" + key[24:-7]
    return text + checksum(text)


def _wrong_secret(key: str) -> str:
    text = key[:-8] + ("0" if key[-8] != "0" else "1")
    return text + checksum(text)
