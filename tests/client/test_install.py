"""The library as a package of its own, and the service without what only the library needs."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.service import ROOT

NAMES = "Verifier, BlockingVerifier, SessionMiddleware, Claims, Event, SessionError, InvalidToken, VerifierStale"


def _python(code: str, path: Path, python: str = sys.executable) -> str:
    env = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run([python, "-W", "error", "-c", code], env=env, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_holds_the_library_and_nothing_of_the_service(installed: Path) -> None:
    assert not (installed / "app").exists()
    found = {str(path.relative_to(installed)) for path in (installed / "session_client").rglob("*.py")}
    own = {f"session_client/{path.relative_to(ROOT / 'app/client')}" for path in (ROOT / "app/client").rglob("*.py")}
    assert found == own and (installed / "session_client/py.typed").is_file()


def test_only_what_is_used_is_imported(installed: Path) -> None:
    code = f"""
import sys, session_client
assert "httpx" not in sys.modules
from session_client import {NAMES}
for name in ("redis", "starlette", "fastapi", "app"):
    assert name not in sys.modules, name
from session_client import require_session, problem_response, Refused
assert "starlette" in sys.modules and "redis" not in sys.modules
assert "Verifier" in dir(session_client)
try:
    session_client.Nothing
except AttributeError as error:
    print(error)
"""
    assert "no attribute 'Nothing'" in _python(code, installed)


def test_the_service_does_not_need_httpx() -> None:
    code = "import sys, app.main, worker.main\nassert 'httpx' not in sys.modules and 'fastapi' not in sys.modules"
    assert _python(code, ROOT) == ""


@pytest.mark.slow
def test_it_installs_alone_with_what_it_names(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv/bin/python")
    words = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT / "app/client")]
    subprocess.run(words, check=True, timeout=300)
    code = (
        f"from session_client import {NAMES}\nv = Verifier(url='http://x', tenant_id='t', api_key='k')\nprint(v.stale)"
    )
    assert _python(code, tmp_path, python) == "True"
