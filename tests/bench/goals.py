"""The table of goals: what was aimed at, what was reached, where it is shown, and where it was missed what the floor is
made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from tests.bench.figures import Part


class Goal(msgspec.Struct, frozen=True):
    """`figure`: of `part`, as it was kept; good if `at_least` (or, turned round, at most) `value`."""

    what: str
    part: str
    figure: str
    value: float
    at_least: bool = True
    unit: str = "×"
    floor: str = ""

    def row(self, parts: Mapping[str, Part]) -> str:
        sign = "≥" if self.at_least else "≤"
        reached = parts[self.part].figures.get(self.figure) if self.part in parts else None
        if reached is None:
            said = "not measured"
        else:
            good = reached >= self.value if self.at_least else reached <= self.value
            said = f"{number(reached)} {self.unit}" if good else f"**missed:** {number(reached)} {self.unit}"
            said += "" if good or not self.floor else f". {self.floor}"
        return f"| {self.what} | {sign} {number(self.value)} {self.unit} | {said} | `{self.part}.py` |"


_SERVER: Final = (
    "The answer is larger, the caller is authenticated, and the session is read: *What the floor is made of*, below"
)
_SIGNATURE: Final = "Each has an Ed25519 signature and a script with some fifty arguments in it: see below"
_PEERS: Final = "What each spends its time on: *Why the peers are nearer than they should be*, below"
_FASTIFY: Final = (
    "A bare route on uvicorn costs more than one on fastify. That GET trusts a cookie and answers what it holds; ours "
    "checks an API key, hashes a token of 700 bytes, reads session, membership and tenant, and answers the session"
)
_TWO_CORES: Final = (
    "Service, Redis, caller and all twenty verifiers share two cores and wait for them: *What the delay of a "
    "revocation is made of*, below"
)
_SLOW: Final = "The 15 to 30 µs beside the signature are the interpreter's, the most where it was compiled without PGO"

GOALS: Final = (
    Goal("verify, of a bare Starlette JSON route", "bench_paths", "verify_of_bare", 0.9, floor=_SERVER),
    Goal("create, of the same route", "bench_paths", "create_of_bare", 0.4, floor=_SIGNATURE),
    Goal("refresh, of the same route", "bench_paths", "refresh_of_bare", 0.4, floor=_SIGNATURE),
    Goal(
        "list 20, of the same route",
        "bench_paths",
        "list_20_of_bare",
        0.6,
        floor="Twenty sessions are decoded and encoded at 12 µs each: see below",
    ),
    Goal("verify, of Better Auth's get-session", "bench_peers", "verify_of_better_auth", 10, floor=_PEERS),
    Goal("verify, of oidc-provider's introspection", "bench_peers", "verify_of_oidc_provider", 4, floor=_PEERS),
    Goal("verify, of a GET behind fastify-session", "bench_peers", "verify_of_fastify", 1.3, floor=_FASTIFY),
    Goal("create, of Better Auth's sign-in", "bench_peers", "create_of_better_auth", 15, floor=_PEERS),
    Goal("local verification, token seen before", "bench_verifier", "cached_per_s", 500_000, unit="/s"),
    Goal(
        "local verification, new token, of a bare Ed25519 check",
        "bench_verifier",
        "uncached_of_bare",
        1.2,
        False,
        floor=_SLOW,
    ),
    Goal(
        "memory of a session, everything included, at 200,000",
        "bench_memory",
        "compact_bytes_at_200000",
        650,
        False,
        "bytes",
        "Each kind of key and its share is in that table; most is the session's hash with its user agent",
    ),
    Goal(
        "sweep, with events",
        "bench_sweep",
        "per_s",
        100_000,
        unit="/s",
        floor="One session costs Redis 200,000 instructions, a third of them its entry in the log and its message; the "
        "worker sends one script at a time and rests as long as others made it wait",
    ),
    Goal(
        "another client's PING meanwhile, the longest",
        "bench_sweep",
        "ping_most_ms",
        5,
        False,
        "ms",
        "Client, worker and Redis share two cores of a virtual machine; that part says what the waits are made of",
    ),
    Goal(
        "revocation to refusal by a local verifier, p99, through Redis",
        "bench_revocation",
        "redis_p99_ms",
        10,
        False,
        "ms",
        _TWO_CORES,
    ),
    Goal("the same, through SSE", "bench_revocation", "sse_p99_ms", 25, False, "ms", _TWO_CORES),
    *(
        Goal(
            f"{name} at 1,000,000 sessions, of its cost at 10,000",
            "bench_growth",
            f"{name}_at_1000000_of_10000",
            1.15,
            False,
            floor="Round trips, commands and bytes are the same, see there; Redis finds its keys in a larger table",
        )
        for name in ("verify", "create", "refresh", "page")
    ),
)


def table(parts: Mapping[str, Part]) -> list[str]:
    rows = ["| what | goal | reached | where |", "|---|---|---|---|"]
    return [*rows, *(goal.row(parts) for goal in GOALS)]


def number(value: float) -> str:
    """To three digits or so, which is more than such figures are good for."""
    return (
        f"{value:,.0f}"
        if abs(value) >= 100
        else f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.2f}".rstrip("0").rstrip(".")
    )
