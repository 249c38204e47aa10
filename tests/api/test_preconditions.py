"""Two who change the same settings: with `If-Match` none overwrites what it has not seen (RFC 9110 §13.1.1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.api.world import World, a_world, bearer
from tests.service import ADMIN_KEY

CONFIG = "/v1/admin/config"


@pytest.fixture
async def world(valkey_url: str) -> AsyncIterator[World]:
    async with a_world(valkey_url) as found:
        yield found


async def patch(world: World, tag: str | None, path: str = CONFIG, **json: Any) -> httpx.Response:
    """As the tenant's backend, or as the operator where the path names the tenant."""
    signed = world.credentials[0].sent if path == CONFIG else bearer(ADMIN_KEY)
    return await world.http.patch(path, json=json, headers={**signed, **({} if tag is None else {"If-Match": tag})})


async def tag_of(world: World, path: str = CONFIG) -> str:
    signed = world.credentials[0].sent if path == CONFIG else bearer(ADMIN_KEY)
    return (await world.http.get(path, headers=signed)).headers["etag"]


def paths(world: World) -> dict[str, list[dict[str, Any]]]:
    """What can be changed, each with two changes that one could make to it."""
    one = f"/v1/admin/tenants/{world.own.id}"
    own: list[dict[str, Any]] = [{"refresh_grace": "3s"}, {"on_limit": "reject"}]
    of_operator: list[dict[str, Any]] = [{"refresh_grace": "4s"}, {"max_sessions_per_user": 7}]
    return {CONFIG: own, f"{one}/config": of_operator, one: [{"name": "Ann's"}, {"name": "Bob's"}]}


async def test_of_two_writers_with_the_same_tag_the_second_is_refused(world: World) -> None:
    for path, (mine, theirs) in paths(world).items():
        seen = await tag_of(world, path)
        first = await patch(world, seen, path, **mine)
        assert first.status_code == 200, first.text
        assert first.headers["etag"] == await tag_of(world, path) != seen
        second = await patch(world, seen, path, **theirs)
        assert (second.status_code, second.json()["code"]) == (412, "precondition_failed")
        assert await tag_of(world, path) == first.headers["etag"], "nothing has changed"
        assert (await patch(world, first.headers["etag"], path, **theirs)).status_code == 200


async def test_of_many_at_once_one_succeeds(world: World) -> None:
    seen = await tag_of(world)
    answers = await asyncio.gather(*(patch(world, seen, refresh_grace=number) for number in range(11, 31)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 19


async def test_without_it_changes_are_merged_and_none_is_lost(world: World) -> None:
    answers = await asyncio.gather(
        patch(world, None, refresh_grace="3s"),
        patch(world, "*", on_limit="reject"),
        patch(world, None, access_token_ttl="5m"),
    )
    assert [answer.status_code for answer in answers] == [200] * 3
    policy = (await world.http.get(CONFIG, headers=world.credentials[0].sent)).json()
    assert (policy["refresh_grace"], policy["on_limit"], policy["access_token_ttl"]) == ("3s", "reject", "5m")


@pytest.mark.parametrize("wrap", ["{}", '"x", {}', '{} , W/"v1"', '"v999999" ,\t{}'])
async def test_a_list_holds_if_one_of_it_does(world: World, wrap: str) -> None:
    assert (await patch(world, wrap.format(await tag_of(world)), refresh_grace="3s")).status_code == 200


@pytest.mark.parametrize("wrap", ["W/{}", '"x"', '"v01"', '"v999999"', 'W/"v1", "v 1"'.replace(" 1", "0")])
async def test_a_weak_tag_and_one_of_another_version_match_nothing(world: World, wrap: str) -> None:
    answer = await patch(world, wrap.format(await tag_of(world)), refresh_grace="3s")
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")


@pytest.mark.parametrize("rubbish", ["", "v1", '"v1', '"v1" "v2"', "*, *", '"v1",' * 40 + '"v1"', '"\u00e9"'])
async def test_what_is_no_list_of_tags_is_400(world: World, rubbish: str) -> None:
    headers = {**world.credentials[0].sent}
    sent = [*headers.items(), ("If-Match", rubbish.encode())]
    answer = await world.http.patch(CONFIG, json={"refresh_grace": "3s"}, headers=sent)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["field"]) == (400, "If-Match")


async def test_a_wrong_change_is_422_whatever_the_tag(world: World) -> None:
    assert (await patch(world, await tag_of(world), refresh_grace="1d")).status_code == 422
    assert (await patch(world, '"v999999"', refresh_grace="1d")).status_code == 422


async def kept(world: World) -> tuple[list[Any], int]:
    """What is on record of the tenant, and how many of its walks are still to come."""
    page = await world.http.get("/v1/admin/audit", headers=world.credentials[0].sent)
    marks = await world.runtime.registry.pending(2 * world.now)
    return page.json()["data"], len(marks.get(world.own.id, []))


async def test_a_change_to_what_is_so_already_is_200_and_leaves_no_trace(world: World) -> None:
    for path, (change, other) in paths(world).items():
        assert (await patch(world, None, path, **change)).status_code == 200
        seen, before = await tag_of(world, path), await kept(world)
        for tag in (None, "*", seen):
            again = await patch(world, tag, path, **change)
            assert (again.status_code, again.headers["etag"]) == (200, seen)
        assert (await patch(world, '"v999999"', path, **change)).status_code == 412
        assert (await tag_of(world, path), await kept(world)) == (seen, before)
        assert (await patch(world, seen, path, **other)).headers["etag"] != seen
        entries, walks = await kept(world)
        assert len(entries) == len(before[0]) + 1 and (walks > before[1]) == (path.endswith("/config"))


async def test_half_of_a_change_that_is_so_already_changes_the_other_half(world: World) -> None:
    assert (await patch(world, None, refresh_grace="3s")).status_code == 200
    seen = await tag_of(world)
    answer = await patch(world, seen, refresh_grace="3s", on_limit="reject")
    assert (answer.status_code, answer.json()["on_limit"]) == (200, "reject") and answer.headers["etag"] != seen


async def test_a_change_of_nothing_is_refused_as_a_sessions_is(world: World) -> None:
    before = await kept(world)
    session = f"/v1/sessions/{await world.session_id('own')}"
    own = world.credentials[0].sent
    refused = [await patch(world, tag, path) for path in paths(world) if "config" in path for tag in (None, "*")]
    refused.append(await world.http.patch(session, json={}, headers=own))
    assert [(one.status_code, one.json()["detail"]) for one in refused] == [(422, "nothing to change")] * 5
    assert await kept(world) == before
