"""`make bench`: every measurement, one after the other; writes `RESULTS.md`. `QUICK=1`: the short form, only printed.

`python -m tests.bench bench_paths …` runs the parts named. What stands in `RESULTS.md` from `## What was changed` on is
written by hand and kept.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.bench.environment import quick
from tests.bench.load import need_wrk

RESULTS: Final = Path(__file__).parent / "RESULTS.md"
KEPT: Final = "## What was changed"
PARTS: Final = {
    "bench_paths": "The hot paths over HTTP",
    "bench_latency": "Latency of a verification, open loop",
    "bench_growth": "Cost of an operation as the store grows",
    "bench_memory": "Memory of Redis",
    "bench_sweep": "The sweep",
    "bench_streams": "Event streams",
    "bench_verifier": "Verification in the consumer's library",
    "bench_revocation": "From a revocation to its refusal by local verifiers",
}
LONG: Final = ("bench_verifier", "bench_revocation")
"""Have no short form."""
INTRODUCTION: Final = """# What it costs

Written by `make bench`, which starts everything itself. Server and load have a core each. Figures of one part are of
one run and may be compared with each other; those of other machines, or of another hour, may not.
"""


def main() -> None:
    need_wrk()
    chosen = sys.argv[1:] or [name for name in PARTS if not (quick() and name in LONG)]
    parts = [INTRODUCTION]
    for name in chosen:
        print(f"{name} …", file=sys.stderr, flush=True)
        words = [sys.executable, "-m", f"tests.bench.{name}"]
        ran = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        text = f"```\n{ran.stdout}```\n" if name in LONG else ran.stdout
        parts.append(f"## {PARTS[name]}\n\n{text}")
        print(parts[-1], flush=True)
    if quick() or sys.argv[1:]:
        return
    kept = RESULTS.read_text().partition(KEPT)[2] if RESULTS.exists() else "\n"
    RESULTS.write_text("\n".join([*parts, KEPT + kept]))


if __name__ == "__main__":
    main()
