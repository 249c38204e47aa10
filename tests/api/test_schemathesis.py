"""The document against the running service: Schemathesis calls every operation with what the document allows and with
what it forbids, singly and in sequences, with every check it has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.api.operations import OPERATIONS
from app.embedded import Embedded
from tests.service import ADMIN_KEY, ROOT, Api

HERE = Path(__file__).parent
SECONDS = 600 if os.environ.get("SECURITY") == "full" else 30
SEED = os.environ.get("SEED", "1")


@pytest.mark.slow
def test_no_check_finds_the_document_untrue(own_server: Embedded, tmp_path: Path) -> None:
    """`SEED=` repeats a run."""
    api = Api(own_server.url, HELLOJOHN_FAILURES_PER_MINUTE="0")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks"}
    env |= {"HELLOJOHN_URL": api.url, "ADMIN_KEY": ADMIN_KEY}
    words = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "run"]
    words += [f"{api.url}/openapi.json", "--checks", "all", "--max-time", str(SECONDS), "--seed", SEED]
    words += ["--continue-on-failure", "--suppress-health-check", "all", "--report", "junit"]
    try:
        ended = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS * 3 + 60)
        metrics = api.http.get("/metrics").text
    finally:
        api.stop()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    made = re.search(r"(\d+) generated", ended.stdout)
    assert made and int(made[1]) > 500, ended.stdout
    served = set(re.findall(r'requests_total\{operation="(\w+)",status="20\d"', metrics))
    assert len(served) > len(OPERATIONS) / 2, "most of them were reached with what they need"
    assert re.search(r"Stateful \(in [0-9.]+s\)", ended.stdout), ended.stdout
