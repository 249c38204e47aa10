"""The service's public keys, fetched when needed (the rules of panva/jose, `createRemoteJWKSet`).

Fetched again when they are `max_age` old, or when a token names an unknown key and the last fetch is longer ago than
the cooldown; one fetch at a time. Who follows the service hears in between which keys there are: one that is gone is
good no more from then on, one that is new is fetched within a second or two.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import httpx
import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from .breaker import KEYS, Breaker
from .errors import ServiceUnavailable
from .freshness import clock

PATH: Final = "/.well-known/jwks.json"

_HEADERS: Final = {"Accept": "application/json", "Cache-Control": "no-cache"}
_TIMEOUT_S: Final = 5.0
_RETRY_S: Final = 1.0
_SPREAD_S: Final = 1.0
"""All verifiers hear of a new key in the same moment."""
_STRANGERS: Final = 1_000
_MAX_AGE: Final = re.compile(r"max-age=(\d{1,9})", re.ASCII)
_NEVER: Final = float("-inf")
_log: Final = logging.getLogger("session_client")


class KeySet:
    """`changed(gone)` is called after each fetch that succeeds and whenever a key goes: whether one is gone.

    A key that is not here need not be a forgery: it may be newer than what is known. It is refuted by a list of all
    keys, or a set, that is not older than the token that named it first; and one that was here by what came without it.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        max_age: float,
        cooldown: float,
        changed: Callable[[bool], None],
        breaker: Breaker | None = None,
        timeout: float = _TIMEOUT_S,
    ) -> None:
        self.keys: dict[str, OKPKey] = {}
        self._http = http
        self._longest = max_age
        self._max_age = max_age
        self._cooldown = cooldown
        self._changed = changed
        self._breaker = breaker or Breaker()
        self._timeout = timeout
        self._set: dict[str, OKPKey | None] = {}
        self._withdrawn: set[str] = set()
        self._expected: set[str] = set()
        self._strangers = Strangers(_STRANGERS)
        self._fetched = _NEVER
        self._listed = _NEVER
        self._tried = _NEVER
        self._asked = _NEVER
        self._fetching: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None

    @property
    def good_until(self) -> float:
        """When even keys that could not be fetched again in time are too old to be believed."""
        return self._fetched + 2 * self._max_age

    async def found(self, kid: str) -> bool | None:
        """Whether there is such a key, after a fetch if that can tell and one may be made; `None` while nobody here can
        tell. Raises `ServiceUnavailable` if the fetch fails."""
        self._strangers.note(kid)
        if kid not in self.keys and self._may_fetch(kid):
            await self.fetch()
        if kid in self.keys:
            return True
        return False if self._is_refuted(kid) else None

    def refutes(self, kid: str) -> bool:
        """Whether it is proved that there is no such key. If it is not, a fetch is under way, or soon where one may be
        made."""
        self._strangers.note(kid)
        if not self._may_fetch(kid):
            return self._is_refuted(kid)
        if clock() >= self._tried + _RETRY_S:
            self._begin()
        return False

    def listed(self, kids: frozenset[str], as_of: float) -> None:
        """At `as_of` or later these were all keys of the service. What was fetched since then is newer."""
        if as_of < self._fetched:
            return
        self._listed = max(self._listed, as_of)
        self._withdrawn = (self._withdrawn | self._set.keys()) - kids
        before = self.keys
        self._choose()
        if self.keys != before:
            self._changed(not before.keys() <= self.keys.keys())
        self._expected = set(kids - self._set.keys())
        self._catch_up(random.uniform(0, _SPREAD_S))  # noqa: S311 - spreads load, guards nothing

    def expect(self, kid: str) -> None:
        """The service has vouched for a token of this key."""
        if kid not in self._set:
            self._expected.add(kid)
            self._catch_up(0.0)

    def may_ask(self) -> bool:
        """Whether the service may be asked about a token of a key that is not known; once in a cooldown."""
        if clock() < self._asked + self._cooldown:
            return False
        self._asked = clock()
        return True

    async def fetch(self) -> None:
        """Fetch now, or wait for the fetch under way. Raises `ServiceUnavailable`."""
        if self._fetching is None and clock() < self._tried + _RETRY_S:
            raise ServiceUnavailable
        await asyncio.shield(self._begin())

    async def keep_fresh(self) -> None:
        """Fetch whenever the keys reach their age, for ever."""
        while True:
            await asyncio.sleep(max(_RETRY_S, self._fetched + self._max_age - clock()))
            if clock() < self._fetched + self._max_age:
                continue
            with suppress(ServiceUnavailable):
                await self.fetch()

    async def close(self) -> None:
        tasks = [task for task in (self._catching_up, self._fetching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _may_fetch(self, kid: str) -> bool:
        """A key that is listed and not here is worth more haste than one that only a token names."""
        if kid in self._withdrawn:
            return False
        pause = min(_RETRY_S, self._cooldown) if kid in self._expected else self._cooldown
        return clock() >= self._fetched + pause

    def _is_refuted(self, kid: str) -> bool:
        if kid in self._withdrawn or kid in self._set:  # gone, or of another kind
            return True
        return kid not in self._expected and self._strangers.since(kid) <= max(self._fetched, self._listed)

    def _choose(self) -> None:
        """A key that has been withdrawn is not taken back for an older set, only for a newer list."""
        self.keys = {kid: key for kid, key in self._set.items() if key is not None and kid not in self._withdrawn}

    def _catch_up(self, wait: float) -> None:
        if self._expected and self._catching_up is None:
            self._catching_up = asyncio.create_task(self._fetch_expected(wait))
            self._catching_up.add_done_callback(self._caught_up)

    def _caught_up(self, task: asyncio.Task[None]) -> None:
        self._catching_up = None
        if not task.cancelled():
            task.exception()

    async def _fetch_expected(self, wait: float) -> None:
        """Until every key that is listed is here; less and less often, in the end once in a cooldown."""
        while self._expected:
            await asyncio.sleep(wait)
            if self._expected:
                with suppress(ServiceUnavailable):
                    await self.fetch()
            wait = max(_RETRY_S, min(2 * wait, self._cooldown))

    def _begin(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._done)
        return self._fetching

    def _done(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()

    async def _fetch(self) -> None:
        self._tried = clock()
        answer = await self._breaker.run(
            lambda: self._http.get(PATH, headers=_HEADERS, timeout=self._timeout), self._timeout, KEYS
        )
        try:
            if answer.status_code != 200:
                raise ValueError(f"the JWKS is answered with {answer.status_code}")
            found = _keys(answer.content)
        except (ValueError, RecursionError) as error:
            self._breaker.outage.failed("its public keys cannot be read", KEYS)
            raise ServiceUnavailable(f"the JWKS cannot be read ({error})") from error
        self._breaker.answered(KEYS)
        for kid in self._set.keys() - found.keys():
            self._strangers.note(kid, _NEVER)
        before = self.keys
        self._set, self._fetched, self._tried = found, self._tried, _NEVER
        self._expected -= found.keys()
        self._choose()
        self._max_age = min(self._longest, _max_age(answer.headers.get("cache-control", ""), self._longest))
        self._changed(not before.keys() <= self.keys.keys())


class Strangers:
    """When each of the keys that nobody here knows was first named; of many, the latest `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._since: OrderedDict[str, float] = OrderedDict()

    def note(self, kid: str, since: float | None = None) -> None:
        if kid not in self._since:
            self._since[kid] = clock() if since is None else since
            if len(self._since) > self._most:
                self._since.popitem(last=False)

    def since(self, kid: str) -> float:
        """Now, for one that was not noted or has been forgotten."""
        return self._since.get(kid, clock())


class _Jwks(msgspec.Struct):
    keys: list[dict[str, Any]]


_jwks: Final = msgspec.json.Decoder(_Jwks).decode


def _keys(body: bytes) -> dict[str, OKPKey | None]:
    """All that a set names, by `kid`. Ed25519 keys may verify; what else it holds is for others (RFC 7517 §5). Raises
    `ValueError` for a body that is not a key set."""
    return {jwk["kid"]: _ed25519(jwk) for jwk in _jwks(body).keys if isinstance(jwk.get("kid"), str)}


def _ed25519(jwk: dict[str, Any]) -> OKPKey | None:
    if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519" or jwk.get("use", "sig") != "sig":
        return None
    try:
        return OKPKey.import_key({name: jwk[name] for name in ("kty", "crv", "x")})
    except (JoseError, ValueError, KeyError, TypeError):
        _log.warning("a key of the JWKS cannot be read")
        return None


def _max_age(cache_control: str, default: float) -> float:
    """What the service says about the age (RFC 9111 §5.2.2.1)."""
    form = _MAX_AGE.search(cache_control)
    return default if form is None else max(1.0, float(form[1]))
