"""The README's sizes: what one core carries, and what 1, 10 and 100 million sessions need; worked out from what was
measured. The README's text names the assumptions; here they are numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Final

from tests.bench.figures import Part

README: Final = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- sizes: written by make bench -->", "<!-- /sizes -->"
SESSIONS: Final = (1_000_000, 10_000_000, 100_000_000)
DAY_S, PEAK, VERIFIED, REFRESHED, LIVES_DAYS = 86_400, 3, 20, 1, 30
"""A session is verified 20 times a day, and stamped each time; it is refreshed once a day and lives 30; the busiest
hour is three times the mean."""
HALF, HEADROOM, NODE, BACKENDS, FILES = 0.5, 1.5, 25 << 30, 20, 3
"""Cores at most half busy; memory beside the data while the file is rewritten; bytes of one primary; followers of the
feed; the file before a rewrite is twice as large as after it, and the new one is written beside it."""
OPERATIONS: Final = {
    "verify": "verify",
    "verify, and a stamp": "verify_stamped",
    "refresh": "refresh",
    "create": "create",
    "list 20": "list_20",
    "revoke": "revoke",
}


class Load:
    """What `sessions` do in a second of the busiest hour."""

    def __init__(self, sessions: int) -> None:
        a_day = PEAK * sessions / DAY_S
        self.verify, self.refresh = a_day * VERIFIED, a_day * REFRESHED
        self.create = self.revoke = a_day / LIVES_DAYS

    def times(self, figures: Mapping[str, float], suffix: str) -> float:
        """The sum over the operations of how many there are times what one costs."""
        names = {"verify": "verify_stamped", "refresh": "refresh", "create": "create", "revoke": "revoke"}
        return sum(float(getattr(self, name)) * figures[f"{figure}_{suffix}"] for name, figure in names.items())

    def written(self, memory: Mapping[str, float]) -> float:
        """Bytes that go to the append-only file."""
        names = {"verify": "stamp", "refresh": "refresh", "create": "create", "revoke": "revoke"}
        return sum(float(getattr(self, name)) * memory[f"aof_{figure}"] for name, figure in names.items())


def carries(paths: Mapping[str, float]) -> list[str]:
    lines = ["| one core | answers/s | CPU µs of the API | CPU µs of Redis |", "|---|---|---|---|"]
    for name, figure in OPERATIONS.items():
        rate, cpu, redis = (paths[f"{figure}_{what}"] for what in ("per_s", "cpu_us", "redis_us"))
        lines.append(f"| {name} | {rate:,.0f} | {cpu:.0f} | {redis:.0f} |")
    return lines


def sizes(paths: Mapping[str, float], memory: Mapping[str, float], feed: Mapping[str, float]) -> list[str]:
    each = memory[max((name for name in memory if name.startswith("bytes_at_")), key=lambda name: int(name[9:]))]
    lines = ["| sessions | " + " | ".join(f"{count // 1_000_000} M" for count in SESSIONS) + " |", "|---|---|---|---|"]

    def row(name: str, values: Sequence[str]) -> None:
        lines.append(f"| {name} | {' | '.join(values)} |")

    loads = [Load(count) for count in SESSIONS]
    kept = [count * (1 + 1 / LIVES_DAYS) for count in SESSIONS]
    needed = [count * each * HEADROOM for count in kept]
    redis = [load.times(paths, "redis_us") / 1e6 for load in loads]
    row("verifications/s, busiest hour", [f"{load.verify:,.0f}" for load in loads])
    row("API cores, half busy", [f"{ceil(load.times(paths, 'cpu_us') / 1e6 / HALF)}" for load in loads])
    row(f"memory: sessions × {each:.0f} bytes × {HEADROOM}", [gib(size) for size in needed])
    row("Redis cores' work", [f"{cores:.2f}" for cores in redis])
    both = zip(needed, redis, strict=True)
    row(f"primaries of {NODE >> 30} GiB, half busy", [f"{max(ceil(m / NODE), ceil(c / HALF))}" for m, c in both])
    row(
        f"AOF disk: {FILES} × {memory['aof_rewritten']:.0f} bytes",
        [gib(c * memory["aof_rewritten"] * FILES) for c in kept],
    )
    row(
        f"AOF written, {memory['aof_stamp']:.0f} bytes for a stamp",
        [f"{load.written(memory) / 1e6:.1f} MB/s" for load in loads],
    )
    for name, figure in (("SSE", "sse_bytes"), ("Redis", "redis_bytes")):
        carried = [load.revoke * feed[figure] * BACKENDS * 8 / 1e6 for load in loads]
        row(
            f"feed to {BACKENDS} backends, {name}, {feed[figure]:.0f} bytes each",
            [f"{one:.2f} Mbit/s" for one in carried],
        )
    return lines


def gib(size: float) -> str:
    return f"{size / (1 << 30):,.1f} GiB"


def write(parts: Mapping[str, Part]) -> None:
    """Between the marks in the README; nothing while a figure of it has never been measured."""
    figures = [parts[name].figures if name in parts else {} for name in ("bench_paths", "bench_memory", "bench_feed")]
    try:
        tables = [*carries(figures[0]), "", *sizes(*figures)]
    except (KeyError, ValueError):
        return
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(before + "\n".join([BEGIN, "", *tables, "", END]) + after)
