"""Credentials for Schemathesis: a tenant of its own, a new one once the run has ended it, and the operator's key."""

from __future__ import annotations

import os
import re
from typing import Any

import httpx
import schemathesis

_HTTP = httpx.Client(base_url=os.environ["HELLOJOHN_URL"], trust_env=False, timeout=10)
_TENANT = re.compile(r"tnt_[0-9A-Z]{26}")
_ADMIN = {"Authorization": f"Bearer {os.environ['ADMIN_KEY']}"}


class _Backend:
    """A tenant and its key, for as long as the operations under test leave them alone."""

    key = ""

    def living(self) -> str:
        if not self.key or _HTTP.get("/v1/admin/config", headers=self._headers()).status_code == 401:
            tenant = _HTTP.post("/v1/admin/tenants", json={"name": "Acme"}, headers=_ADMIN).json()
            made = _HTTP.post(f"/v1/admin/tenants/{tenant['id']}/api-keys", json={"name": "k"}, headers=_ADMIN)
            self.key = made.json()["key"]
        return self.key

    def access_token(self) -> str:
        self.living()
        sane = {"session_duration": "1d", "access_token_ttl": "1h", "on_limit": "evict", "idle_timeout": None}
        _HTTP.patch("/v1/admin/config", json=sane, headers=self._headers())
        created = _HTTP.post("/v1/sessions", json={"user_id": "u1"}, headers=self._headers())
        token: str = created.json()["access_token"]
        return token

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


_backend, _people = _Backend(), _Backend()


@schemathesis.auth(refresh_interval=None)
class Holder:
    """The credential that an operation asks for."""

    def get(self, case: Any, context: Any) -> str:
        schemes = {name for choice in context.operation.definition.raw.get("security", []) for name in choice}
        if "apiKey" in schemes:
            return _backend.living()
        return _people.access_token() if "accessToken" in schemes else os.environ["ADMIN_KEY"]

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers["Authorization"] = f"Bearer {data}"
        if _TENANT.fullmatch(str(case.headers.get("X-Tenant-ID", ""))):
            del case.headers["X-Tenant-ID"]  # well-formed and some other tenant's: 403 and nothing more to be seen
