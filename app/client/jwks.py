"""The service's public keys, fetched when needed (the rules of panva/jose, `createRemoteJWKSet`).

Fetched again when they are `max_age` old, or when a token names an unknown key and the last fetch is longer ago than
the cooldown; one fetch at a time. A key that the service no longer publishes is gone with the next fetch.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, Final

import httpx
import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from .errors import ServiceUnavailable
from .freshness import clock

PATH: Final = "/.well-known/jwks.json"

_TIMEOUT_S: Final = 5.0
_RETRY_S: Final = 1.0
_MAX_AGE: Final = re.compile(r"max-age=(\d{1,9})", re.ASCII)
_NEVER: Final = float("-inf")
_log: Final = logging.getLogger("session_client")


class KeySet:
    """`changed(gone)` is called after each fetch that succeeds: whether a key is gone that was there before."""

    def __init__(
        self, http: httpx.AsyncClient, max_age: float, cooldown: float, changed: Callable[[bool], None]
    ) -> None:
        self.keys: dict[str, OKPKey] = {}
        self._http = http
        self._longest = max_age
        self._max_age = max_age
        self._cooldown = cooldown
        self._changed = changed
        self._fetched = _NEVER
        self._tried = _NEVER
        self._fetching: asyncio.Task[None] | None = None

    @property
    def good_until(self) -> float:
        """When even keys that could not be fetched again in time are too old to be believed."""
        return self._fetched + 2 * self._max_age

    async def found(self, kid: str) -> bool:
        """Whether there is such a key, after a fetch if that can tell. Raises `ServiceUnavailable` if nobody can."""
        if kid not in self.keys and clock() >= self._fetched + self._cooldown:
            await self.fetch()
        return kid in self.keys

    def wants(self, kid: str) -> bool:
        """Whether only a fetch can tell if there is such a key; it is then under way, or soon."""
        if kid in self.keys or clock() < self._fetched + self._cooldown:
            return False
        if clock() >= self._tried + _RETRY_S:
            self._begin()
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
            try:
                await self.fetch()
            except ServiceUnavailable as error:
                _log.warning("public keys cannot be fetched: %s", error)

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

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
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                answer = await self._http.get(PATH, headers={"Accept": "application/json"}, timeout=_TIMEOUT_S)
            if answer.status_code != 200:
                raise ServiceUnavailable(f"the JWKS is answered with {answer.status_code}")
            keys = _keys(answer.content)
        except (httpx.HTTPError, TimeoutError, msgspec.DecodeError, KeyError, TypeError) as error:
            raise ServiceUnavailable(f"the JWKS cannot be fetched ({type(error).__name__})") from error
        gone = bool(self.keys.keys() - keys.keys())
        self.keys, self._fetched, self._tried = keys, self._tried, _NEVER
        self._max_age = min(self._longest, _max_age(answer.headers.get("cache-control", ""), self._longest))
        self._changed(gone)


def _keys(body: bytes) -> dict[str, OKPKey]:
    """Ed25519 keys that may verify, by `kid`; what else a set holds is for others (RFC 7517 §5)."""
    found: dict[str, OKPKey] = {}
    for jwk in msgspec.json.decode(body, type=dict[str, Any])["keys"]:
        if jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519" and jwk.get("use", "sig") == "sig" and "kid" in jwk:
            try:
                found[str(jwk["kid"])] = OKPKey.import_key({name: jwk[name] for name in ("kty", "crv", "x")})
            except (JoseError, ValueError, KeyError):
                _log.warning("a key of the JWKS cannot be read")
    return found


def _max_age(cache_control: str, default: float) -> float:
    """What the service says about the age (RFC 9111 §5.2.2.1)."""
    form = _MAX_AGE.search(cache_control)
    return default if form is None else max(1.0, float(form[1]))
