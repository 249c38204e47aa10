"""With `ADMIN_PORT` there are two listeners, and on each what belongs to the other is not there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest

from app.api.operations import OPERATIONS
from app.embedded import free_port
from tests.api.test_matrix import ROWS
from tests.api.world import Credential, World, a_world, bearer
from tests.service import ADMIN_KEY, Api

ADMIN_PORT = 9_000
ADMIN_ONLY = {row.name for row in OPERATIONS if row.credential == "admin"} | {"getMetrics"}
PUBLIC_ONLY = {row.name for row in OPERATIONS if row.credential in ("key", "user", "optional_key")} | {"endSession"}


@dataclass
class Sides:
    world: World
    http: dict[str, httpx.AsyncClient]

    async def ask(self, side: str, name: str, credential: str) -> httpx.Response:
        operation = next(row for row in OPERATIONS if row.name == name)
        sent: Credential = next(one for one in self.world.credentials if one.name == credential)
        path, more = await ROWS[name][0].build(self.world, "own")
        return await self.http[side].request(operation.method, path, headers=sent.sent, **more)


@pytest.fixture
async def sides(valkey_url: str) -> AsyncIterator[Sides]:
    async with a_world(valkey_url) as world:
        world.door.site.admin_port = ADMIN_PORT
        transport = httpx.ASGITransport(world.door)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://api:8000") as public,
            httpx.AsyncClient(transport=transport, base_url=f"http://api:{ADMIN_PORT}") as admin,
        ):
            yield Sides(world, {"public": public, "admin": admin})


@pytest.mark.parametrize("name", [row.name for row in OPERATIONS])
async def test_each_side_serves_its_own_and_knows_nothing_of_the_other(sides: Sides, name: str) -> None:
    operation = next(row for row in OPERATIONS if row.name == name)
    for side, elsewhere in (("public", ADMIN_ONLY), ("admin", PUBLIC_ONLY)):
        for credential in ("key", "user", "admin for a tenant", "nothing"):
            answer = await sides.ask(side, name, credential)
            if name in elsewhere:
                assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (side, credential)
            elif operation.credential == "key_or_admin" and credential in ("key", "admin for a tenant"):
                expected = operation.status if (credential == "key") == (side == "public") else 404
                assert answer.status_code == expected, (side, credential)
            elif operation.credential == "none":
                assert answer.status_code == operation.status, (side, credential)
            elif credential == "nothing" and operation.credential != "optional_key":
                assert answer.status_code == 401, (side, credential)


async def test_what_is_not_there_has_no_methods_either(sides: Sides) -> None:
    for side, path in (("public", "/v1/admin/tenants"), ("public", "/metrics"), ("admin", "/v1/sessions/verify")):
        answer = await sides.http[side].put(path)
        assert (answer.status_code, "allow" in answer.headers) == (404, False), path
    assert (await sides.http["admin"].put("/v1/admin/tenants")).status_code == 405


async def test_nobody_signs_in_to_the_dashboard_on_the_wrong_side(sides: Sides) -> None:
    keys = {
        one.name: one.sent["Authorization"].split()[1]
        for one in sides.world.credentials
        if one.name in ("key", "admin")
    }
    ours = {"X-Requested-With": "hellojohn-dashboard"}
    for side, name, status in (
        ("public", "key", 201),
        ("public", "admin", 404),
        ("admin", "key", 404),
        ("admin", "admin", 201),
    ):
        http = sides.http[side]
        headers = {**ours, "Origin": str(http.base_url).rstrip("/")}
        answer = await http.post("/dashboard/api/session", json={"key": keys[name]}, headers=headers)
        assert answer.status_code == status, (side, name)
        assert ("set-cookie" in answer.headers) == (status == 201)


async def test_with_one_listener_there_are_no_sides(sides: Sides) -> None:
    sides.world.door.site.admin_port = None
    for side in ("public", "admin"):
        assert (await sides.ask(side, "getTenant", "admin")).status_code == 200
        assert (await sides.ask(side, "listSessions", "key")).status_code == 200


@pytest.fixture
def api(valkey_url: str) -> Iterator[tuple[Api, str]]:
    port = free_port()
    process = Api(valkey_url, ADMIN_PORT=str(port))
    yield process, f"http://127.0.0.1:{port}"
    process.stop()


def test_a_process_listens_on_both_ports(api: tuple[Api, str]) -> None:
    process, inside = api
    with httpx.Client(base_url=inside, headers=bearer(ADMIN_KEY), trust_env=False) as operator:
        made = operator.post("/v1/admin/tenants", json={"name": "Acme"})
        assert made.status_code == 201, made.text
        key = operator.post(f"/v1/admin/tenants/{made.json()['id']}/api-keys", json={"name": "k"}).json()["key"]
        assert operator.get("/metrics").status_code == operator.get("/readyz").status_code == 200
        assert operator.get("/v1/sessions", headers=bearer(key)).status_code == 404
    assert process.http.get("/v1/sessions", headers=bearer(key)).status_code == 200
    assert process.http.get("/v1/admin/tenants", headers=bearer(ADMIN_KEY)).status_code == 404
    assert process.http.get("/metrics").status_code == 404
    assert process.stop() == 0
