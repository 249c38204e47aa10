"""A random caller of the service and what it may expect at every step (Hypothesis: "Stateful tests").

A failing run is shrunk to the shortest story that still fails, and printed as Python.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, Final, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model.rules import DAY, HOUR, SECOND, Held, Model
from tests.service import ADMIN_KEY

MINUTE: Final = 60 * SECOND
USERS: Final = ("ann", "bob")
RETENTION: Final = DAY

_pick = st.integers(0, 1_000_000)
_chance = st.sampled_from([*range(1, 20), 0])
"""For what takes a hundred times as long as the rest: it happens at 0."""


class Subject(Protocol):
    """The service under test, on a clock that can be turned (epoch milliseconds)."""

    def turn(self, now: int) -> None: ...
    def reset(self) -> None: ...
    def call(self, method: str, path: str, body: object = None, key: str = ADMIN_KEY) -> tuple[int, Any]: ...
    def work(self) -> None: ...
    def restart(self) -> None: ...
    def fill(self, full: bool) -> bool: ...
    def ends(self, tenant_id: str, users: list[str]) -> list[tuple[str, str]]: ...


class Caller(RuleBasedStateMachine):
    """`few_tombstones`: the store soon forgets when and why a session ended, though never that it did."""

    subject: Subject
    few_tombstones = False
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.now = self.latest = time.time_ns() // 1_000_000
        self.subject.turn(self.now)
        self.subject.reset()
        status, tenant = self.subject.call("POST", "/v1/admin/tenants", {"name": "Acme"})
        assert status == 201, tenant
        self.tenant = tenant["id"]
        status, made = self.subject.call("POST", f"/v1/admin/tenants/{self.tenant}/api-keys", {"name": "backend"})
        assert status == 201, made
        self.key = made["key"]
        self.model = Model(self.now)
        self.full = False
        mark = secrets.token_hex(4)
        self.users = [f"{name}-{mark}" for name in USERS]

    # -- sign-in, refresh, verify ---------------------------------------------------------------------------------

    @initialize(pick=_pick)
    def begin(self, pick: int) -> None:
        """Hypothesis leaves rules out at random; without a session most of the others could not run."""
        self.create(pick)
        self.create(pick + 1)

    @rule(pick=_pick)
    def create(self, pick: int) -> None:
        user = self._user(pick)
        full = self.model.full(user)
        status, answer = self._call("POST", "/v1/sessions", {"user_id": user})
        if full:
            assert (status, answer["code"]) == (409, "session_limit_reached")
            return
        evicted = self.model.trim(user, room=1)
        if self.full and not evicted:
            assert (status, answer["code"]) == (503, "store_unavailable")
            return
        assert status == 201, answer
        assert answer["evicted"] == evicted
        created = max(self.now, self.model.cutoff + 1)
        sid, expires = answer["session"]["id"], (self.now + self.model.duration) // SECOND * SECOND
        one = Held(sid, user, created, expires, self.now, answer["refresh_token"])
        one.access.append((answer["access_token"], self._exp(one)))
        self.model.held[sid] = one

    @precondition(lambda self: self.model.held)
    @rule(pick=_pick, age=st.sampled_from(["current", "current", "current", "parent", "parent", "spent"]))
    def refresh(self, pick: int, age: str) -> None:
        one = self._one(pick)
        token = one.current if age == "current" else one.parent if age == "parent" else self._spent(one, pick)
        if token is None:
            return
        known = one.current
        expected = self.model.refresh(one, token)
        status, answer = self._call("POST", "/v1/sessions/refresh", {"refresh_token": token}, key="")
        if expected == "expiring":
            assert (status, answer["code"]) == (401, "session_expired"), (answer, one)
            return
        if expected in ("ended", "reused"):
            assert status == 401, answer
            forgotten = {"session_revoked"} if self.few_tombstones else set()
            assert answer["code"] in _codes(one) | forgotten, (answer, one)
            return
        assert status == 200, (expected, answer)
        assert answer["session"]["id"] == one.sid
        if expected == "replay":
            assert answer["refresh_token"] == known
        else:
            assert answer["refresh_token"] not in (known, one.parent, *one.spent)
            self.model.rotated(one, token, answer["refresh_token"])
        one.access.append((answer["access_token"], self._exp(one)))

    @precondition(lambda self: self.model.held)
    @rule(pick=_pick)
    def refresh_with_a_flipped_letter(self, pick: int) -> None:
        token = self._one(pick).current
        place = 3 + pick % (len(token) - 4)
        forged = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        status, answer = self._call("POST", "/v1/sessions/refresh", {"refresh_token": forged}, key="")
        assert (status, answer["code"]) == (401, "refresh_token_invalid")

    @precondition(lambda self: self.model.held)
    @rule(pick=_pick)
    def verify(self, pick: int) -> None:
        one = self._one(pick)
        token, exp = one.access[pick % len(one.access)]
        fresh = exp > self.now // SECOND
        good = fresh and self.model.seen(one)
        status, answer = self._call("POST", "/v1/sessions/verify", {"token": token})
        assert status == 200, answer
        assert answer["valid"] is good, (answer, one)
        if good:
            assert answer["session"]["id"] == answer["payload"]["session_id"] == one.sid
            assert answer["payload"].get("role") == one.role
        elif not fresh:
            assert answer["error"]["code"] == "token_expired"

    @precondition(lambda self: self.model.held)
    @rule(picks=st.lists(_pick, min_size=1, max_size=4))
    def report_activity(self, picks: list[int]) -> None:
        ones = {one.sid: one for one in map(self._one, picks)}
        for user in {one.user for one in ones.values() if not one.recorded}:
            self.model.trim(user)
        alive = sum(self.model.seen(one) for one in ones.values())
        status, answer = self._call("POST", "/v1/sessions/activity", {"session_ids": list(ones)})
        assert (status, answer) == (200, {"accepted": alive})

    @precondition(lambda self: self.model.held)
    @rule(pick=_pick, role=st.sampled_from(["owner", "guest", None]))
    def change_role(self, pick: int, role: str | None) -> None:
        one = self._one(pick)
        dead = self.model.dead(one)
        if dead and not one.recorded:
            self.model.end(one, "")
        status, answer = self._call("PATCH", f"/v1/sessions/{one.sid}", {"role": role})
        if dead:
            assert answer["code"] in ("session_ended", "session_not_found"), answer
            return
        one.role = role
        if one.expires - self.now < SECOND:
            assert (status, answer["code"]) == (409, "session_ended"), answer
            return
        assert status == 200, answer
        one.access.append((answer["access_token"], self._exp(one)))

    # -- looking and ending ---------------------------------------------------------------------------------------

    @rule(pick=_pick)
    def list_of_a_user(self, pick: int) -> None:
        user = self._user(pick)
        found, page = list[str](), f"/v1/sessions?user_id={user}&limit=100"
        more = ""
        while True:
            status, answer = self._call("GET", page + more)
            assert status == 200, answer
            found += [session["id"] for session in answer["data"]]
            if not answer["pagination"]["has_more"]:
                break
            more = f"&cursor={answer['pagination']['next_cursor']}"
        assert found == self.model.alive(user)

    @precondition(lambda self: self.model.held)
    @rule(pick=_pick)
    def revoke(self, pick: int) -> None:
        one = self._one(pick)
        if not one.recorded:
            self.model.end(one, "revoked")
        status, answer = self._call("DELETE", f"/v1/sessions/{one.sid}")
        assert status == 204 or (status == 404 and self._forgotten(one)), answer

    @rule(pick=_pick, keep=st.booleans())
    def revoke_all_of_a_user(self, pick: int, keep: bool) -> None:
        user = self._user(pick)
        mine = [one for one in self.model.held.values() if one.user == user]
        spared = mine[pick % len(mine)].sid if keep and mine else None
        self.model.settle(user)
        living = sorted(one.sid for one in self.model.of(user) if one.sid != spared)
        for one in self.model.of(user):
            if one.sid != spared:
                self.model.end(one, "user_revoked")
        body = {"user_id": user} | ({"except_session_id": spared} if spared else {})
        status, answer = self._call("POST", "/v1/sessions/revoke", body)
        assert (status, sorted(answer["session_ids"])) == (200, living)

    @rule(chance=_chance)
    def revoke_the_tenant(self, chance: int) -> None:
        if chance:
            return
        status, answer = self._call("POST", "/v1/sessions/revoke", {"all": True})
        assert status == 200, answer
        begun = [one.created for one in self.model.held.values() if not one.recorded]
        self.model.cutoff = max(self.model.cutoff, self.now, *begun)

    # -- policy, time, faults -------------------------------------------------------------------------------------

    @rule(limit=st.sampled_from([None, 1, 2, 3]), reject=st.booleans())
    def change_limit(self, limit: int | None, reject: bool) -> None:
        self._policy({"max_sessions_per_user": limit, "on_limit": "reject" if reject else "evict"})
        self.model.limit, self.model.reject = limit, reject

    @rule(idle=st.sampled_from([None, 60, 1_800]))
    def change_idle_timeout(self, idle: int | None) -> None:
        self._policy({"idle_timeout": idle})
        self.model.new_idle(None if idle is None else idle * SECOND)

    @rule(hours=st.sampled_from([2, 48, 720]), grace=st.sampled_from([0, 10]), ttl=st.sampled_from([60, 3_600]))
    def change_durations(self, hours: int, grace: int, ttl: int) -> None:
        self._policy({"session_duration": f"{hours}h", "refresh_grace": grace, "access_token_ttl": ttl})
        self.model.duration, self.model.grace = hours * HOUR, grace * SECOND
        self.model.new_ttl(ttl * SECOND)

    @rule(step=st.sampled_from([1, 900, 5 * SECOND, 11 * SECOND, 59 * SECOND, MINUTE, 31 * MINUTE, 3 * HOUR, 2 * DAY]))
    def time_passes(self, step: int) -> None:
        self._at(self.now + step)

    @precondition(lambda self: self.model.held)
    @rule(pick=_pick, left=st.sampled_from([-1, 0, 1, 300, 999, 1_000, 1_700]))
    def time_passes_until_a_session_expires(self, pick: int, left: int) -> None:
        """To the last seconds of a session, where times in seconds and in milliseconds could differ."""
        self._at(max(self.now, self._one(pick).expires - left))

    @precondition(lambda self: self.now > self.latest - 2 * SECOND)
    @rule(step=st.sampled_from([1, 700, 2 * SECOND]))
    def clock_steps_back(self, step: int) -> None:
        self._at(self.now - step)

    @rule(chance=_chance)
    def worker_goes_round(self, chance: int) -> None:
        if chance:
            return
        self._at(self.latest + 1_100)
        self.subject.work()
        self.model.work()

    @rule(full=st.sampled_from([False, False, False, True]))
    def memory_is_full(self, full: bool) -> None:
        """No session begins then unless another is evicted for it, and all else goes on as always."""
        self.full = self.subject.fill(full) and full

    @rule(chance=_chance)
    def restart(self, chance: int) -> None:
        if not chance:
            self.subject.restart()

    # -- the end --------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Every way to ask agrees, and each end was announced once."""
        self.worker_goes_round(0)
        for user in self.users:
            self.list_of_a_user(self.users.index(user))
        for one in self.model.held.values():
            _, answer = self._call("POST", "/v1/sessions/verify", {"session_id": one.sid})
            assert answer["valid"] is (not self.model.dead(one)), (answer, one)
        ends = self.subject.ends(self.tenant, self.users)
        mine = [(sid, reason) for sid, reason in ends if sid in self.model.held]
        assert sorted(sid for sid, _ in mine) == sorted(s.sid for s in self.model.held.values() if s.recorded)
        assert all(reason in self.model.held[sid].reasons for sid, reason in mine), mine

    def _call(self, method: str, path: str, body: object = None, key: str | None = None) -> tuple[int, Any]:
        type(self).steps += 1
        return self.subject.call(method, path, body, self.key if key is None else key)

    def _policy(self, changes: dict[str, Any]) -> None:
        status, answer = self._call("PATCH", "/v1/admin/config", changes)
        assert status == 200, answer

    def _at(self, now: int) -> None:
        self.now, self.latest = now, max(now, self.latest)
        self.model.now = now
        self.subject.turn(now)

    def _user(self, pick: int) -> str:
        return self.users[pick % len(self.users)]

    def _one(self, pick: int) -> Held:
        """Any session, the newer ones more often."""
        ones = list(self.model.held.values())
        return ones[-1 - pick % min(len(ones), 6)] if pick % 5 else ones[pick % len(ones)]

    def _exp(self, one: Held) -> int:
        return min(self.now + self.model.minted(), one.expires) // SECOND

    def _spent(self, one: Held, pick: int) -> str | None:
        return one.spent[pick % len(one.spent)] if one.spent else None

    def _forgotten(self, one: Held) -> bool:
        """Whether the service may no longer remember an ended session, on the latest clock that it has seen."""
        return one.ended_at is not None and self.latest >= min(one.ended_at, one.expires) + RETENTION - DAY


def _codes(one: Held) -> set[str]:
    """What a refused refresh may say; `refresh_token_invalid` once the tombstone may be buried."""
    codes = {"session_expired" if reason == "expired" else "session_revoked" for reason in one.reasons}
    if "refresh_token_reused" in one.reasons:
        codes = {"refresh_token_reused"}
    return codes | {"refresh_token_invalid"}


def machine(name: str, subject: Subject, few_tombstones: bool) -> type[Caller]:
    """A machine over one subject."""
    return type(name, (Caller,), {"subject": subject, "few_tombstones": few_tombstones})
