"""An API key's life: what it may do, how long, when it was last used, and how it is replaced without a gap."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from app.api.call import Site
from app.api.http import Door
from app.api.logs import Log
from app.api.metrics import Metrics
from app.api.operations import OPERATIONS
from app.apikeys import MAX_KEYS, ApiKeys, checksum
from app.errors import InvalidApiKey
from app.keys import derive
from app.model import DAY, HOUR, MINUTE, SCOPES, SECOND, ApiKey
from app.runtime import now_ms, open_runtime
from app.settings import Settings
from app.store.redis import RedisSessionStore
from app.store.registry import RedisRegistry
from app.store.wire import open_wire
from app.tenants import Tenants
from tests.api.world import bearer
from tests.service import ADMIN_KEY, environment


class Desk:
    """An operator at a service whose clock the test turns."""

    def __init__(self) -> None:
        self.now = now_ms()
        self.http: httpx.AsyncClient
        self.keys = ""

    async def ask(self, method: str, path: str = "", **json: Any) -> httpx.Response:
        return await self.http.request(method, self.keys + path, json=json or None, headers=bearer(ADMIN_KEY))

    async def make(self, **json: Any) -> dict[str, Any]:
        answer = await self.ask("POST", name="backend", **json)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def listed(self) -> dict[str, dict[str, Any]]:
        return {key["id"]: key for key in (await self.ask("GET")).json()["data"]}

    async def works(self, key: dict[str, Any], path: str = "/v1/sessions") -> int:
        return (await self.http.get(path, headers=bearer(key["key"]))).status_code


@pytest.fixture
async def desk(valkey_url: str) -> AsyncIterator[Desk]:
    found = Desk()
    settings = Settings.from_env(environment(valkey_url, HELLOJOHN_ISSUER="https://sessions.example"))
    async with open_runtime(settings, lambda: found.now) as runtime:
        door = Door(OPERATIONS, Site(Metrics(), b"{}", b"", runtime), lambda: found.now, Log("error"))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://api") as http:
            tenant = await runtime.tenants.create("Acme", found.now)
            found.http, found.keys = http, f"/v1/admin/tenants/{tenant.id}/api-keys"
            yield found


async def test_a_key_may_do_everything_unless_told_otherwise(desk: Desk) -> None:
    whole, narrow = await desk.make(), await desk.make(scopes=["stats:read"])
    assert whole["scopes"] == list(SCOPES)
    assert narrow["scopes"] == ["stats:read"]
    assert await desk.works(whole) == 200
    assert await desk.works(narrow, "/v1/admin/stats") == 200
    refused = await desk.http.get("/v1/sessions", headers=bearer(narrow["key"]))
    assert refused.status_code == 403
    assert refused.headers["www-authenticate"].endswith('error="insufficient_scope", scope="sessions:read"')


@pytest.mark.parametrize("json", [{"scopes": []}, {"scopes": ["root"]}, {"expires_in": "1s"}, {"expires_in": "x"}])
async def test_a_key_with_rubbish_for_terms_is_not_made(desk: Desk, json: dict[str, Any]) -> None:
    answer = await desk.ask("POST", name="backend", **json)
    assert (answer.status_code, answer.json()["field"].split("[")[0]) == (422, next(iter(json)))
    assert await desk.listed() == {}


async def test_a_key_expires_when_its_answer_says_and_looks_like_any_bad_key(desk: Desk) -> None:
    made = await desk.make(expires_in="1h")
    shown = round(datetime.fromisoformat(made["expires_at"]).timestamp() * 1_000)
    assert desk.now + HOUR - SECOND < shown <= desk.now + HOUR
    for offset, status in ((-1, 200), (0, 401), (DAY, 401)):
        began, desk.now = desk.now, shown + offset
        assert await desk.works(made) == status
        desk.now = began
    assert (await desk.listed())[made["id"]]["expires_at"] == made["expires_at"] != None  # noqa: E711


async def test_rotation_leaves_both_keys_alive_until_the_overlap_ends(desk: Desk) -> None:
    old = await desk.make(scopes=["sessions:read"], mode="test")
    new = (await desk.ask("POST", f"/{old['id']}/rotate", overlap="1h")).json()
    assert (new["name"], new["scopes"], new["key"][:8]) == ("backend", ["sessions:read"], "sk_test_")
    assert [await desk.works(old), await desk.works(new)] == [200, 200]
    desk.now += HOUR
    assert [await desk.works(old), await desk.works(new)] == [401, 200]
    assert (await desk.ask("POST", f"/{old['id']}/rotate", overlap="1h")).status_code == 404


async def test_a_successor_lives_as_long_as_its_parent_did_and_never_lengthens_it(desk: Desk) -> None:
    old = await desk.make(expires_in="1h")
    new = (await desk.ask("POST", f"/{old['id']}/rotate", overlap="90d")).json()
    assert new["expires_at"] == old["expires_at"]
    assert (await desk.listed())[old["id"]]["expires_at"] == old["expires_at"]


async def test_a_backend_replaces_its_own_key_and_no_other(desk: Desk) -> None:
    def own(key: dict[str, Any], **json: Any) -> Any:
        return desk.http.post("/v1/admin/api-keys/current/rotate", json=json, headers=bearer(key["key"]))

    old, other = await desk.make(scopes=["keys:rotate", "sessions:read"]), await desk.make(scopes=["sessions:read"])
    new = (await own(old, overlap="1h")).json()
    assert (new["name"], new["scopes"]) == (old["name"], old["scopes"])
    refused = await own(other)
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
    desk.now += HOUR
    assert [await desk.works(key) for key in (old, new, other)] == [401, 200, 200]
    assert (await own(old)).status_code == 401


async def test_keys_that_replace_themselves_do_not_pile_up(desk: Desk) -> None:
    key = await desk.make()
    for _ in range(2 * MAX_KEYS - 1):
        assert (await desk.ask("POST", f"/{key['id']}/rotate", overlap="90d")).status_code == 201
    assert (await desk.ask("POST", f"/{key['id']}/rotate", overlap="90d")).status_code == 409


async def test_a_rotated_key_can_still_be_revoked_at_once(desk: Desk) -> None:
    old = await desk.make()
    await desk.ask("POST", f"/{old['id']}/rotate", overlap="1h")
    assert (await desk.ask("DELETE", f"/{old['id']}")).status_code == 204
    assert await desk.works(old) == 401


async def test_the_last_use_is_known_to_the_minute_and_costs_no_request_a_write(desk: Desk) -> None:
    made = await desk.make()
    assert (await desk.listed())[made["id"]]["last_used_at"] is None
    shown = []
    for step in (0, 59 * SECOND, SECOND, 2 * MINUTE):
        desk.now += step
        for _ in range(5):
            assert await desk.works(made) == 200
        shown.append((await desk.listed())[made["id"]]["last_used_at"])
    assert shown[0] is not None
    assert shown[0] == shown[1] < shown[2] < shown[3]


async def test_a_list_shows_enough_to_tell_keys_apart_and_no_secret(desk: Desk) -> None:
    made = await desk.make()
    text = (await desk.ask("GET")).text
    assert made["key"] not in text
    assert made["key"][25:65] not in text
    assert re.fullmatch(r"sk_live_….{4}", (await desk.listed())[made["id"]]["hint"])


async def test_a_tenant_has_a_bounded_number_of_living_keys(desk: Desk) -> None:
    made = [await desk.make() for _ in range(MAX_KEYS)]
    assert (await desk.ask("POST", name="one too many")).status_code == 409
    await desk.ask("DELETE", f"/{made[0]['id']}")
    assert (await desk.ask("POST", name="again")).status_code == 201


@pytest.mark.parametrize(("mode", "other"), [("live", "test"), ("test", "live")])
async def test_a_key_with_the_mode_of_another_is_refused(desk: Desk, mode: str, other: str) -> None:
    made = await desk.make(mode=mode)
    text = made["key"].replace(f"sk_{mode}_", f"sk_{other}_")[:-7]
    respelled = {"key": text + checksum(text)}
    assert [await desk.works(made), await desk.works(respelled), await desk.works(made)] == [200, 401, 200]
    assert (await desk.listed())[made["id"]]["hint"] == f"sk_{mode}_…{made['key'][-4:]}"


class CountedReads(RedisRegistry):
    """Counts how often an API key is read."""

    reads = 0

    async def api_key(self, key_id: str) -> ApiKey | None:
        self.reads += 1
        return await super().api_key(key_id)


async def test_every_wrong_key_costs_one_read(desk: Desk, valkey_url: str) -> None:
    """Whether its id is in use here, is known, or never was: the time of an answer tells none of it."""
    made, unused = await desk.make(), await desk.make()
    wire = await open_wire(valkey_url, 2_000)
    registry = CountedReads(wire)
    settings = Settings.from_env(environment(valkey_url))
    keys = ApiKeys(registry, Tenants(registry, RedisSessionStore(wire)), derive(settings.secret, "api keys"))
    await keys.authenticate(made["key"], desk.now)

    async def reads(key_id: str) -> int:
        text, before = f"sk_live_{key_id}_{'0' * 40}", registry.reads
        with pytest.raises(InvalidApiKey):
            await keys.authenticate(text + checksum(text), desk.now)
        return registry.reads - before

    assert [await reads(key_id) for key_id in (made["id"], unused["id"], "0" * 16) for _ in range(2)] == [1] * 6
    before = registry.reads
    await keys.authenticate(made["key"], desk.now)
    assert registry.reads == before, "a good key that was just used costs none"
    await keys.flush()
    await wire.close()
