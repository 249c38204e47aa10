"""`python -m tests.faults.mutations`: damage the service in one place at a time and see whether the suite notices.

Each mutation is one change of text in a copy of the repository; the checks run until one fails, the one that is known
to notice first. An unchanged copy must pass them all. A mutation that survives, or no longer applies, is an error.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent.parent
_CHECKS: Final = {
    "contract": ["tests/store", "-k", "valkey and not races and not repair"],
    "repair": ["tests/store/test_repair.py", "-k", "valkey"],
    "use cases": [
        "tests/test_sessions.py",
        "tests/test_last_moments.py",
        "tests/test_events.py",
        "-k",
        "single or valkey",
    ],
    "tokens": ["tests/test_tokens.py", "tests/test_lost_rotations.py"],
    "model": ["tests/model", "-k", "valkey or few_tombstones"],
    "races": ["tests/store/test_races.py", "-k", "valkey"],
    "wire": [
        "tests/test_faults.py",
        "tests/faults/test_failover.py",
        "-k",
        "wire or silent or stalled or cancelled or reads or failover",
    ],
    "clock": [
        "tests/test_clock.py",
        "tests/faults/test_clocks.py::test_a_clock_set_wrong_ends_nobody_and_spares_nobody",
    ],
    "keys": ["tests/test_keys.py", "tests/client/test_keys.py", "-m", "not slow"],
    "crowd": ["tests/faults/test_crowd.py", "-k", "nothing"],
}
_PLAIN: Final = [f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "xdist")]
"""To import what these need takes as long as a check."""
_TIMEOUT_S: Final = 240


class Mutation(NamedTuple):
    """`caught_by` names the check to begin with, `seen_by` the file or test of it that is run before all others."""

    what: str
    file: str
    old: str
    new: str
    caught_by: str = "contract"
    seen_by: str = ""


def mutations() -> list[Mutation]:
    """Those of `mutations.toml`."""
    found = tomllib.loads((Path(__file__).parent / "mutations.toml").read_text())
    return [Mutation(**row) for row in found["mutation"]]


def caught_by(mutation: Mutation | None, seed: int) -> str | None:
    """The check that fails, and the test in it; `None` if none does. Raises `LookupError` if it does not apply."""
    with tempfile.TemporaryDirectory() as name:
        copy = _copy(Path(name))
        if mutation is not None:
            _apply(mutation, copy)
        for check, words in [*_first(mutation), *_CHECKS.items()]:
            if failed := _fails(copy, words, seed):
                return f"{check}: {failed}"
    return None


def _first(mutation: Mutation | None) -> list[tuple[str, list[str]]]:
    """What is to notice a mutation."""
    if mutation is None:
        return []
    words = _CHECKS[mutation.caught_by]
    if mutation.seen_by:
        words = [mutation.seen_by, *(word for word in words if not word.startswith("tests/"))]
    return [(mutation.caught_by, words)]


def _copy(folder: Path) -> Path:
    copy = folder / "copy"
    for part in ("app", "worker", "tests", "pyproject.toml"):
        source, target = ROOT / part, copy / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("node_modules", "*.pyc.*"))
        else:
            shutil.copy(source, target)
    return copy


def _apply(mutation: Mutation, copy: Path) -> None:
    file = copy / mutation.file
    text = file.read_text()
    if text.count(mutation.old) != 1:
        raise LookupError(f"{mutation.file} holds {text.count(mutation.old)} × {mutation.old!r}")
    file.write_text(text.replace(mutation.old, mutation.new))


def _fails(copy: Path, words: Iterable[str], seed: int) -> str | None:
    """The first failing test; `None` if all pass."""
    own = {
        "PYTHONPATH": str(copy),
        "SEED": str(seed),
        "PYTHONDONTWRITEBYTECODE": "1",
        "FAULTS": "",
        "MODEL_SHRINK": "0",
    }
    env = {**os.environ, **own, "MODEL_CALLS_VALKEY": "6000"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", *_PLAIN, *words]
    try:
        ran = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return "it never ends"
    if ran.returncode == 0:
        return None
    lines = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED tests", "ERROR tests"))]
    if not lines:
        raise RuntimeError(f"the check did not run: {ran.stdout[-2_000:]}{ran.stderr[-2_000:]}")
    return lines[0].split(" ")[1].rpartition("/")[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutations whose name contains this")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chosen = [mutation for mutation in mutations() if options.only in mutation.what]
    began, survivors = time.monotonic(), []
    with ThreadPoolExecutor(2) as pool:
        unchanged = pool.submit(caught_by, None, options.seed)
        for mutation, caught in zip(chosen, pool.map(lambda m: caught_by(m, options.seed), chosen), strict=True):
            print(f"| {mutation.what} | {caught or '**survived**'} |", flush=True)
            if caught is None:
                survivors.append(mutation.what)
    if failed := unchanged.result():
        sys.exit(f"the unchanged copy fails {failed}")
    print(f"{len(chosen)} mutations, {len(chosen) - len(survivors)} caught, {time.monotonic() - began:.0f} s")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
