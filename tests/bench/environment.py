"""Where a benchmark ran, in one line: figures of different machines, or of different hours, are not to be compared."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe() -> str:
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            cpu = line.partition(": ")[2]
            break
    load = os.getloadavg()[0]
    return f"Python {platform.python_version()}, {os.cpu_count()} cores of {cpu}, load {load:.1f} at the start"


def percentile(values: list[float], share: float) -> float:
    """The value that `share` (0 to 1) of all lie at or below."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def quick() -> bool:
    """Whether `QUICK=1` asks for the short form."""
    return os.environ.get("QUICK", "") not in ("", "0")
