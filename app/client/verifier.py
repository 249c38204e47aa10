"""The verifier: answers from memory, knows revocations within milliseconds, and knows when it does not."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from typing import Final, Self, Unpack

from .breaker import Breaker
from .claims import InvalidAccessToken, Misdirected, UnknownKey, verify
from .errors import REFUSALS, InvalidToken, ServiceUnavailable, SessionError, TokenExpired, VerifierStale
from .events import Event
from .feed import Source
from .freshness import Freshness, Pulse, Steps, clock
from .jwks import KeySet
from .memory import SKEW_S, Claims, Memory
from .options import OnStale as OnStale
from .options import Options, Settings
from .reports import Reports
from .service import ask, open_http
from .sse import EventStream

_SWEEP_S: Final = 1.0
_FAREWELL_S: Final = 2.0
_UNSETTLED: Final = "The token's key is not known yet"
_now: Final = time.time
_log: Final = logging.getLogger("session_client")


class Verifier:
    """Use as `async with Verifier(url=…, tenant_id=…, api_key=…) as verifier`, once for each process.

    `redis_url` follows revocations in Redis itself rather than over HTTP. `issuer` is what tokens say in `iss`, if not
    `url`. When revocations are not known up to `max_staleness` seconds ago, `on_stale` decides: `"ask"` the service
    for each token, `"refuse"`, or `"allow"` what is known to have been good. `report_every`: how often active
    sessions are reported, in seconds; `None` never. The `max_…` bound the memory: 40 bytes for each revocation, about
    2 kB for each token that need not be verified twice. `start_timeout`: how long to wait for the service at the start.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        self._settings = Settings(**options)
        self._on_stale = self._settings.on_stale
        self._memory = Memory(self._settings.max_revocations, self._settings.max_updates, self._settings.max_tokens)
        self._hits = self._memory.hits
        self._warned = False
        self._build()

    def _build(self) -> None:
        """Make everything that belongs to one process and one run: connections, tasks, the age of the knowledge. Ended
        sessions and changed claims are kept: they stay true."""
        settings = self._settings
        self._pid = os.getpid()
        self._is_closed = False
        self._http = open_http(settings)
        self._breaker = Breaker()
        self._freshness = Freshness(settings.max_staleness)
        self._freshness.complete(not self._memory.overflowed)
        self._pulse = Pulse(settings.max_staleness / 2)
        self._keys = KeySet(
            self._http,
            settings.jwks_max_age,
            settings.jwks_cooldown,
            self._keys_changed,
            self._breaker,
            settings.jwks_timeout,
        )
        self._reports = Reports(self._http, None if settings.api_key is None else settings.report_every, self._breaker)
        self._source = self._follow_by(settings.redis_url, settings.max_staleness)
        self._tasks: list[asyncio.Task[None]] = []
        self._decided = asyncio.Event()
        self._refusal: SessionError | None = None

    def _build_in_child(self) -> None:
        """In a forked child: the parent's connections and tasks are not ours, nor is what it has yet to report."""
        if self._pid != os.getpid():
            self._memory.forget_tokens()
            self._build()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Subscribe, load what matters, return once up to date. If that takes too long it goes on behind, and
        `on_stale` holds until it is done. After `close` it may be called again. Raises `InvalidApiKey`."""
        if self._is_closed or self._pid != os.getpid():
            self._memory.forget_tokens()
            self._build()
        if self._tasks:
            raise RuntimeError("the verifier has been started already")
        self._pulse.start()
        jobs = (self._source.follow(), self._keys.keep_fresh(), self._reports.run(), self._sweep())
        self._tasks = [asyncio.create_task(job) for job in jobs]
        for task in self._tasks:
            task.add_done_callback(_must_not_end)
        try:
            async with asyncio.timeout(self._settings.start_timeout):
                with suppress(ServiceUnavailable):
                    await self._keys.fetch()
                await self._decided.wait()
        except TimeoutError:
            if not self._breaker.outage.is_logged:
                _log.warning("revocations are not loaded yet; until then on_stale=%r holds", self._on_stale)
        except BaseException:
            await self.close()
            raise
        if self._refusal is not None:
            await self.close()
            raise self._refusal

    async def close(self) -> None:
        """Stop following; report the last activity. Afterwards `verify` raises `ServiceUnavailable` or follows
        `on_stale`, from memory alone, until the next `start`."""
        self._build_in_child()
        self._is_closed = True
        self._pulse.stop()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await self._reports.send()
        await self._keys.close()
        await self._breaker.close()
        await self._http.aclose()
        self._freshness.doubt()

    @property
    def ready(self) -> bool:
        """Whether it has caught up since the start, or since the last gap."""
        return self._freshness.ready

    @property
    def lag(self) -> float:
        """Seconds: how old what is known of revocations can be at most."""
        return self._freshness.lag

    @property
    def stale(self) -> bool:
        """Whether `on_stale` holds now."""
        return clock() >= self._freshness.until

    async def verify(self, token: str) -> Claims:
        """The claims of a good token of a living session, as they are now.

        Raises `InvalidToken`, `TokenExpired`, `SessionRevoked`; `VerifierStale` or `ServiceUnavailable` when nobody
        can tell.
        """
        if (known := self.recall(token)) is not None:
            return known
        self._build_in_child()
        try:
            claims = self._read(token)
        except UnknownKey as unknown:
            is_there = await self._keys.found(unknown.kid)
            if is_there is None:
                return await self._ask_of_key(unknown.kid, token)
            if not is_there:
                raise InvalidToken from None
            claims = self._read(token)
        if self._may_answer():
            self._reports.note(claims.session_id)
            return claims
        if self._on_stale == "refuse":
            raise VerifierStale
        return await self._ask(token, claims.session_id)

    def check(self, token: str) -> Claims:
        """As `verify`, from memory alone: whoever would have to ask raises `VerifierStale`. In the loop's thread."""
        if (known := self.recall(token)) is not None:
            return known
        self._build_in_child()
        try:
            claims = self._read(token)
        except UnknownKey as unknown:
            if self._keys.refutes(unknown.kid):
                raise InvalidToken from None
            raise VerifierStale(_UNSETTLED) from None
        if not self._may_answer():
            raise VerifierStale
        self._reports.note(claims.session_id)
        return claims

    def recall(self, token: str) -> Claims | None:
        """The quick path alone, for any thread: `None` if the token must be looked at."""
        hit = self._hits.get(token)
        if hit is not None and _now() < hit[1] and clock() < self._freshness.until:
            self._reports.note(hit[2])
            return hit[0]
        return None

    def take(self, event: Event) -> None:
        if event.tenant_id != self._settings.tenant_id:
            return
        self._memory.apply(event, int(_now()))
        if self._memory.overflowed:
            self._freshness.complete(False)

    def confirm(self, as_of: float) -> None:
        if self._pid != os.getpid():  # the parent's loop goes on in a child
            return
        self._freshness.confirm(as_of)
        self._refusal = None
        self._decided.set()

    def listed(self, kids: frozenset[str], as_of: float) -> None:
        self._keys.listed(kids, as_of)

    def doubt(self) -> None:
        self._freshness.doubt()

    def refused(self, error: SessionError) -> None:
        if self._refusal is None:
            _log.error("%s", error)
        self._refusal = error
        self._decided.set()

    def _follow_by(self, redis_url: str | None, max_staleness: float) -> Source:
        if redis_url is None:
            return EventStream(self._http, self, self._pulse, self._breaker)
        from .direct import RedisFeed  # only who uses it needs redis

        return RedisFeed(redis_url, self._settings.tenant_id, self, min(2.5, max_staleness / 4))

    def _read(self, token: str) -> Claims:
        """What this process knows of the token, however old. Raises `UnknownKey` besides a `SessionError`."""
        hit = self._hits.get(token)
        if hit is not None and _now() < hit.expires_at:
            return hit.claims
        if hit is not None:
            raise TokenExpired
        try:
            settings = self._settings
            said = verify(token, self._keys.keys, settings.issuer or "", settings.tenant_id, int(_now()), SKEW_S)
        except UnknownKey:
            raise
        except InvalidAccessToken as refused:
            if isinstance(refused, Misdirected) and not self._warned:
                self._warned = True
                _log.warning(
                    "%s; expected were issuer %r and tenant %r",
                    refused,
                    self._settings.issuer,
                    self._settings.tenant_id,
                )
            raise REFUSALS[refused.code] from refused
        return self._memory.admit(token, said)

    def _may_answer(self) -> bool:
        return clock() < self._freshness.until or self._on_stale == "allow"

    async def _ask_of_key(self, kid: str, token: str) -> Claims:
        """A token may be good whose key is newer than what is known here. Who may ask the service does so once in a
        cooldown: an inventor of keys costs no more. Nobody's signature is taken on trust."""
        if self._on_stale != "ask" or not self._keys.may_ask():
            raise VerifierStale(_UNSETTLED)
        claims = await self._ask(token)
        self._keys.expect(kid)
        return claims

    async def _ask(self, token: str, session_id: str | None = None) -> Claims:
        if self._is_closed:
            raise ServiceUnavailable("the verifier is closed")
        return await ask(self._http, self._breaker, self._settings, token, session_id)

    def _keys_changed(self, gone: bool) -> None:
        if gone:
            self._memory.forget_tokens()
        self._freshness.keys_good_until(self._keys.good_until)

    async def _sweep(self) -> None:
        """Free what has passed its time. Begin again where something had to be refused for lack of room, and after a
        step of the wall clock: what seemed past its time by then was forgotten, or not even taken."""
        steps = Steps(lambda: _now(), SKEW_S)
        while True:
            await asyncio.sleep(_SWEEP_S)
            has_room, was_set = self._memory.sweep(int(_now())), steps.noticed()
            if was_set:
                _log.warning("the wall clock was set; everything is read again")
            if has_room or was_set:
                self._freshness.doubt()
                self._source.reload()
            if has_room:
                self._freshness.complete(True)


def _must_not_end(task: asyncio.Task[None]) -> None:
    """What fails here is a fault of ours; the verifier goes stale by itself, and the log says why."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the verifier has stopped following", exc_info=error)
