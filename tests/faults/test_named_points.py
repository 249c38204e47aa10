"""A process killed at a named point of every writing call; the client repeats the call at another process.

The points lie on the wire to the server: the request is not delivered; it is executed and the reply is not delivered;
the reply is delivered and the answer is not sent. A call that writes in several pieces is cut at each of them.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from app.client.redis_address import parse_address
from app.model import MINUTE
from app.runtime import now_ms, open_runtime
from app.settings import Settings
from tests.faults.gate import POINTS, Gate, Point
from tests.faults.scene import FULL, SEED, Scene, report
from tests.service import ADMIN_KEY, SECRET, Api

_LIMIT: Final = 3


class Case:
    """A tenant with a full user and a bystander; `ask` is the call that is cut, and then repeated."""

    def __init__(self, api: Api) -> None:
        self.backend = api.tenant()
        self.policy({"max_sessions_per_user": _LIMIT})
        self.anns = [self.backend.create("ann") for _ in range(_LIMIT)]
        self.bob = self.backend.create("bob")
        self.ended: dict[str, int] = {}

    def policy(self, changes: dict[str, Any]) -> None:
        assert self.backend.call("PATCH", "/v1/admin/config", json=changes).status_code == 200

    def alive(self, api: Api) -> list[bool]:
        """Of ann's first sessions, and bob's."""
        return [self.backend.verify(one["access_token"], api)["valid"] for one in (*self.anns, self.bob)]

    def listed(self, api: Api, user: str = "ann") -> list[dict[str, Any]]:
        found = self.backend.call("GET", f"/v1/sessions?user_id={user}&limit=100", api)
        data: list[dict[str, Any]] = found.json()["data"]
        return data


Ask = Callable[[Case, Api], httpx.Response]
Judge = Callable[[Case, Api, httpx.Response], None]


def create(case: Case, api: Api) -> httpx.Response:
    return case.backend.call(
        "POST", "/v1/sessions", api, json={"user_id": "ann"}, headers={"Idempotency-Key": case.bob["session"]["id"]}
    )


def created(case: Case, api: Api, again: httpx.Response) -> None:
    """Once: one session more, one evicted, and the answer of the repeat is the one that lives."""
    assert again.status_code == 201, again.text
    sids = [session["id"] for session in case.listed(api)]
    assert len(sids) == _LIMIT and again.json()["session"]["id"] in sids
    assert case.backend.verify(again.json()["access_token"], api)["valid"]
    assert case.alive(api) == [False, True, True, True]
    case.ended = {"evicted": 1}


def refresh(case: Case, api: Api) -> httpx.Response:
    return api.http.post("/v1/sessions/refresh", json={"refresh_token": case.anns[0]["refresh_token"]})


def refreshed(case: Case, api: Api, again: httpx.Response) -> None:
    """Nobody is signed out, and the successor is good."""
    assert again.status_code == 200, again.text
    following = api.http.post("/v1/sessions/refresh", json={"refresh_token": again.json()["refresh_token"]})
    assert following.status_code == 200, following.text
    assert case.alive(api) == [True, True, True, True]


def revoke(case: Case, api: Api) -> httpx.Response:
    return case.backend.call("DELETE", f"/v1/sessions/{case.anns[1]['session']['id']}", api)


def revoked(case: Case, api: Api, again: httpx.Response) -> None:
    assert again.status_code == 204, again.text
    assert case.alive(api) == [True, False, True, True]
    case.ended = {"revoked": 1}


def revoke_user(case: Case, api: Api) -> httpx.Response:
    return case.backend.call("POST", "/v1/sessions/revoke", api, json={"user_id": "ann"})


def user_revoked(case: Case, api: Api, again: httpx.Response) -> None:
    assert again.status_code == 200, again.text
    assert case.alive(api) == [False, False, False, True]
    case.ended = {"user_revoked": _LIMIT}


def revoke_all(case: Case, api: Api) -> httpx.Response:
    return case.backend.call("POST", "/v1/sessions/revoke", api, json={"all": True})


def all_revoked(case: Case, api: Api, again: httpx.Response) -> None:
    assert again.status_code == 200, again.text
    assert case.alive(api) == [False, False, False, False]
    fresh = case.backend.call("POST", "/v1/sessions", api, json={"user_id": "ann"}).json()
    assert case.backend.verify(fresh["access_token"], api)["valid"]
    case.ended = {"tenant_revoked": _LIMIT + 1}


def change_policy(case: Case, api: Api) -> httpx.Response:
    return case.backend.call("PATCH", "/v1/admin/config", api, json={"max_sessions_per_user": 1})


def policy_changed(case: Case, api: Api, again: httpx.Response) -> None:
    assert again.status_code == 200, again.text
    assert again.json()["max_sessions_per_user"] == 1
    assert len(case.listed(api)) == 1
    assert case.alive(api) == [False, False, True, True]
    case.ended = {"evicted": _LIMIT - 1}


def update(case: Case, api: Api) -> httpx.Response:
    sid = case.anns[0]["session"]["id"]
    return case.backend.call("PATCH", f"/v1/sessions/{sid}", api, json={"role": "owner"})


def updated(case: Case, api: Api, again: httpx.Response) -> None:
    assert again.status_code == 200, again.text
    verdict = case.backend.verify(again.json()["access_token"], api)
    assert verdict["payload"]["role"] == "owner"
    assert case.alive(api) == [True, True, True, True]


def delete_tenant(case: Case, api: Api) -> httpx.Response:
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    return api.http.delete(f"/v1/admin/tenants/{case.backend.tenant_id}", headers=admin)


def tenant_deleted(case: Case, api: Api, again: httpx.Response) -> None:
    """The repeat finds it done already, or does it."""
    assert again.status_code in (204, 404), again.text
    for one in (*case.anns, case.bob):
        assert api.http.post("/v1/sessions/refresh", json={"refresh_token": one["refresh_token"]}).status_code == 401
    case.ended = {"tenant_revoked": _LIMIT + 1}


CALLS: Final[list[tuple[Ask, Judge]]] = [
    (create, created), (refresh, refreshed), (revoke, revoked), (revoke_user, user_revoked),
    (revoke_all, all_revoked), (change_policy, policy_changed), (update, updated), (delete_tenant, tenant_deleted),
]  # fmt: skip


class Killings:
    """Kills the first process of a scene, lets the second answer the repeat, and starts another. Only what the first
    says to the server passes the gate: what another writes in the meantime must not be taken for it."""

    def __init__(self, scene: Scene, gate: Gate) -> None:
        self.scene, self.gate = scene, gate
        self.done: Counter[str] = Counter()

    async def unhurt(self, ask: Ask, judge: Judge) -> None:
        """Asked twice, and nobody killed: the judge finds no fault, and the server knows every script from now on. (An
        EVALSHA that it does not know has written nothing.)"""
        witness = self.scene.apis[1]
        case = await asyncio.to_thread(Case, witness)
        await asyncio.to_thread(ask, case, witness)
        await asyncio.to_thread(judge, case, witness, await asyncio.to_thread(ask, case, witness))
        await self._settle(case)

    async def kill(self, ask: Ask, judge: Judge, point: Point, number: int) -> bool:
        """False if the call was over before that point."""
        victim, witness = self.scene.apis[:2]
        case = await asyncio.to_thread(Case, witness)
        await asyncio.to_thread(case.alive, victim)
        await self.gate.quiet()
        self.gate.arm(point, number)
        asking = asyncio.create_task(asyncio.to_thread(_answer, ask, case, victim))
        reached = asyncio.create_task(self.gate.reached.wait())
        await asyncio.wait({asking, reached}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        if not self.gate.reached.is_set():
            self.gate.disarm()
            return False
        victim.child.kill()
        answer = await asking
        assert answer is None or point == "replied", "it has been answered before it was killed"
        self.gate.disarm()
        victim.stop()
        starting = asyncio.create_task(asyncio.to_thread(self.scene.api))
        again = await asyncio.to_thread(ask, case, witness)
        await asyncio.to_thread(judge, case, witness, again)
        await self._settle(case)
        self.scene.apis[:2] = [await starting, witness]
        self.done[ask.__name__] += 1
        return True

    async def _settle(self, case: Case) -> None:
        """What the worker does later, and then: one end event each, and indexes that agree."""
        settings = Settings(
            redis_url=parse_address(self.scene.server.url),
            secret=SECRET.encode(),
            admin_key=ADMIN_KEY,
            issuer="https://x.example",
        )
        async with open_runtime(settings) as runtime:
            await runtime.upkeep.apply_policies(lambda: now_ms() + MINUTE)
        ends = await self.scene.ends(case.backend.tenant_id)
        assert len({sid for sid, _ in ends}) == len(ends), ends
        assert Counter(reason for _, reason in ends) == case.ended
        assert await self.scene.damages() == {}


def _answer(ask: Ask, case: Case, api: Api) -> httpx.Response | None:
    try:
        return ask(case, api)
    except httpx.TransportError:
        return None


@pytest.mark.slow
async def test_a_call_cut_at_any_point_may_be_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(SEED)
    # Without quotas: what a key has spent is written beside its calls, and is none of a call's own writes.
    async with Scene(
        tmp_path,
        processes=1,
        workers=0,
        proxy=Gate,
        HELLOJOHN_READS_PER_MINUTE="0",
        HELLOJOHN_WRITES_PER_MINUTE="0",
    ) as scene:
        gate = scene.proxy
        assert isinstance(gate, Gate)
        scene.apis.append(await asyncio.to_thread(scene.api, REDIS_URL=scene.server.url))
        killings = Killings(scene, gate)
        for ask, judge in CALLS:
            await killings.unhurt(ask, judge)
            for point in POINTS if FULL else [chance.choice(POINTS)]:
                if FULL:
                    number = 1
                    while await killings.kill(ask, judge, point, number):
                        number += 1
                else:
                    for number in (chance.randint(4, 10), chance.randint(2, 3), 1):
                        if await killings.kill(ask, judge, point, number):
                            break
        report(
            capsys,
            f"killed at named points: seed {SEED}, {killings.done.total()} kills "
            f"({', '.join(f'{number} in {what}' for what, number in killings.done.items())}); every call repeated, "
            "nobody signed out, one event each, indexes agree",
        )
        assert killings.done.keys() == {ask.__name__ for ask, _ in CALLS}
