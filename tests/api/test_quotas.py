"""Quotas of good calls: what a caller is told, that all processes share one, and what they cost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import httpx
import pytest

from app.embedded import free_port
from app.model import new_id
from app.quotas import WINDOW_S, Quotas
from app.store.quotas import QuotaLedger
from app.store.wire import Wire, open_wire
from tests.api.world import World, a_world, bearer

FIELD = re.compile(r'"(?P<name>[a-z]+)";(?P<a>[qr])=(?P<amount>\d{1,15});(?P<b>[wt])=(?P<seconds>\d{1,15})', re.ASCII)
"""One Item with parameters (RFC 9651 §3.3), as the draft has it."""


@pytest.fixture
async def wire(valkey_url: str) -> AsyncIterator[Wire]:
    found = await open_wire(valkey_url, 2_000)
    yield found
    await found.close()


@pytest.fixture
async def world(own_server: Any) -> AsyncIterator[World]:
    limits = {"VERIFIES": "6000", "READS": "12", "WRITES": "600000"}
    async with a_world(own_server.url, **{f"HELLOJOHN_{name}_PER_MINUTE": n for name, n in limits.items()}) as found:
        yield found


class Alone:
    """The ledger of a process that has no company: a bucket nobody else takes from, on the test's clock."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.full_at: dict[str, float] = {}

    async def spend(self, name: str, seconds: float) -> float:
        self.full_at[name] = max(self.full_at.get(name, 0.0), self.now) + seconds
        return self.full_at[name] - self.now


class Heard(QuotaLedger):
    """The ledger that all share, and whether a process that asked has heard."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self.answered = asyncio.Event()

    async def spend(self, name: str, seconds: float) -> float:
        found = await super().spend(name, seconds)
        self.answered.set()
        return found


def told(answer: httpx.Response, name: str) -> dict[str, Any]:
    found = FIELD.fullmatch(answer.headers[name])
    assert found is not None, answer.headers[name]
    return {found["a"]: int(found["amount"]), found["b"]: int(found["seconds"]), "name": found["name"]}


async def reads(world: World, key: str) -> httpx.Response:
    return await world.http.get("/v1/sessions?user_id=u1&limit=1", headers=bearer(key))


async def test_every_answer_to_a_key_says_the_quota_and_what_is_left(world: World) -> None:
    _, key = await world.key(world.own)
    for left in range(11, -1, -1):
        answer = await reads(world, key)
        assert answer.status_code == 200
        assert told(answer, "RateLimit-Policy") == {"name": "read", "q": 12, "w": WINDOW_S}
        standing = told(answer, "RateLimit")
        assert (standing["name"], standing["r"]) == ("read", left)
        assert abs(standing["t"] - 5 * (12 - left)) <= 1
    refused = await reads(world, key)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["content-type"] == "application/problem+json"
    standing = told(refused, "RateLimit")
    assert standing["r"] == 0
    assert standing["t"] == int(refused.headers["retry-after"])
    assert 1 <= standing["t"] <= 5


async def test_a_quota_is_of_one_key_and_one_class(world: World) -> None:
    _, key = await world.key(world.own)
    _, other = await world.key(world.own)
    while (await reads(world, key)).status_code == 200:
        pass
    assert (await reads(world, other)).status_code == 200
    assert (await reads(world, world.credentials[0].sent["Authorization"][7:])).status_code == 200
    begun = await world.http.post("/v1/sessions", json={"user_id": "u1"}, headers=bearer(key))
    assert (begun.status_code, told(begun, "RateLimit")["name"]) == (201, "write")
    body = {"token": begun.json()["access_token"]}
    verdict = await world.http.post("/v1/sessions/verify", json=body, headers=bearer(key))
    assert (verdict.json()["valid"], told(verdict, "RateLimit")["name"]) == (True, "verify")


async def test_who_has_no_key_has_no_quota_and_a_bad_key_uses_none(world: World) -> None:
    for credential in world.credentials:
        if credential.kind == "key" and credential.refused is None:
            continue
        answer = await world.call("GET", "/v1/sessions", credential)
        assert not [name for name in answer.headers if name.startswith("ratelimit")], credential.name
    assert "ratelimit" not in (await world.http.get("/livez")).headers


async def test_verify_pays_next_to_no_command_for_its_quota(world: World) -> None:
    """One script for each tenth of a second, whatever the load; without a quota none at all."""
    _, key = await world.key(world.own)
    token = (await world.session("own")).access_token
    wire = await open_wire(world.runtime.settings.redis_url, 2_000)
    await wire.each("CONFIG", "RESETSTAT")
    for _ in range(20):
        calls = [world.http.post("/v1/sessions/verify", json={"token": token}, headers=bearer(key)) for _ in range(50)]
        assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}
    await asyncio.sleep(0.15)
    [stats] = await wire.each("INFO", "commandstats")
    counted = {name.decode(): int(n) for name, n in re.findall(rb"cmdstat_(\w+):calls=(\d+)", stats)}
    assert counted["hgetall"] >= 1_000
    assert 1 <= counted["evalsha"] <= 50
    await wire.close()


async def test_one_process_alone_is_exact_and_a_quota_comes_back_evenly() -> None:
    ledger = Alone()
    quotas = Quotas(ledger, 0, 60, 0, lambda: ledger.now)
    assert quotas.take("k", "verify") is None

    def served() -> int:
        count = 0
        while (standing := quotas.take("k", "read")) is not None and not standing.retry_after:
            count += 1
        return count

    assert served() == 60
    await asyncio.sleep(0.15)
    assert served() == 0
    for seconds, expected in ((0.9, 0), (0.1, 1), (10.0, 10), (1_000.0, 60)):
        ledger.now += seconds
        assert served() == expected
    await quotas.close()


async def test_processes_share_a_quota(wire: Wire) -> None:
    """Each may be ahead of the others by the call by which it hears of them; one call comes back every second."""
    key, ledger = new_id("key"), Heard(wire)
    processes = [Quotas(ledger, 0, 0, 60) for _ in range(3)]

    async def served(quotas: Quotas, most: int = 99) -> int:
        """How many calls of `most`, which come one after the other; with the second it has heard."""
        count = 0
        ledger.answered.clear()
        while count < most and (standing := quotas.take(key, "write")) is not None and not standing.retry_after:
            count += 1
            if count == 1:
                await ledger.answered.wait()
        await asyncio.sleep(0.2)
        return count

    began = monotonic()
    assert await served(processes[0], 40) == 40
    rest = await served(processes[1])
    assert 19 <= rest <= 21 + monotonic() - began
    again = [await served(quotas) for quotas in (processes[2], *processes)]
    assert 40 + rest + sum(again) <= 60 + 3 + monotonic() - began
    for quotas in processes:
        await quotas.close()


async def test_a_quota_leaves_nothing_in_the_store_once_it_is_whole_again(wire: Wire) -> None:
    name = new_id("key")
    assert 0.9 < await QuotaLedger(wire).spend(name, 1.0) <= 1.0
    assert 1.8 < await QuotaLedger(wire).spend(name, 1.0) <= 2.0
    assert 0 < await wire.call(f"hj:quota:{name}", "PTTL", f"hj:quota:{name}") <= 2_000


async def test_without_the_store_each_process_goes_on_by_itself() -> None:
    nowhere = await open_wire(f"redis://127.0.0.1:{free_port()}/0", 200)
    quotas = Quotas(QuotaLedger(nowhere), 0, 0, 10)
    for _ in range(3):
        quotas.take("k", "write")
    await asyncio.sleep(0.5)
    outcomes = [standing.retry_after == 0 for _ in range(9) if (standing := quotas.take("k", "write")) is not None]
    assert outcomes == [True] * 7 + [False] * 2
    await quotas.close()
    await nowhere.close()


async def test_memory_for_quotas_is_bounded() -> None:
    quotas = Quotas(Alone(), 0, 1_000, 0)
    for number in range(10_500):
        quotas.take(str(number), "read")
    assert len(quotas._buckets) <= 10_000
    await quotas.close()
    assert not quotas._telling
