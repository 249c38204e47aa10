"""The middleware and the dependency, in the example apps, as a newcomer runs them: installed, under uvicorn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.embedded import dies_with_parent, free_port
from tests.client.acts import ISSUER, Site
from tests.service import Api


class App:
    """An example as a process of its own."""

    def __init__(self, module: str, site: Site, installed: Path) -> None:
        self.site, port = site, free_port()
        env = {
            **os.environ,
            "PYTHONPATH": str(installed),
            "HELLOJOHN_URL": site.api.url,
            "HELLOJOHN_ISSUER": ISSUER,
            "TENANT_ID": site.backend.tenant_id,
            "API_KEY": site.backend.key,
        }
        words = [
            "-m",
            "uvicorn",
            f"session_client.examples.{module}:app",
            "--port",
            str(port),
            "--log-level",
            "warning",
        ]
        self.child = subprocess.Popen(
            [sys.executable, *words], env=env, cwd="/", preexec_fn=dies_with_parent(signal.SIGKILL)
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)
        until(self._serves)

    def _serves(self) -> bool:
        try:
            return self.http.get("/health").is_success
        except httpx.TransportError:
            return False

    def get(self, path: str, token: str | None = None, **headers: str) -> httpx.Response:
        sent = headers if token is None else {"Authorization": f"Bearer {token}", **headers}
        return self.http.get(path, headers=sent)

    def stop(self) -> int:
        self.http.close()
        self.child.terminate()
        return self.child.wait(10)


def until(holds: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def api(valkey_url: str) -> Iterator[Api]:
    process = Api(valkey_url)
    yield process
    process.stop()


@pytest.fixture(scope="module", params=["fastapi_app", "asgi_app"])
def app(request: pytest.FixtureRequest, api: Api, installed: Path) -> Iterator[App]:
    process = App(request.param, Site(api, None), installed)
    yield process
    assert process.stop() in (0, -signal.SIGTERM)


def refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code, and the challenge of a problem document."""
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code and body["title"] and body["type"].endswith(body["code"])
    return answer.status_code, body["code"], answer.headers.get("www-authenticate")


def test_who_has_a_session_comes_in_until_it_is_revoked(app: App) -> None:
    created = app.site.backend.create("usr_1", role="admin", claims={"plan": "pro"})
    token = created["access_token"]
    assert app.get("/me", token).json() == {"user": "usr_1", "role": "admin", "plan": "pro"}
    app.site.backend.call("DELETE", f"/v1/sessions/{created['session']['id']}")
    until(lambda: app.get("/me", token).status_code == 401, 2.0)
    status, code, challenge = refusal(app.get("/me", token))
    assert (status, code) == (401, "session_revoked")
    assert challenge == 'Bearer realm="sessions", error="invalid_token", error_description="The session has ended"'


def test_a_changed_role_is_in_force_on_the_next_request(app: App) -> None:
    created = app.site.backend.create("usr_1", role="member")
    token = created["access_token"]
    assert app.get("/me", token).json()["role"] == "member"
    app.site.backend.call("PATCH", f"/v1/sessions/{created['session']['id']}", json={"role": "owner"})
    until(lambda: app.get("/me", token).json()["role"] == "owner", 2.0)


def test_who_shows_nothing_or_nonsense_is_told_so(app: App) -> None:
    assert refusal(app.get("/me")) == (401, "missing_token", 'Bearer realm="sessions"')
    assert refusal(app.get("/me", Authorization="Basic eDp5")) == (401, "missing_token", 'Bearer realm="sessions"')
    for sent in ("Bearer", "Bearer a b", "Bearer x"):
        assert refusal(app.get("/me", Authorization=sent))[:2] == (401, "invalid_token")
    twice = [("Authorization", "Bearer x"), ("Authorization", "Bearer y")]
    assert refusal(app.http.get("/me", headers=twice))[:2] == (401, "invalid_token")


def test_the_scheme_is_read_in_any_case(app: App) -> None:
    token = app.site.backend.create("usr_2")["access_token"]
    assert app.get("/me", Authorization=f"bEARER {token}").status_code == 200


def test_what_is_public_needs_no_session(app: App) -> None:
    assert app.get("/health").status_code == 200


def test_a_role_may_be_required(api: Api, installed: Path) -> None:
    process = App("fastapi_app", Site(api, None), installed)
    member = process.site.backend.create("usr_1", role="member")["access_token"]
    admin = process.site.backend.create("usr_2", role="admin")["access_token"]
    answer = refusal(process.get("/admin", member))
    assert answer == (403, "insufficient_role", 'Bearer realm="sessions", error="insufficient_scope"')
    assert process.get("/admin", admin).json() == {"welcome": "usr_2"}
    process.stop()


@pytest.mark.slow
def test_without_the_service_it_answers_503_and_comes_back_with_it(valkey_url: str, installed: Path) -> None:
    api = Api(valkey_url)
    process = App("asgi_app", Site(api, None), installed)
    token = process.site.backend.create()["access_token"]
    assert process.get("/me", token).status_code == 200
    api.stop(signal.SIGKILL)
    until(lambda: process.get("/me", token).status_code == 503, 15.0)
    answer = process.get("/me", token)
    assert refusal(answer)[:2] == (503, "service_unavailable") and answer.headers["retry-after"] == "1"
    process.stop()
