"""Who may do what: every operation × every credential × own, foreign and made-up ids, against one declared table.

A refusal says nothing about what it refuses: the answers for a foreign id and for one that never was are the same
bytes and the same headers. An operation without a row here fails the test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import httpx
import pytest

from app.api.operation import Operation
from app.api.operations import OPERATIONS
from app.model import new_id
from app.runtime import now_ms
from tests.api.world import FOREIGN_MARK, Credential, World, a_world

Request = tuple[str, dict[str, Any]]
Build = Callable[[World, str], Awaitable[Request]]
Expected = tuple[int, str | None]

TENANT_BOUND = ("own", "foreign", "random")
GRACES = cycle(range(11, 61))
DEVICES = ("own", "neighbour", "foreign", "random")


@dataclass(frozen=True)
class Row:
    """What the table of operations must say (`who`, `scope`), how to call it, and what an id gets that is not ours."""

    who: frozenset[str]
    good: int
    build: Build
    scope: str | None = None
    absent: Expected = (404, "session_not_found")
    targets: tuple[str, ...] = ("own",)
    alone: bool = False  # the operator need not name a tenant


def at(path: str, **json: Any) -> Build:
    async def build(world: World, target: str) -> Request:
        return path, {"json": json} if json else {}

    return build


def on_session(path: str, **json: Any) -> Build:
    async def build(world: World, target: str) -> Request:
        return path.format(await world.session_id(target)), {"json": json} if json else {}

    return build


def with_session(path: str, wrap: Callable[[str], dict[str, Any]]) -> Build:
    async def build(world: World, target: str) -> Request:
        return path, {"json": wrap(await world.session_id(target))}

    return build


async def with_token(world: World, target: str) -> Request:
    text = "e30.e30." + "A" * 86 if target == "random" else (await world.session(target)).access_token
    return "/v1/sessions/verify", {"json": {"token": text}}


async def with_refresh_token(world: World, target: str) -> Request:
    text = "rt_" + "A" * 200 if target == "random" else (await world.session(target)).refresh_token
    return "/v1/sessions/refresh", {"json": {"refresh_token": text}}


async def with_refresh_token_to_end(world: World, target: str) -> Request:
    _, more = await with_refresh_token(world, target)
    return "/v1/sessions/end", more


async def with_cursor(world: World, target: str) -> Request:
    position, tenant = f"{world.now}.0.0.", world.tenant(target)
    cursor = "A" * 40 if target == "random" else world.runtime.cursors.seal(position, tenant.id, "events")
    return "/v1/events", {"params": {"after": cursor}}


def on_tenant(path: str, **json: Any) -> Build:
    async def build(world: World, target: str) -> Request:
        made = new_id("tnt") if target == "random" else (await world.runtime.tenants.create("t", world.now)).id
        return path.format(made), {"json": json} if json else {}

    return build


async def with_another_policy(world: World, target: str) -> Request:
    """One that no call before has made."""
    return "/v1/admin/config", {"json": {"refresh_grace": next(GRACES)}}


def on_api_key(path: str, **json: Any) -> Build:
    async def build(world: World, target: str) -> Request:
        mine = await world.runtime.tenants.create("t", world.now)
        key_id, _ = await world.key(mine)
        if target == "random":
            key_id = "0" * 16
        elif target == "foreign":
            other = await world.runtime.tenants.create("o", world.now)
            key_id, _ = await world.key(other)
        return path.format(mine.id, key_id), {"json": json} if json else {}

    return build


async def on_next_signing_key(world: World, target: str) -> Request:
    kid = "A" * 43 if target == "random" else await world.runtime.keys.rotate(world.now)
    return f"/v1/admin/signing-keys/{kid}", {}


KEY, USER, ADMIN = frozenset({"key"}), frozenset({"user"}), frozenset({"admin"})
BOTH, ANYONE = KEY | ADMIN, frozenset[str]()
SESSIONS, TENANTS = "/v1/sessions", "/v1/admin/tenants"
NO_TENANT, NO_KEY = (404, "tenant_not_found"), (404, "api_key_not_found")
INACTIVE = (200, "inactive")

ROWS: dict[str, tuple[Row, ...]] = {
    "verifySession": (
        Row(KEY, 200, with_token, "sessions:verify", INACTIVE, TENANT_BOUND),
        Row(
            KEY,
            200,
            with_session(f"{SESSIONS}/verify", lambda sid: {"session_id": sid}),
            "sessions:verify",
            INACTIVE,
            TENANT_BOUND,
        ),
    ),
    "createSession": (Row(KEY, 201, at(SESSIONS, user_id="u3"), "sessions:write"),),
    "listSessions": (Row(BOTH, 200, at(f"{SESSIONS}?user_id=u1&limit=1"), "sessions:read"),),
    "refreshSession": (
        Row(ANYONE, 200, with_refresh_token, "sessions:write", (401, "refresh_token_invalid"), TENANT_BOUND),
    ),
    "endSession": (Row(ANYONE, 204, with_refresh_token_to_end),),
    "revokeSessions": (
        Row(BOTH, 200, at(f"{SESSIONS}/revoke", user_id="u9"), "sessions:write"),
        Row(
            BOTH,
            200,
            with_session(f"{SESSIONS}/revoke", lambda sid: {"user_id": "u9", "except_session_id": sid}),
            "sessions:write",
            (200, None),
            TENANT_BOUND,
        ),
    ),
    "reportActivity": (
        Row(
            KEY,
            200,
            with_session(f"{SESSIONS}/activity", lambda sid: {"session_ids": [sid]}),
            "sessions:verify",
            (200, None),
            TENANT_BOUND,
        ),
    ),
    "getSession": (Row(BOTH, 200, on_session(SESSIONS + "/{}"), "sessions:read", targets=TENANT_BOUND),),
    "getTimeline": (Row(BOTH, 200, on_session(SESSIONS + "/{}/timeline"), "sessions:read", targets=TENANT_BOUND),),
    "updateSession": (Row(BOTH, 200, on_session(SESSIONS + "/{}", role="r"), "sessions:write", targets=TENANT_BOUND),),
    "updateUserSessions": (Row(BOTH, 200, at("/v1/users/u9/claims", role="r"), "sessions:write"),),
    "revokeSession": (Row(BOTH, 204, on_session(SESSIONS + "/{}"), "sessions:write", targets=TENANT_BOUND),),
    "followEvents": (Row(BOTH, 200, with_cursor, "events:read", (422, "validation_error"), TENANT_BOUND),),
    "listMySessions": (Row(USER, 200, at("/v1/me/sessions?limit=1")),),
    "revokeMySession": (Row(USER, 204, on_session("/v1/me/sessions/{}"), targets=DEVICES),),
    "revokeMyOtherSessions": (Row(USER, 200, at("/v1/me/sessions/revoke")),),
    "getConfig": (Row(BOTH, 200, at("/v1/admin/config"), "config:read"),),
    "updateConfig": (Row(BOTH, 200, with_another_policy, "config:write"),),
    "getStats": (Row(BOTH, 200, at("/v1/admin/stats"), "stats:read"),),
    "getOverview": (Row(BOTH, 200, at("/v1/admin/overview?window=24h"), "stats:read", alone=True),),
    "previewConfig": (Row(BOTH, 200, at("/v1/admin/config/preview", idle_timeout="1h"), "config:read"),),
    "listAudit": (Row(BOTH, 200, at("/v1/admin/audit?limit=1"), "audit:read", alone=True),),
    "listTenants": (Row(ADMIN, 200, at(f"{TENANTS}?limit=1")),),
    "createTenant": (Row(ADMIN, 201, at(TENANTS, name="n")),),
    "getTenant": (Row(ADMIN, 200, on_tenant(TENANTS + "/{}"), None, NO_TENANT, ("own", "random")),),
    "renameTenant": (Row(ADMIN, 200, on_tenant(TENANTS + "/{}", name="m"), None, NO_TENANT, ("own", "random")),),
    "deleteTenant": (Row(ADMIN, 204, on_tenant(TENANTS + "/{}"), None, NO_TENANT, ("own", "random")),),
    "getTenantConfig": (Row(ADMIN, 200, on_tenant(TENANTS + "/{}/config"), None, NO_TENANT, ("own", "random")),),
    "updateTenantConfig": (
        Row(ADMIN, 200, on_tenant(TENANTS + "/{}/config", on_limit="reject"), None, NO_TENANT, ("own", "random")),
    ),
    "listApiKeys": (Row(ADMIN, 200, on_tenant(TENANTS + "/{}/api-keys"), None, NO_TENANT, ("own", "random")),),
    "createApiKey": (
        Row(ADMIN, 201, on_tenant(TENANTS + "/{}/api-keys", name="k"), None, NO_TENANT, ("own", "random")),
    ),
    "rotateApiKey": (
        Row(ADMIN, 201, on_api_key(TENANTS + "/{}/api-keys/{}/rotate", overlap="1h"), None, NO_KEY, TENANT_BOUND),
    ),
    "rotateOwnApiKey": (Row(KEY, 201, at("/v1/admin/api-keys/current/rotate", overlap="90d"), "keys:rotate"),),
    "revokeApiKey": (Row(ADMIN, 204, on_api_key(TENANTS + "/{}/api-keys/{}"), None, NO_KEY, TENANT_BOUND),),
    "listSigningKeys": (Row(ADMIN, 200, at("/v1/admin/signing-keys")),),
    "rotateSigningKey": (Row(ADMIN, 200, at("/v1/admin/signing-keys/rotate")),),
    "removeSigningKey": (
        Row(ADMIN, 204, on_next_signing_key, None, (404, "signing_key_not_found"), ("own", "random")),
    ),
    "getJwks": (Row(ANYONE, 200, at("/.well-known/jwks.json")),),
    "getServerMetadata": (Row(ANYONE, 200, at("/.well-known/oauth-authorization-server")),),
    "getLiveness": (Row(ANYONE, 200, at("/livez")),),
    "getReadiness": (Row(ANYONE, 200, at("/readyz")),),
    "getMetrics": (Row(ANYONE, 200, at("/metrics")),),
    "getDocument": (Row(ANYONE, 200, at("/openapi.json")),),
    "getRoot": (Row(ANYONE, 302, at("/")),),
    "getDocumentation": (Row(ANYONE, 200, at("/docs")),),
    "getErrorDocumentation": (Row(ANYONE, 200, at("/docs/problems")),),
    "getEmbed": (Row(ANYONE, 200, at("/embed/devices.js")),),
}
SHARED = ("getJwks", "getServerMetadata", "getDocument", "getEmbed")
KINDS = {"key": KEY, "user": USER, "admin": ADMIN, "key_or_admin": BOTH, "optional_key": ANYONE, "none": ANYONE}


@pytest.fixture
async def world(valkey_url: str) -> AsyncIterator[World]:
    async with a_world(valkey_url, now_ms) as found:  # a clock that stands still is soon not ready
        yield found


def test_every_operation_has_its_row_and_says_the_same() -> None:
    assert sorted(ROWS) == sorted(operation.name for operation in OPERATIONS)
    said = {operation.name: (KINDS[operation.credential], operation.scope) for operation in OPERATIONS}
    assert said == {name: (rows[0].who, rows[0].scope) for name, rows in ROWS.items()}


def test_an_operation_that_a_key_may_call_names_a_scope() -> None:
    for operation in OPERATIONS:
        takes_keys = operation.credential in ("key", "key_or_admin", "optional_key")
        assert (operation.scope is not None) == takes_keys, operation.name


@pytest.mark.slow
async def test_the_whole_matrix_is_as_declared(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    cells, wrong = 0, list[tuple[object, ...]]()
    for operation in OPERATIONS:
        for row in ROWS[operation.name]:
            for credential in world.credentials:
                answers: dict[str, httpx.Response] = {}
                for target in row.targets:
                    path, more = await row.build(world, target)
                    answers[target] = answer = await world.call(operation.method, path, credential, **more)
                    cells += 1
                    expected = expectation(operation, row, credential, target)
                    if not fits(answer, expected) or not well_behaved(operation, answer):
                        wrong.append((operation.name, credential.name, target, expected, said(answer)))
                wrong += [(operation.name, credential.name, *pair) for pair in tell_apart(row, credential, answers)]
    assert wrong == []
    with capsys.disabled():
        print(f"\nmatrix: {cells} cells, {len(OPERATIONS)} operations × {len(world.credentials)} credentials")


def expectation(operation: Operation, row: Row, credential: Credential, target: str) -> Expected:
    """What the declared table says of one cell."""
    if operation.credential == "none":
        return row.good, None
    if operation.credential == "optional_key":
        return presenter(row, credential, target)
    if credential.refused == "malformed":
        return 401, "missing_token" if credential.name == "none" else malformed(operation)
    if credential.refused not in (None, "tenant_mismatch"):
        return 401, credential.refused
    kind = credential.kind.split(" ")[0]
    if kind not in row.who or (kind == "key" and row.scope not in credential.scopes):
        return 403, "insufficient_scope"
    if credential.refused is not None:
        return 403, credential.refused
    if operation.credential == "key_or_admin" and credential.kind == "admin of none":
        return NO_TENANT
    if operation.credential == "key_or_admin" and credential.kind == "admin" and not row.alone:
        return 422, "validation_error"
    reachable = target == credential.tenant
    return (row.good, None) if reachable or len(row.targets) == 1 else row.absent


def presenter(row: Row, credential: Credential, target: str) -> Expected:
    """A refresh token is the credential; a key or a tenant that comes along narrows it. The dashboard's door opens for
    a good cookie only."""
    if credential.door and credential.refused == "missing_token":
        return 401, "missing_token"
    if credential.kind == "key" and credential.refused == "invalid_api_key":
        return 401, "invalid_api_key"
    if credential.kind == "key" and row.scope not in credential.scopes:
        return 403, "insufficient_scope"
    if credential.refused == "tenant_mismatch":
        return 403, "tenant_mismatch"
    limited = credential.kind in ("key", "admin of own", "admin of none")
    whose = {"key": credential.tenant, "admin of own": "own"}.get(credential.kind)
    return row.absent if target == "random" or (limited and target != whose) else (row.good, None)


def malformed(operation: Operation) -> str:
    return "invalid_token" if operation.credential == "user" else "invalid_api_key"


def fits(answer: httpx.Response, expected: Expected) -> bool:
    status, code = expected
    if answer.status_code != status:
        return False
    if code == "inactive":
        return answer.json()["valid"] is False and answer.json()["payload"] is answer.json()["session"] is None
    if code is None:
        return True
    return bool(answer.headers["content-type"] == "application/problem+json" and answer.json()["code"] == code)


def well_behaved(operation: Operation, answer: httpx.Response) -> bool:
    """What every answer has and what none has: no cache and no other origin unless all may read it, no private key."""
    found, public = answer.headers, operation.name in SHARED and answer.status_code == 200
    return (
        found["cache-control"] == ("public, max-age=300" if public else "no-store")
        and found["x-content-type-options"] == "nosniff"
        and found["referrer-policy"] == "no-referrer"
        and "default-src 'none'" in found["content-security-policy"]
        and ("access-control-allow-origin" in found) == public
        and "server" not in found
        and (answer.status_code != 401 or found["www-authenticate"].startswith("Bearer realm="))
        and '"d":' not in answer.text
    )


def tell_apart(
    row: Row, credential: Credential, answers: dict[str, httpx.Response]
) -> list[tuple[str, object, object]]:
    """Pairs of answers that should not differ and do: what is another's, and what never was."""
    others = [target for target in row.targets if target not in (credential.tenant, "random")]
    if len(row.targets) < 3 or credential.kind not in ("key", "user") or (row.who == ANYONE and not credential.scopes):
        others = []
    random = said(answers["random"]) if others else None
    leaks = [("leak", target, "") for target in others if FOREIGN_MARK in answers[target].text and target == "foreign"]
    return leaks + [(target, said(answers[target]), random) for target in others if said(answers[target]) != random]


def said(answer: httpx.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    """All of an answer but its request id, and how many calls the caller has left."""
    body = answer.json() if answer.content and "json" in answer.headers["content-type"] else {}
    headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "ratelimit")}
    return answer.status_code, {name: value for name, value in body.items() if name != "request_id"}, headers
