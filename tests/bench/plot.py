"""`costs.svg`: what one core carries, beside what others carry, and the memory of Redis. Drawn from what was measured,
as text; readable on light and on dark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import log10
from pathlib import Path
from typing import Final

from tests.bench.figures import Part

FILE: Final = Path(__file__).parent / "costs.svg"
WIDTH, LEFT, BAR, STEP = 820, 230, 16, 24
GIB = 1 << 30
STYLE: Final = """
  text { font: 13px system-ui, sans-serif; fill: #1f2933 } .title { font-weight: 600; font-size: 14px }
  .small { font-size: 11px; fill: #616e7c } .ours { fill: #2367c4 } .theirs { fill: #9aa5b1 }
  .grid { stroke: #cbd2d9; stroke-width: 1 } .spread { stroke: #1f2933; stroke-width: 1.5 }
  .line { stroke: #2367c4; stroke-width: 2; fill: none } .guess { stroke-dasharray: 5 4 }
  .paper { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4e7eb } .small { fill: #9aa5b1 } .ours { fill: #6ea8fe } .theirs { fill: #616e7c }
    .grid { stroke: #3e4c59 } .spread { stroke: #e4e7eb } .line { stroke: #6ea8fe } .paper { fill: #14191f }
  }
"""
OPERATIONS: Final = ("verify", "revoke", "refresh", "create", "list 20")
PEERS: Final = (
    ("verify", True),
    ("fastify-session, GET", False),
    ("express-session, GET", False),
    ("oidc-provider, introspection", False),
    ("Better Auth, get-session", False),
    ("create", True),
    ("Better Auth, createSession", False),
    ("Better Auth, sign-in", False),
)


class Bar:
    """`spread`: lowest and highest of the rounds."""

    def __init__(self, name: str, value: float, ours: bool, spread: tuple[float, float] | None = None) -> None:
        self.name, self.value, self.ours, self.spread = name, value, ours, spread


def text(x: float, y: float, said: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(said)}</text>'


def line(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" class="{kind}"/>'


def bars(top: float, title: str, rows: Sequence[Bar]) -> Iterator[str]:
    """One bar under the other, the title above them."""
    yield text(20, top, title, "title")
    scale = (WIDTH - LEFT - 90) / max(max([row.value, *(row.spread or ())]) for row in rows)
    for place, row in enumerate(rows):
        y = top + 16 + place * STEP
        yield text(LEFT - 10, y + 13, row.name, anchor="end")
        kind, width = "ours" if row.ours else "theirs", row.value * scale
        yield f'<rect x="{LEFT}" y="{y:.0f}" width="{width:.1f}" height="{BAR}" rx="2" class="{kind}"/>'
        end = width
        if row.spread is not None:
            low, high = (LEFT + value * scale for value in row.spread)
            yield line(low, y + BAR / 2, high, y + BAR / 2, "spread")
            end = max(width, high - LEFT)
        yield text(LEFT + end + 8, y + 13, f"{row.value:,.0f}")


def memory(top: float, measured: Mapping[float, float]) -> Iterator[str]:
    """Bytes of all sessions over their number, both by powers of ten; beyond the largest measured one, its line."""
    height, right = 200.0, WIDTH - 60.0
    yield text(20, top, "Memory of Redis for so many sessions (points: measured; dashed: as many bytes each)", "title")
    low, high, bottom = 6.5, 11.5, top + 20 + height

    def at(count: float, size: float) -> tuple[float, float]:
        x = LEFT + (log10(count) - 4) / 4 * (right - LEFT)
        return x, bottom - (log10(size) - low) / (high - low) * height

    for power, name in ((7, "10 MB"), (8, "100 MB"), (9, "1 GB"), (10, "10 GB"), (11, "100 GB")):
        _, y = at(1e4, 10.0**power)
        yield line(LEFT, y, right, y, "grid")
        yield text(LEFT - 10, y + 4, name, "small", "end")
    for power, name in ((4, "10,000"), (5, "100,000"), (6, "1 M"), (7, "10 M"), (8, "100 M")):
        x, _ = at(10.0**power, 1e7)
        yield line(x, top + 20, x, bottom, "grid")
        yield text(x, bottom + 18, name, "small", "middle")
    largest = max(measured)
    each = measured[largest]
    points = [at(count, count * size) for count, size in sorted(measured.items())]
    yield f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="line"/>'
    yield line(*points[-1], *at(1e8, 1e8 * each), "line guess")
    for x, y in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="ours"/>'
    for count in (1e6, 1e7, 1e8):
        x, y = at(count, count * each)
        yield text(x - 8, y - 8, f"{count * each / GIB:.1f} GiB", anchor="end")


def operations(figures: Mapping[str, float]) -> list[Bar]:
    rows = []
    for name in OPERATIONS:
        figure = name.replace(" ", "_")
        if f"{figure}_per_s" in figures:
            spread = figures[f"{figure}_lowest"], figures[f"{figure}_highest"]
            rows.append(Bar(name, figures[f"{figure}_per_s"], True, spread))
    return rows


def draw(parts: Mapping[str, Part]) -> None:
    """What there is of it; a part that has not been measured is left out."""
    figures = {name: part.figures for name, part in parts.items()}
    drawn: list[str] = []
    top = 30.0
    peers = figures.get("bench_peers", {})
    for title, rows in (
        ("Answers per second of one process on one core", operations(figures.get("bench_paths", {}))),
        (
            "Beside what people use, on the same core and the same Valkey",
            [Bar(f"{name} (ours)" if ours else name, peers[name], ours) for name, ours in PEERS if name in peers],
        ),
    ):
        if rows:
            drawn += bars(top, title, rows)
            top += 50 + len(rows) * STEP
    sizes = figures.get("bench_memory", {})
    at = {float(name.removeprefix("bytes_at_")): size for name, size in sizes.items() if name.startswith("bytes_at_")}
    if at:
        drawn += memory(top, at)
        top += 260
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" role="img">'
    paper = f'<rect width="{WIDTH}" height="{top:.0f}" class="paper"/>'
    FILE.write_text("\n".join([head, f"<style>{STYLE}</style>", paper, *drawn, "</svg>"]) + "\n")
