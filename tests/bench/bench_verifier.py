"""`python -m tests.bench.bench_verifier`: how fast one core verifies, and what a revocation costs in memory.

Measured in alternating rounds of one run: tokens seen before (`await verify`, and `check`), each given as a string that
has not been hashed yet, as it comes from a request; tokens never seen (the strict gate, the signature, the denylist,
which then holds 100,000 sessions, and a place in the cache); and `cryptography`'s bare Ed25519 check of such tokens,
with nothing around it, before and after those. Ratios are the medians of the rounds' own. Then a denylist of 1,000,000
sessions. The feed is fresh throughout; nothing goes out.
"""

from __future__ import annotations

import asyncio
import resource
import secrets
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from statistics import median

from joserfc import jwt
from joserfc.jwk import OKPKey

from app.client.claims import ALGORITHM, REGISTRY, TYPE
from app.client.denylist import Denylist
from app.client.freshness import clock
from app.client.shards import session_number
from app.client.verifier import Verifier
from app.model import new_session_id
from tests.bench.environment import describe, quick
from tests.bench.figures import keep

ROUNDS, USERS, NEW, SEEN = 5 if quick() else 31, 200, 400, 20_000
TENANT, ISSUER = "tnt_" + "A" * 26, "https://sessions.example"


def mint(key: OKPKey, count: int) -> list[str]:
    """Tokens as the service mints them, each of a session of its own."""
    now = int(time.time())
    header = {"alg": ALGORITHM, "typ": TYPE, "kid": str(key.kid)}
    tokens = []
    for number in range(count):
        user = f"usr_{number:020d}"
        claims = {
            "iss": ISSUER,
            "aud": TENANT,
            "sub": user,
            "session_id": new_session_id(TENANT, user, now * 1_000),
            "tenant_id": TENANT,
            "mfa_verified": True,
            "iat": now,
            "exp": now + 3_600,
            "jti": secrets.token_urlsafe(16),
            "org_id": "org_1",
            "role": "admin",
        }
        tokens.append(jwt.encode(header, claims, key, algorithms=[ALGORITHM], registry=REGISTRY))
    return tokens


def a_verifier(key: OKPKey) -> Verifier:
    """Knows the key, 100,000 ended sessions, and is up to date for as long as the run takes."""
    verifier = Verifier(url=ISSUER, tenant_id=TENANT, api_key="sk_bench", max_staleness=1e9)
    verifier._keys.keys = {str(key.kid): key}
    verifier.confirm(clock())
    verifier._freshness.keys_good_until(float("inf"))
    now = int(time.time())
    for number in range(100_000):
        ended = session_number(new_session_id(TENANT, f"ended {number}", now * 1_000))
        verifier._memory.revoked.add(ended, now + 3_600, now)
    return verifier


def fresh_copies(tokens: list[str], count: int) -> list[str]:
    """The same texts as new strings, whose hash nobody has asked for."""
    return [tokens[number % len(tokens)][:-1] + tokens[number % len(tokens)][-1:] for number in range(count)]


def timed(act: Callable[[], None], count: int) -> float:
    """Microseconds of CPU for each."""
    began = time.process_time()
    act()
    return (time.process_time() - began) / count * 1e6


class Bench:
    def __init__(self) -> None:
        self.key = OKPKey.generate_key("Ed25519", auto_kid=True)
        self.verifier = a_verifier(self.key)
        self.users = mint(self.key, USERS)
        for token in self.users:
            self.verifier.check(token)
        self.loop = asyncio.new_event_loop()
        self.figures: dict[str, list[float]] = {}

    def round(self) -> None:
        new = mint(self.key, NEW)
        parts = [token.rpartition(".") for token in new]
        signed = [(urlsafe_b64decode(signature + "=="), head.encode()) for head, _, signature in parts]
        awaited, checked = fresh_copies(self.users, SEEN), fresh_copies(self.users, SEEN)
        before = timed(lambda: self.bare(signed), NEW)
        self._note("uncached", timed(lambda: self.check(new), NEW))
        self._note("bare", (before + timed(lambda: self.bare(signed), NEW)) / 2)
        self._note("cached, await verify", timed(lambda: self.loop.run_until_complete(self.verify(awaited)), SEEN))
        self._note("cached, check", timed(lambda: self.check(checked), SEEN))

    def bare(self, signed: list[tuple[bytes, bytes]]) -> None:
        verify = self.key.public_key.verify  # type: ignore[union-attr]
        for signature, message in signed:
            verify(signature, message)

    def check(self, tokens: list[str]) -> None:
        check = self.verifier.check
        for token in tokens:
            check(token)

    async def verify(self, tokens: list[str]) -> None:
        verify = self.verifier.verify
        for token in tokens:
            await verify(token)

    def _note(self, name: str, micros: float) -> None:
        self.figures.setdefault(name, []).append(micros)


def memory() -> None:
    now, count = int(time.time()), 100_000 if quick() else 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    denylist = Denylist(count)
    began, longest = time.perf_counter(), 0.0
    for _ in range(count):
        session = now * 1_000 << 80 | secrets.randbits(80)
        added = time.perf_counter()
        denylist.add(session, now + 3_600, now)
        longest = max(longest, time.perf_counter() - added)
    seconds = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1_024
    print(f"denylist of {count:,}: {denylist.nbytes / count:.1f} bytes each in its arrays, "
          f"{grown / count:.1f} of resident memory at its peak; {seconds / count * 1e6:.1f} us to add one, "
          f"{longest * 1e3:.1f} ms the longest")  # fmt: skip


def main() -> None:
    print(describe())
    memory()
    bench = Bench()
    for _ in range(ROUNDS):
        bench.round()
    for name, micros in bench.figures.items():
        ratio = median(mine / bare for mine, bare in zip(micros, bench.figures["bare"], strict=True))
        print(f"{name:22} {1e6 / median(micros):12,.0f} /s  {median(micros):8.2f} us  {ratio:6.3f} x bare Ed25519")
    pairs = zip(bench.figures["uncached"], bench.figures["bare"], strict=True)
    keep(
        cached_per_s=1e6 / median(bench.figures["cached, await verify"]),
        uncached_of_bare=median(mine / bare for mine, bare in pairs),
    )
    bench.loop.run_until_complete(bench.verifier.close())
    bench.loop.close()


if __name__ == "__main__":
    main()
