"""`python -m tests.faults.everything`: the long proof, part by part, and how long each took.

The model runs in two processes side by side, one for each of two cores, and the clients, who mostly wait, beside the
mutations. The faults run alone: they measure time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Final

_PYTEST: Final = [sys.executable, "-m", "pytest", "-q", "--durations", "8", "-m", "long or not long"]
_MODEL: Final = [*_PYTEST, "tests/model"]
_PARTS: Final[dict[str, list[tuple[list[str], dict[str, str]]]]] = {
    # 200,000 calls on a real server, in two runs of different chance; 20,000 on a cluster
    "model": [
        ([*_MODEL, "-k", "valkey"], {"MODEL_CALLS_VALKEY": "122000"}),
        (
            _MODEL,
            {
                "MODEL_CALLS_VALKEY": "78000",
                "MODEL_CALLS_FEW_TOMBSTONES": "20000",
                "MODEL_CALLS_CLUSTER": "20000",
                "MODEL_CALLS_ORACLE": "10000",
                "MODEL_CALLS_HTTP": "3000",
            },
        ),
    ],
    "faults": [([*_PYTEST, "tests/faults"], {})],
    "clients and mutations": [
        ([*_PYTEST, "tests/client/test_outages.py"], {}),
        ([sys.executable, "-m", "tests.faults.mutations"], {}),
    ],
}


def main() -> None:
    took: dict[str, float] = {}
    failed = []
    for part, runs in _PARTS.items():
        began = time.monotonic()
        started = [
            subprocess.Popen(words, env={**os.environ, **_seed(number), "FAULTS": "full", **env})
            for number, (words, env) in enumerate(runs)
        ]
        if any([run.wait() for run in started]):
            failed.append(part)
        took[part] = time.monotonic() - began
    for part, seconds in took.items():
        print(f"{part}: {seconds / 60:.1f} min{', FAILED' if part in failed else ''}")
    print(f"together: {sum(took.values()) / 60:.1f} min")
    sys.exit(1 if failed else 0)


def _seed(number: int) -> dict[str, str]:
    """Runs side by side differ also where the caller has chosen the chance."""
    return {"SEED": str(int(os.environ["SEED"]) + number)} if "SEED" in os.environ else {}


if __name__ == "__main__":
    main()
