"""Real processes of the service, for tests that speak HTTP to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from app.embedded import dies_with_parent, free_port

ROOT = Path(__file__).parent.parent
ADMIN_KEY = "mk_live_Vq3xL9sTzKfR2mWbY7cHnG4pJd8eAu6oXyBi5tQw"
ISSUER = "https://sessions.example"
"""One for all: processes on one store refuse to start with another than the first's."""
SECRET = "a secret of forty characters for testing"


def environment(redis_url: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HELLOJOHN_", "REDIS_", "ARQ_"))}
    own = {"REDIS_URL": redis_url, "HELLOJOHN_SECRET": SECRET, "HELLOJOHN_ADMIN_KEY": ADMIN_KEY}
    own["HELLOJOHN_ISSUER"] = ISSUER
    return {**kept, **own, "PYTHONPATH": str(ROOT), "HELLOJOHN_LOG": "warning", **more}


class Process:
    """`python -m module` as a child that ends with the test run; with CLOCK_FILE it runs on that clock, with LOG_FILE
    it writes there."""

    def __init__(self, module: str, env: Mapping[str, str]) -> None:
        words = ["tests.faults.clock", module] if "CLOCK_FILE" in env else [module]
        with open(env.get("LOG_FILE", os.devnull), "ab") as file:
            log = file if "LOG_FILE" in env else None
            self.child = subprocess.Popen(
                [sys.executable, "-m", *words],
                env=dict(env),
                cwd=ROOT,
                stdout=log,
                stderr=log,
                preexec_fn=dies_with_parent(signal.SIGKILL),
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.child.poll() is None:
            self.child.send_signal(number)
        try:
            return self.child.wait(15)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait(5)


class Api(Process):
    """One process of the API and a client for it. `ready`: what answers 200 once it serves, where its clock is not ours
    and `/readyz` would complain of that."""

    def __init__(self, redis_url: str, ready: str = "/readyz", **more: str) -> None:
        self._ready = ready
        self.port = int(more.pop("PORT", 0)) or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__("app.main", environment(redis_url, PORT=str(self.port), **more))
        self.http = httpx.Client(base_url=self.url, timeout=10, trust_env=False)
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                if self.http.get(self._ready).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        self.stop()
        raise AssertionError("the API did not become ready")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.http.close()
        return super().stop(number)

    def tenant(self, name: str = "Acme") -> Backend:
        """A new tenant with a key, made as an operator would."""
        admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
        tenant = self.http.post("/v1/admin/tenants", json={"name": name}, headers=admin)
        assert tenant.status_code == 201, tenant.text
        path = f"/v1/admin/tenants/{tenant.json()['id']}/api-keys"
        key = self.http.post(path, json={"name": "backend"}, headers=admin)
        assert key.status_code == 201, key.text
        return Backend(self, tenant.json()["id"], key.json()["key"])


class Backend:
    """A tenant's backend: its calls carry its key."""

    def __init__(self, api: Api, tenant_id: str, key: str) -> None:
        self.api, self.tenant_id, self.key = api, tenant_id, key

    def call(self, method: str, path: str, through: Api | None = None, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}", **more.pop("headers", {})}
        return (through or self.api).http.request(method, path, headers=headers, **more)

    def create(self, user_id: str = "usr_1", **details: Any) -> dict[str, Any]:
        answer = self.call("POST", "/v1/sessions", json={"user_id": user_id, **details})
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def verify(self, token: str, through: Api | None = None) -> dict[str, Any]:
        answer = self.call("POST", "/v1/sessions/verify", through, json={"token": token})
        assert answer.status_code == 200, answer.text
        verdict: dict[str, Any] = answer.json()
        return verdict

    def refresh(self, token: str) -> httpx.Response:
        return self.api.http.post("/v1/sessions/refresh", json={"refresh_token": token})
