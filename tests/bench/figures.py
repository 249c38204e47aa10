"""What a benchmark measured, as numbers: for the table of goals, the plot and the sizing (`goals.py`, `plot.py`,
`sizing.py`). A part that `make bench` runs leaves them in the file that `FIGURES` names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

MEASURED: Final = Path(__file__).parent / "measured.json"
"""The last result of every part, committed."""


class Part(msgspec.Struct, frozen=True):
    """The last good run of one script. `failed`: what a later run, if any, stopped at."""

    day: str
    text: str
    figures: dict[str, float]
    failed: str = ""


def keep(**figures: float) -> None:
    """Add to what this run leaves; each with its unit in its name."""
    file = os.environ.get("FIGURES")
    if file is not None:
        known = left(Path(file))
        Path(file).write_bytes(msgspec.json.encode(known | {name: round(one, 4) for name, one in figures.items()}))


def left(file: Path) -> dict[str, float]:
    return msgspec.json.decode(file.read_bytes(), type=dict[str, float]) if file.exists() else {}


def load() -> dict[str, Part]:
    return msgspec.json.decode(MEASURED.read_bytes(), type=dict[str, Part]) if MEASURED.exists() else {}


def save(parts: dict[str, Part]) -> None:
    MEASURED.write_bytes(msgspec.json.format(msgspec.json.encode(parts), indent=1) + b"\n")


def name_of(words: str) -> str:
    """`refresh, 1 node` as the name of a figure: `refresh_1_node`."""
    return "_".join("".join(sign if sign.isalnum() else " " for sign in words.lower()).split())
