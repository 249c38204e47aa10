"""Every change that was acknowledged is on record, with who, what, before and after, and never a secret."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest

from app.api.operations import OPERATIONS
from app.audit import Action, Entry
from app.model import new_id
from app.store import keyspace
from app.store.audit import AuditLog
from app.store.wire import open_wire
from tests.api.test_matrix import ROWS
from tests.api.world import Credential, World, a_world, bearer
from tests.service import ADMIN_KEY

APP = Path(__file__).parent.parent.parent / "app"


def test_whatever_goes_on_record_has_its_words_in_the_dashboard_and_is_in_its_filter() -> None:
    """The types keep any other action out of the record; the filter is made of the words."""
    source = (APP / "dashboard" / "assets" / "audit.js").read_text()
    listed = source.split("const ACTIONS = {")[1].split("};")[0]
    words = dict(re.findall(r'^  "([a-z_.]+)": "([^"]+)",$', listed, re.MULTILINE))
    assert words.keys() == {*get_args(Action)} and len({*words.values()}) == len(words)
    assert "Object.entries(ACTIONS).map" in source
    doors = "".join(path.read_text() for path in (APP / "api").glob("*.py"))
    assert [action for action in words if f'"{action}"' not in doors] == [], "listed, but never put on record"


@pytest.fixture
async def world(own_server: Any) -> AsyncIterator[World]:
    async with a_world(own_server.url) as found:
        yield found


async def read(world: World, tenant_id: str | None = None, query: str = "") -> dict[str, Any]:
    named = {} if tenant_id is None else {"X-Tenant-ID": tenant_id}
    answer = await world.http.get(f"/v1/admin/audit?{query}", headers=bearer(ADMIN_KEY, **named))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def entries(world: World) -> int:
    """Of all logs together."""
    wire = await open_wire(world.runtime.settings.redis_url, 2_000)
    keys = [key.decode() async for page in wire.scan("hj:audit:*") for key in page]
    total: int = sum([await wire.call(key, "XLEN", key) for key in keys])
    await wire.close()
    return total


async def test_every_change_leaves_one_entry_but_what_a_backend_does_to_its_users_sessions(world: World) -> None:
    by_name = {credential.name: credential for credential in world.credentials}
    changes = [row for row in OPERATIONS if row.method != "GET" and row.credential in ("admin", "key_or_admin")]
    changes = [row for row in changes if row.name != "previewConfig"]  # which changes nothing
    assert len(changes) > 8
    for operation in changes:
        for who in ("admin for a tenant", "key", "nothing", "dashboard: key", "dashboard: admin for a tenant"):
            path, more = await ROWS[operation.name][0].build(world, "own")
            begun = await entries(world)
            answer = await world.call(operation.method, path, by_name[who], **more)
            kept = answer.status_code < 300 and (who != "key" or operation.path.startswith("/v1/admin/"))
            assert await entries(world) - begun == kept, (operation.name, who)


async def test_a_change_of_policy_says_who_what_when_before_and_after(world: World) -> None:
    key: Credential = world.credentials[0]
    headers = {"X-Request-ID": "trace-7"}
    changed = await world.call("PATCH", "/v1/admin/config", key, json={"refresh_grace": "3s"}, headers=headers)
    assert changed.status_code == 200
    await world.call("POST", "/v1/sessions/revoke", key, json={"all": True})
    page = (await world.call("GET", "/v1/admin/audit", key)).json()
    assert [entry["action"] for entry in page["data"][:2]] == ["sessions.revoked", "config.changed"]
    entry = page["data"][1]
    assert entry["actor"] == key.sent["Authorization"].split("_")[2]
    assert (entry["target"], entry["request_id"]) == (world.own.id, "trace-7")
    assert (entry["before"]["refresh_grace"], entry["after"]["refresh_grace"]) == ("10s", "3s")
    assert page["intact"] is True


async def test_a_tenant_reads_its_own_log_and_no_other(world: World) -> None:
    own, foreign = (next(c for c in world.credentials if c.name == name) for name in ("key", "foreign key"))
    await world.call("PATCH", "/v1/admin/config", own, json={"on_limit": "reject"})
    path = "/v1/admin/audit?action=config.changed"
    assert len((await world.call("GET", path, own)).json()["data"]) == 1
    assert (await world.call("GET", path, foreign)).json()["data"] == []
    assert (await read(world, query="action=config.changed"))["data"] == []


async def test_a_new_key_is_on_record_without_its_secret(world: World) -> None:
    path = f"/v1/admin/tenants/{world.own.id}/api-keys"
    made = (await world.http.post(path, json={"name": "backend"}, headers=bearer(ADMIN_KEY))).json()
    page = await read(world, world.own.id)
    assert page["data"][0]["after"]["hint"] == made["hint"]
    assert made["key"][25:65] not in str(page)


async def test_pages_filters_and_foreign_cursors(world: World) -> None:
    name = new_id("tnt")
    for number in range(45):
        await world.runtime.audit.record(name, entry(f"t{number}", "a" if number % 3 else "b"))
    seen, cursor = [], None
    while True:
        found = await world.runtime.audit.page(name, 10, cursor, "a", None)
        assert found.intact
        seen += [one.target for _, one in found.entries]
        cursor = found.next_cursor
        if not found.more:
            break
    assert seen == [f"t{number}" for number in reversed(range(45)) if number % 3]
    other = (await world.runtime.audit.page(name, 1, None, None, None)).next_cursor
    refused = await world.http.get(f"/v1/admin/audit?cursor={other}", headers=bearer(ADMIN_KEY))
    assert refused.status_code == 422


async def test_entries_made_at_once_are_all_there_and_chained(world: World) -> None:
    name = new_id("tnt")
    await asyncio.gather(*(world.runtime.audit.record(name, entry(f"t{number}")) for number in range(20)))
    found = await world.runtime.audit.page(name, 100, None, None, None)
    assert sorted(one.target for _, one in found.entries) == sorted(f"t{number}" for number in range(20))
    assert found.intact


@pytest.mark.parametrize("how", ["removed", "changed", "moved from another log", "put in between"])
async def test_whoever_writes_in_redis_is_found_out(world: World, how: str) -> None:
    name, other = new_id("tnt"), new_id("tnt")
    for number in range(3):
        await world.runtime.audit.record(name, entry(f"t{number}"))
        await world.runtime.audit.record(other, entry(f"t{number}"))
    wire = await open_wire(world.runtime.settings.redis_url, 2_000)
    log, key = AuditLog(wire), keyspace.audit(name)
    newest, middle, oldest = await log.page(name, None, 3)
    if how == "removed":
        await wire.call(key, "XDEL", key, middle.id)
    else:
        await wire.call(key, "XDEL", key, newest.id)
        strange = (await log.page(other, None, 1))[0]
        raw, mac = {
            "changed": (newest.entry.replace(b"t2", b"t9"), newest.mac),
            "moved from another log": (strange.entry, strange.mac),
            "put in between": (middle.entry, middle.mac),
        }[how]
        await wire.call(key, "XADD", key, "*", "e", raw, "m", mac)
    await wire.close()
    assert oldest.entry
    assert (await world.runtime.audit.page(name, 10, None, None, None)).intact is False


def entry(target: str, action: str = "a") -> Entry:
    return Entry(at=1, actor="admin", action=action, target=target, request_id="r")
