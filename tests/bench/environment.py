"""Where a benchmark ran, in one line: figures of different machines, or of different hours, are not to be compared."""

from __future__ import annotations

import os
import platform
import sysconfig
from pathlib import Path


def describe() -> str:
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            cpu = line.partition(": ")[2]
            break
    load = os.getloadavg()[0]
    return (
        f"Python {platform.python_version()}{_build()}, {os.cpu_count()} cores of {cpu}, load {load:.1f} at the start"
    )


def _build() -> str:
    """An interpreter that was compiled without its profile (PGO) is slower than those that distributions and container
    images have."""
    words = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "" if "--enable-optimizations" in words or "--prefix=/usr'" in words else " (compiled without PGO)"


def stolen() -> float:
    """Seconds, of all cores together, that the host of a virtual machine has kept to itself so far (proc(5))."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split() if Path("/proc/stat").exists() else []
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def percentile(values: list[float], share: float) -> float:
    """The value that `share` (0 to 1) of all lie at or below."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def quick() -> bool:
    """Whether `QUICK=1` asks for the short form."""
    return os.environ.get("QUICK", "") not in ("", "0")
