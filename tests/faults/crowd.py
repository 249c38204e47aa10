"""Many honest clients at once against real processes, everything they did and heard, and what must hold of it.

Honest means: a client presents the newest refresh token it has, repeats a call whose answer it did not get, and may
send the same refresh from three tabs at once. It never goes on with a successor while the older token is under way.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

LIMIT: Final = 5
_PATIENCE_S: Final = 5.0
_GOOD: Final = {
    "create": 201, "verify": 200, "refresh": 200, "list": 200, "revoke": 204, "revoke_user": 200, "report": 200,
}  # fmt: skip


@dataclass
class Act:
    """One request and its answer; `status` 0 is none. Times are seconds of one monotonic clock."""

    what: str
    begun: float
    done: float
    status: int
    about: str | None
    answer: Any


@dataclass
class Device:
    sid: str
    user: str
    refresh: str
    access: str
    busy: bool = False


@dataclass
class Told:
    """What the crowd did and heard, in the order in which answers came."""

    acts: list[Act] = field(default_factory=list)
    devices: dict[str, Device] = field(default_factory=dict)
    followed: list[tuple[str, str]] = field(default_factory=list)

    def counts(self) -> str:
        done = Counter(act.what for act in self.acts)
        failed = sum(act.status in (0, 503) for act in self.acts)
        kinds = ", ".join(f"{number} {what}" for what, number in sorted(done.items()))
        return f"{len(self.acts)} requests ({kinds}), {failed} refused, {len(self.followed)} events followed"


class Crowd:
    """`urls` of the API's processes, `key` of the tenant; everything random comes from `seed`."""

    def __init__(self, urls: Sequence[str], key: str, seed: int, users: int = 12, clients: int = 12) -> None:
        self.told = Told()
        self._urls = list(urls)
        self._key = key
        self._random = random.Random(seed)
        self._users = [f"user_{number}" for number in range(users)]
        self._clients = clients
        self._stop = False
        self._cursor = ""

    async def run(self, trouble: Callable[[], Awaitable[None]]) -> None:
        """Act until `trouble` is over, then make sure that everyone who should be signed in still is."""
        async with httpx.AsyncClient(timeout=_PATIENCE_S, trust_env=False) as self._http:
            clients = [asyncio.create_task(self._client()) for _ in range(self._clients)]
            clients.append(asyncio.create_task(self._follow()))
            try:
                await trouble()
                self.healed_after = await self._until_well()
            finally:
                self._stop = True
                await asyncio.gather(*clients)
            await self._refresh_everyone()
            await asyncio.sleep(0.1)
            await self._read_on()

    def moved(self, old: str, new: str) -> None:
        """A process came back under another address."""
        self._urls[self._urls.index(old)] = new

    async def _client(self) -> None:
        acts: list[tuple[Callable[[], Awaitable[object]], int]] = [
            (self._verify, 30),
            (self._refresh, 20),
            (self._create, 18),
            (self._list, 12),
            (self._revoke, 8),
            (self._report, 6),
            (self._revoke_user, 2),
        ]
        while not self._stop:
            (act,) = self._random.choices([act for act, _ in acts], [weight for _, weight in acts])
            await act()

    async def _follow(self) -> None:
        """A subscriber that is away most of the time, and goes on from where it was."""
        while not self._stop:
            await asyncio.sleep(self._random.uniform(0, 1))
            await self._read_on()

    async def _read_on(self) -> None:
        """Pages of the log from the cursor on."""
        while True:
            path = "/v1/events?limit=100" + (f"&after={self._cursor}" if self._cursor else "")
            try:
                headers = {"Authorization": f"Bearer {self._key}"}
                answer = await self._http.get(self._random.choice(self._urls) + path, headers=headers)
            except httpx.TransportError:
                return
            if answer.status_code == 503:
                return
            page = answer.json()
            self._cursor = page["pagination"]["next_cursor"]
            self.told.followed += [(e["session_id"], e["reason"]) for e in page["data"] if e.get("reason")]
            if not page["pagination"]["has_more"]:
                return

    async def _until_well(self) -> float:
        """Seconds until every process serves again, reads and writes."""
        began = time.monotonic()
        for url in self._urls:
            while await self._create(url) != 201:
                assert time.monotonic() - began < 20, f"{url} did not come back"
        return time.monotonic() - began

    async def _refresh_everyone(self) -> None:
        for device in list(self.told.devices.values()):
            await self._refresh_once(device)

    async def _create(self, url: str | None = None) -> int:
        body = {"user_id": self._random.choice(self._users)}
        act = await self._ask("create", "POST", "/v1/sessions", body, url=url)
        if act.status == 201:
            session = act.answer["session"]
            act.about = session["id"]
            device = Device(session["id"], session["user_id"], act.answer["refresh_token"], act.answer["access_token"])
            self.told.devices[device.sid] = device
        return act.status

    async def _verify(self) -> None:
        if device := self._some():
            await self._ask("verify", "POST", "/v1/sessions/verify", {"token": device.access}, device.sid)

    async def _refresh(self) -> None:
        device = self._some()
        if device is None or device.busy:
            return
        device.busy = True
        try:
            tabs = 3 if self._random.random() < 0.25 else 1
            await asyncio.gather(*(self._refresh_once(device) for _ in range(tabs)))
        finally:
            device.busy = False

    async def _refresh_once(self, device: Device) -> None:
        token = device.refresh
        act = await self._ask(
            "refresh", "POST", "/v1/sessions/refresh", {"refresh_token": token}, device.sid, key=False
        )
        if act.status == 200:
            act.answer["presented"] = token
            device.refresh, device.access = act.answer["refresh_token"], act.answer["access_token"]

    async def _list(self) -> None:
        user = self._random.choice(self._users)
        await self._ask("list", "GET", f"/v1/sessions?user_id={user}&limit=100", None, user)

    async def _revoke(self) -> None:
        if device := self._some():
            await self._ask("revoke", "DELETE", f"/v1/sessions/{device.sid}", None, device.sid)

    async def _revoke_user(self) -> None:
        user = self._random.choice(self._users)
        await self._ask("revoke_user", "POST", "/v1/sessions/revoke", {"user_id": user}, user)

    async def _report(self) -> None:
        if device := self._some():
            await self._ask("report", "POST", "/v1/sessions/activity", {"session_ids": [device.sid]}, device.sid)

    async def _ask(
        self,
        what: str,
        method: str,
        path: str,
        body: object,
        about: str | None = None,
        key: bool = True,
        url: str | None = None,
    ) -> Act:
        headers = {"Authorization": f"Bearer {self._key}"} if key else {}
        begun = time.monotonic()
        try:
            address = (url or self._random.choice(self._urls)) + path
            answer = await self._http.request(method, address, json=body, headers=headers)
            status, found = answer.status_code, answer.json() if answer.content else None
        except httpx.TransportError as error:
            status, found = 0, type(error).__name__
        act = Act(what, begun, time.monotonic(), status, about, found)
        self.told.acts.append(act)
        if status in (0, 503):
            await asyncio.sleep(0.02)
        return act

    def _some(self) -> Device | None:
        """A device, the newest ones more often."""
        devices = list(self.told.devices.values())
        if not devices:
            return None
        return self._random.choice(devices[-60:] if self._random.random() < 0.8 else devices)


def violations(told: Told, ends: list[tuple[str, str]]) -> list[str]:
    """Where a history and the end events (session, reason) that it left break what DESIGN §12 promises."""
    over = _acknowledged_ends(told)
    return [
        *_answers_that_do_not_fit(told),
        *_the_dead_that_live(told, over),
        *_lists_that_lie(told, over),
        *_tokens_with_two_successors(told),
        *_ends_that_do_not_add_up(told, over, ends),
        *_events_that_a_follower_missed(told, ends),
    ]


def _answers_that_do_not_fit(told: Told) -> Iterator[str]:
    for act in told.acts:
        refused = {0, 503, 401} if act.what == "refresh" else {0, 503}
        if act.status != _GOOD[act.what] and act.status not in refused:
            yield f"unexpected answer: {act}"
        if _lives(act) and act.answer["session"]["id"] != act.about:
            yield f"another session's answer: {act}"
        if act.what == "list" and act.status == 200:
            if {session["user_id"] for session in act.answer["data"]} - {act.about}:
                yield f"another user's list: {act}"


def _lives(act: Act) -> bool:
    """Whether this answer says that its session is alive."""
    return act.status == 200 and (act.what == "refresh" or (act.what == "verify" and act.answer["valid"]))


def _acknowledged_ends(told: Told) -> dict[str, float]:
    """When the first answer arrived that said a session is over."""
    over: dict[str, float] = {}
    for act in told.acts:
        said: list[str] = []
        if act.what == "revoke" and act.status == 204:
            said = [act.about or ""]
        elif act.what == "revoke_user" and act.status == 200:
            said = act.answer["session_ids"]
        elif act.what == "create" and act.status == 201:
            said = act.answer["evicted"]
        elif (act.what == "verify" and act.status == 200 and not act.answer["valid"]) or (
            act.what == "refresh" and act.status == 401
        ):
            said = [act.about or ""]
        for sid in said:
            over[sid] = min(over.get(sid, act.done), act.done)
    return over


def _the_dead_that_live(told: Told, over: dict[str, float]) -> Iterator[str]:
    for act in told.acts:
        if _lives(act) and act.begun > over.get(act.about or "", act.begun):
            yield f"alive after its end was acknowledged: {act}"


def _lists_that_lie(told: Told, over: dict[str, float]) -> Iterator[str]:
    for act in told.acts:
        if act.what == "list" and act.status == 200:
            sids = [session["id"] for session in act.answer["data"]]
            if len(sids) > LIMIT:
                yield f"{len(sids)} sessions alive: {act}"
            for sid in sids:
                if act.begun > over.get(sid, act.begun):
                    yield f"{sid} listed after its end was acknowledged"


def _tokens_with_two_successors(told: Told) -> Iterator[str]:
    """Within the grace, tabs that refresh together get the same."""
    answers: dict[str, list[Act]] = defaultdict(list)
    for act in told.acts:
        if act.what == "refresh" and act.status == 200:
            answers[act.answer["presented"]].append(act)
    for acts in answers.values():
        close = [act for act in acts if act.begun < min(a.done for a in acts) + 5]
        if len({act.answer["refresh_token"] for act in close}) != 1:
            yield f"two successors: {close}"


def _ends_that_do_not_add_up(told: Told, over: dict[str, float], ends: list[tuple[str, str]]) -> Iterator[str]:
    tried = defaultdict(set)
    for act in told.acts:
        tried[act.what].add(act.about)
    for sid, times in Counter(sid for sid, _ in ends).items():
        if times > 1:
            yield f"{sid} has {times} end events"
    for sid, reason in ends:
        device = told.devices.get(sid)
        if reason == "refresh_token_reused":
            yield f"{sid}: an honest client was taken for a thief"
        if reason == "revoked" and sid not in tried["revoke"]:
            yield f"{sid} was revoked by nobody"
        if reason == "user_revoked" and device is not None and device.user not in tried["revoke_user"]:
            yield f"{sid} of {device.user} was revoked by nobody"
    for sid in set(over) - {sid for sid, _ in ends}:
        yield f"{sid} is over without an event"


def _events_that_a_follower_missed(told: Told, ends: list[tuple[str, str]]) -> Iterator[str]:
    for end in set(ends) - set(told.followed):
        yield f"a follower of the log never saw {end}"
    for end, times in Counter(told.followed).items():
        if times > 1:
            yield f"a follower of the log saw {end} {times} times"
