"""The deployment's secret, replaced while people work: two processes, one after the other restarted, twice, and not one
request that fails. What was made before is good after; what is made after needs the old secret no more."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from app.embedded import Embedded
from app.keys import UnsealError
from app.runtime import now_ms, open_runtime
from app.sessions import NewSession
from app.settings import Settings
from tests.service import SECRET, Api, Backend, Process, environment

NEW = "another secret of forty letters, quite new"


class Crowd:
    """Users that sign in, refresh, page and repeat themselves, each call through one process or the other; a lost
    connection is tried again, as a backend would, an answer is not."""

    def __init__(self, key: str, urls: list[str]) -> None:
        self.urls, self.wrong, self.done = urls, list[str](), Counter[str]()
        self._key, self._stop = {"Authorization": f"Bearer {key}"}, threading.Event()
        self._threads = [threading.Thread(target=self._live, args=(number,)) for number in range(4)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _live(self, number: int) -> None:
        chance = random.Random(number)
        with httpx.Client(timeout=10, trust_env=False) as http:
            turn = 0
            while not self._stop.is_set():
                turn += 1
                self._story(http, chance, f"u{number}", f"key-{number}-{turn}")

    def _story(self, http: httpx.Client, chance: random.Random, user: str, name: str) -> None:
        signed = {**self._key, "Idempotency-Key": name}
        made = self._call(http, chance, "POST", "/v1/sessions", signed, user_id=user)
        again = self._call(http, chance, "POST", "/v1/sessions", signed, user_id=user)
        self._same("a repeated sign-in", made["refresh_token"], again["refresh_token"])
        token = made["refresh_token"]
        for _ in range(4):
            answers = [self._refresh(http, chance, token) for _ in range(2)]
            self._same("a repeated refresh", *answers)
            token = answers[0]
        checked = self._call(http, chance, "POST", "/v1/sessions/verify", self._key, token=made["access_token"])
        self._same("a verify", checked.get("valid"), True)
        page = self._call(http, chance, "GET", f"/v1/sessions?user_id={user}&limit=1", self._key)
        if cursor := page["pagination"]["next_cursor"]:
            self._call(http, chance, "GET", f"/v1/sessions?user_id={user}&limit=1&cursor={cursor}", self._key)

    def _refresh(self, http: httpx.Client, chance: random.Random, token: str) -> str:
        found: str = self._call(http, chance, "POST", "/v1/sessions/refresh", {}, refresh_token=token)["refresh_token"]
        return found

    def _call(
        self, http: httpx.Client, chance: random.Random, method: str, path: str, headers: dict[str, str], **json: Any
    ) -> dict[str, Any]:
        while True:
            try:
                answer = http.request(method, chance.choice(self.urls) + path, headers=headers, json=json or None)
            except httpx.TransportError:
                time.sleep(0.01)
                continue
            if answer.status_code == 503:
                continue  # a process that is ending or beginning says so
            self.done[path.partition("?")[0]] += 1
            if answer.status_code >= 400:
                self.wrong.append(f"{path} {answer.text}")
                self._stop.set()
                raise SystemExit
            found: dict[str, Any] = answer.json()
            return found

    def _same(self, what: str, one: object, other: object) -> None:
        if one != other:
            self.wrong.append(what)


@pytest.mark.slow
def test_a_secret_is_replaced_under_load_and_no_request_fails(own_server: Embedded) -> None:
    """First everybody learns the new one, then everybody uses it, then the old one is dropped."""
    phases = [(SECRET, ""), (SECRET, NEW), (NEW, SECRET)]
    pair = [start(own_server, *phases[0]) for _ in range(2)]
    kept = pair[0].tenant()
    others = [pair[0].tenant() for _ in range(2)]
    old = kept.create("usr_old")
    try:
        with ThreadPoolExecutor() as ending, Crowd(kept.key, [api.url for api in pair]) as crowd:
            for phase in phases[1:]:
                for place, api in enumerate(pair):
                    pair[place] = start(own_server, *phase)
                    crowd.urls[place] = pair[place].url
                    ending.submit(api.stop)
            time.sleep(1.0)
        assert crowd.wrong == []
        assert all(number > 20 for number in crowd.done.values()), crowd.done
        assert Backend(pair[0], kept.tenant_id, others[0].key).call("GET", "/v1/sessions").status_code == 200
        renewed = pair[1].http.post("/v1/sessions/refresh", json={"refresh_token": old["refresh_token"]})
        assert renewed.status_code == 200
    finally:
        with ThreadPoolExecutor() as ending:
            list(ending.map(Api.stop, pair))
    reseal(own_server)
    last = start(own_server, NEW, "")
    try:
        for key in (kept.key, others[0].key):
            assert Backend(last, kept.tenant_id, key).call("GET", "/v1/sessions").status_code == 200
        assert Backend(last, kept.tenant_id, others[1].key).call("GET", "/v1/sessions").status_code == 401
        assert Backend(last, kept.tenant_id, kept.key).verify(old["access_token"])["valid"]
        refresh = {"refresh_token": renewed.json()["refresh_token"]}
        assert last.http.post("/v1/sessions/refresh", json=refresh).status_code == 200
        stale = last.http.post("/v1/sessions/refresh", json={"refresh_token": old["refresh_token"]})
        assert stale.json()["code"] == "refresh_token_invalid"
    finally:
        last.stop()


def start(server: Embedded, secret: str, other: str) -> Api:
    return Api(server.url, HELLOJOHN_SECRET=secret, HELLOJOHN_OTHER_SECRET=other)


def reseal(server: Embedded) -> None:
    """What the worker does when it starts: the signing keys come under the new secret."""
    env = environment(server.url, HELLOJOHN_SECRET=NEW, HELLOJOHN_OTHER_SECRET=SECRET)
    worker = Process("worker.main", env)
    until = time.monotonic() + 15
    while time.monotonic() < until:
        time.sleep(0.1)
        if opens_alone(server):
            break
    worker.stop()
    assert opens_alone(server)


def opens_alone(server: Embedded) -> bool:
    async def look() -> bool:
        settings = Settings.from_env(
            environment(server.url, HELLOJOHN_SECRET=NEW, HELLOJOHN_ISSUER="https://s.example")
        )
        async with open_runtime(settings) as runtime:
            try:
                await runtime.keys.signer(now_ms())
            except UnsealError:
                return False
            return True

    return asyncio.run(look())


async def test_a_refresh_repeated_through_a_process_on_the_next_secret_gets_the_same_answer(valkey_url: str) -> None:
    """The reply got lost in the middle of the change: whoever is asked next must not make another successor."""
    before, after = (
        Settings.from_env(
            environment(
                valkey_url, HELLOJOHN_SECRET=one, HELLOJOHN_OTHER_SECRET=other, HELLOJOHN_ISSUER="https://s.example"
            )
        )
        for one, other in ((SECRET, NEW), (NEW, SECRET))
    )
    now = now_ms()
    async with open_runtime(before) as old, open_runtime(after) as new:
        tenant = await old.tenants.create("Acme", now)
        for first, second in ((old, new), (new, old)):
            made = await first.sessions.create(tenant, NewSession(user_id="u"), now)
            token = made.refresh_token or ""
            for _ in range(3):
                answers = [await runtime.sessions.refresh(token, now) for runtime in (first, second, first, second)]
                assert len({answer.refresh_token for answer in answers}) == 1
                token = answers[0].refresh_token or ""
                first, second = second, first
