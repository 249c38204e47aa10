"""`make bench`: every measurement, one after the other; then `RESULTS.md`, the plot and the README's sizes from them.

Each part is a process. One that fails keeps its last good result, with a word about it, and makes the exit code 1; the
others go on, and what is measured is written as soon as it is there. `python -m tests.bench bench_paths …` runs the
parts named and writes them as well; `-` runs none and only writes. `QUICK=1`: the short form, only printed. What stands
in `RESULTS.md` from `## What was changed` on is written by hand and kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from tests.bench import goals, plot, sizing
from tests.bench.environment import quick
from tests.bench.figures import Part, left, load, save
from tests.bench.load import need_wrk

RESULTS: Final = Path(__file__).parent / "RESULTS.md"
KEPT: Final = "## What was changed"
PARTS: Final = {
    "bench_paths": "The hot paths over HTTP",
    "bench_peers": "Beside what people use",
    "bench_latency": "Latency of a verification, open loop",
    "bench_processes": "One, two and four processes of the API",
    "bench_growth": "Cost of an operation as the store grows",
    "bench_cluster": "Cost of an operation on one, three and six cluster nodes",
    "bench_memory": "Memory and disk of Redis",
    "bench_sweep": "The sweep",
    "bench_streams": "Event streams",
    "bench_feed": "Bytes of an event",
    "bench_dashboard": "What the dashboard asks",
    "bench_verifier": "Verification in the consumer's library",
    "bench_revocation": "From a revocation to its refusal by local verifiers",
}
PLAIN: Final = ("bench_verifier", "bench_revocation")
"""Print lines, not Markdown."""
LONGEST_S: Final = 1_200
INTRODUCTION: Final = """# What it costs

Written by `make bench`, which starts everything itself; the numbers are in `measured.json`. Server and load have a core
each. Figures of one part are of one run and may be compared with each other; those of other machines, or of another
hour, may not.
"""


def run(name: str) -> Part | str:
    """The result of one part, or the last line of its complaint."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures"
        words, env = [sys.executable, "-m", f"tests.bench.{name}"], {**os.environ, "FIGURES": str(file)}
        child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        try:
            said, complaint = child.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return f"took longer than {LONGEST_S} s"
        if child.returncode != 0:
            print(complaint, file=sys.stderr, flush=True)
            return (complaint.strip() or f"exit code {child.returncode}").splitlines()[-1][:200]
        text = f"```\n{said}```\n" if name in PLAIN else said
        return Part(f"{datetime.now(UTC):%Y-%m-%d}", text, left(file))


def section(name: str, part: Part) -> str:
    note = f"A later run of this part failed: `{part.failed}`\n\n" if part.failed else ""
    if not part.text:
        return f"## {PARTS[name]}\n\n{note}"
    between = "\n\n" if part.text.startswith("```") else " "
    return f"## {PARTS[name]}\n\n{note}{part.day}.{between}{part.text}"


def results(parts: dict[str, Part]) -> str:
    """All that is known, in the order of `PARTS`."""
    sections = [section(name, parts[name]) for name in PARTS if name in parts]
    return "\n".join([INTRODUCTION, "## The goals\n", *goals.table(parts), "", *sections])


def write(parts: dict[str, Part]) -> None:
    save(parts)
    kept = RESULTS.read_text().partition(KEPT)[2] if RESULTS.exists() else "\n"
    RESULTS.write_text("\n".join([results(parts), KEPT + kept]))


def main() -> None:
    need_wrk()
    parts = {} if quick() else load()
    failed = []
    for name in [name for name in sys.argv[1:] if name != "-"] or ([] if sys.argv[1:] else [*PARTS]):
        print(f"{name} …", file=sys.stderr, flush=True)
        result = run(name)
        if isinstance(result, str):
            failed.append(f"{name}: {result}")
            result = msgspec.structs.replace(parts.get(name, Part("", "", {})), failed=result)
        parts[name] = result
        print(section(name, result), flush=True)
        if not quick():
            write(parts)
    if quick():
        print("\n".join(["## The goals\n", *goals.table(parts)]))
    else:
        write(parts)
        plot.draw(parts)
        sizing.write(parts)
    if failed:
        sys.exit("failed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
