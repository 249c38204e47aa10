"""`python -m tests.bench.bench_dashboard [sessions …]`: what the dashboard's calls take as the store grows, over HTTP,
10,000 sessions of one user among them; and the commands that Redis ran for each. Nothing beside."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from app.embedded import Embedded
from app.model import DAY
from app.runtime import now_ms
from tests.bench.environment import describe, quick
from tests.bench.stock import opened
from tests.faults.fill import fill
from tests.servers import command
from tests.service import Api, Backend

TOTALS: Final = (20_000,) if quick() else (20_000, 1_000_000)
OF_ONE_USER: Final = 9_998
"""And two more like everybody: the most that one may have."""
BEGUN_OVER: Final = 29 * DAY
CALLS: Final = 5 if quick() else 20

Look = tuple[str, str, object]


def looks(session_id: str) -> dict[str, Look]:
    return {
        "overview, 1 h": ("GET", "/v1/admin/overview?window=1h", None),
        "overview, 7 d": ("GET", "/v1/admin/overview?window=7d", None),
        "preview, idle timeout": ("POST", "/v1/admin/config/preview", {"idle_timeout": "1h"}),
        "preview, limit": ("POST", "/v1/admin/config/preview", {"max_sessions_per_user": 1}),
        "timeline": ("GET", f"/v1/sessions/{session_id}/timeline", None),
        "list of the tenant": ("GET", "/v1/sessions?limit=20", None),
        "list of the one user": ("GET", "/v1/sessions?user_id=filled_0&limit=20", None),
    }


def commands(server: Embedded) -> int:
    text = str(command(server, "INFO", "stats"))
    return int(text.partition("total_commands_processed:")[2].split()[0])


def row(server: Embedded, backend: Backend, total: int, name: str, look: Look) -> str:
    method, path, json = look
    times, before = list[float](), commands(server)
    for _ in range(CALLS):
        began = perf_counter()
        answer = backend.call(method, path, json=json)
        times.append((perf_counter() - began) * 1_000)
        assert answer.status_code == 200, answer.text
    each = (commands(server) - before) / CALLS
    return f"| {total:,} | {name} | {median(times):.1f} | {max(times):.1f} | {each:,.0f} |"


async def recount(server: Embedded, total: int) -> str:
    async with opened(server.url) as stock:
        before, began = commands(server), perf_counter()
        wrong = await stock.runtime.upkeep.recount(now_ms())
        took = (perf_counter() - began) * 1_000
    assert wrong is not None and wrong >= total - OF_ONE_USER, "the filled ones were not counted when they began"
    return f"| {total:,} | the worker counts the living anew | {took:.0f} | | {commands(server) - before:,} |"


def measure(total: int) -> list[str]:
    extra = ["--appendonly", "no", "--save", ""]
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder), extra=extra) as server:
        api = Api(server.url)
        try:
            backend, now = api.tenant(), now_ms()
            sid = backend.create()["session"]["id"]
            fill(server, backend.tenant_id, 1, OF_ONE_USER, now, now + 30 * DAY, BEGUN_OVER)
            fill(server, backend.tenant_id, (total - OF_ONE_USER) // 2, 2, now, now + 30 * DAY, BEGUN_OVER)
            lines = [row(server, backend, total, *look) for look in looks(sid).items()]
            return [*lines, asyncio.run(recount(server, total))]
        finally:
            api.stop()


def main(totals: tuple[int, ...] = TOTALS) -> list[str]:
    lines = [describe(), "", "| sessions | call | median ms | worst ms | commands |", "|---|---|---|---|---|"]
    for total in totals:
        lines += measure(total)
    return lines


if __name__ == "__main__":
    print("\n".join(main(tuple(map(int, sys.argv[1:])) or TOTALS)))
