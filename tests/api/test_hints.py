"""A refusal says what would have been right, over real HTTP: the scope, the values, the credential. Nothing that was
sent as a secret comes back, and nobody learns whether a credential is a good one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.api.operations import OPERATIONS
from app.apikeys import checksum
from app.model import SCOPES
from tests.service import ADMIN_KEY, Api, Backend

SECRET = "Hx7Qm2Lw9ZtRk4Vb"
KEYED = [row for row in OPERATIONS if row.scope is not None]


@pytest.fixture(scope="module")
def api(valkey_url: str) -> Iterator[Api]:
    process = Api(valkey_url, HELLOJOHN_FAILURES_PER_MINUTE="0")
    yield process
    process.stop()


@pytest.fixture(scope="module")
def backend(api: Api) -> Backend:
    return api.tenant()


def narrow(backend: Backend, *scopes: str) -> str:
    """Another key of that tenant."""
    path = f"/v1/admin/tenants/{backend.tenant_id}/api-keys"
    made = backend.api.http.post(path, json={"name": "k", "scopes": scopes}, headers=bearer(ADMIN_KEY))
    assert made.status_code == 201, made.text
    return str(made.json()["key"])


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize("row", KEYED, ids=lambda row: row.name)
def test_a_key_without_the_scope_is_told_which_one(api: Api, backend: Backend, row: Any) -> None:
    key = narrow(backend, *(scope for scope in SCOPES if scope != row.scope))
    answer = api.http.request(row.method, row.path, headers=bearer(key))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["scope"]) == (403, "insufficient_scope", row.scope)
    assert problem["detail"] == f"This API key lacks the scope {row.scope}"
    challenge = f'Bearer realm="hellojohn", error="insufficient_scope", scope="{row.scope}"'
    assert answer.headers["www-authenticate"] == challenge


def test_who_has_no_good_key_is_told_no_scope(api: Api, backend: Backend) -> None:
    """Not for a wrong, an unknown, a revoked key, and not where no scope would do."""
    key = narrow(backend, "stats:read")
    wrong = key[:-8] + ("0" if key[-8] != "0" else "1")
    path = f"/v1/admin/tenants/{backend.tenant_id}/api-keys"
    removed = narrow(backend, "stats:read")
    assert api.http.delete(f"{path}/{removed[8:24]}", headers=bearer(ADMIN_KEY)).status_code == 204
    unknown = key[:8] + "0" * 16 + key[24:-7]
    token = backend.create()["access_token"]
    refused = [wrong + checksum(wrong), unknown + checksum(unknown), removed, "sk_live_x", "x", token]
    for text in refused:
        answer = api.http.get("/v1/sessions", headers=bearer(text))
        assert answer.status_code in (401, 403)
        assert "scope" not in answer.json() and "sessions:read" not in answer.text, answer.text
        assert "scope=" not in answer.headers["www-authenticate"]
    operators = api.http.get("/v1/admin/tenants", headers=bearer(key))
    assert (operators.status_code, "scope" in operators.json()) == (403, False)


@pytest.mark.parametrize(
    ("path", "sent", "field", "said"),
    [
        ("config", {"on_limit": SECRET}, "on_limit", "must be one of evict, reject"),
        ("config", {"on_limit": None}, "on_limit", "must be one of evict, reject"),
        ("config", {"max_sessions_per_user": "5"}, "max_sessions_per_user", "a whole number from 1 to 10000, or null"),
        ("config", {"max_sessions_per_user": 0}, "max_sessions_per_user", "1 to 10000"),
        ("config", {"idle_timeout": "1 hour"}, "idle_timeout", 'like "15m" or whole seconds, 5s to 400d'),
        ("config", {"idle_timeout": 1.5}, "idle_timeout", 'like "15m" or whole seconds, 5s to 400d, or null'),
        ("config", {"access_token_ttl": "2d"}, "access_token_ttl", 'like "15m" or whole seconds, 30s to 1d'),
        ("config", {"refresh_grace": "a text beyond every bound"}, "refresh_grace", "0s to 1m"),
        ("config", {"idle_timout": "1h"}, "idle_timout", "it may have session_duration, access_token_ttl, max_sess"),
        ("config", {"no name of a field": 1}, None, "it may have session_duration, access_token_ttl, max_sessions"),
        ("api-keys", {"name": "k", "mode": SECRET}, "mode", "must be one of live, test"),
        ("api-keys", {"name": "k", "scopes": ["stats:read", SECRET]}, "scopes[1]", "must be one of audit:read, conf"),
        ("api-keys", {"name": "k", "scopes": [1]}, "scopes[0]", "must be one of audit:read, config:read"),
        ("api-keys", {"name": "k", "expires_in": 59}, "expires_in", 'like "15m" or whole seconds, 1m to 3650d'),
        ("api-keys", {"name": "k", "expires_in": [1]}, "expires_in", 'like "15m" or whole seconds, 1m to 3650d'),
    ],
)
def test_a_value_that_does_not_fit_is_told_which_would(
    api: Api, backend: Backend, path: str, sent: dict[str, Any], field: str | None, said: str
) -> None:
    method = "PATCH" if path == "config" else "POST"
    target = f"/v1/admin/tenants/{backend.tenant_id}/{path}"
    answer = api.http.request(method, target, json=sent, headers=bearer(ADMIN_KEY))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem.get("field")) == (422, "validation_error", field)
    assert said in problem["detail"], problem["detail"]
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    ("query", "status", "field", "said"),
    [
        ("limit=0", 422, "limit", "must be a whole number from 1 to 100"),
        ("limit=101", 422, "limit", "must be a whole number from 1 to 100"),
        ("limit=ten", 422, "limit", "must be a whole number from 1 to 100"),
        (f"status={SECRET}", 422, "status", "must be one of active, all, expired, revoked"),
        ("user=u1", 400, "user", "there are limit, cursor, status, user_id"),
    ],
)
def test_so_is_a_parameter_of_the_query(backend: Backend, query: str, status: int, field: str, said: str) -> None:
    answer = backend.call("GET", f"/v1/sessions?{query}")
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (status, field)
    assert problem["detail"].endswith(said), problem["detail"]
    assert SECRET not in answer.text


def test_a_call_without_parameters_says_so(api: Api) -> None:
    assert (
        api.http.get("/v1/admin/signing-keys?verbose=1", headers=bearer(ADMIN_KEY)).json()["detail"]
        == "No such query parameter; this call takes none"
    )


KEY = "a tenant's API key (sk_live_… or sk_test_…)"
TOKEN = "an end user's access token"


@pytest.mark.parametrize(
    ("path", "sent", "code", "said"),
    [
        ("sessions", {}, "missing_token", f"A credential is required: send Authorization: Bearer with {KEY}"),
        ("me/sessions", {}, "missing_token", f"A credential is required: send Authorization: Bearer with {TOKEN}"),
        ("sessions", {"X-API-Key": "KEY"}, "missing_token", "X-API-Key is not read: send Authorization: Bearer with"),
        ("sessions", {"Authorization": "KEY"}, "missing_token", "Authorization does not begin with Bearer: send"),
        ("sessions", {"Authorization": "Token KEY"}, "missing_token", "Authorization does not begin with Bearer: send"),
        ("sessions", {"Authorization": "Basic KEY"}, "missing_token", "Basic credentials are not taken: send"),
        (
            "sessions",
            {"Authorization": "Bearer"},
            "invalid_api_key",
            "After Bearer and a space nothing is expected but",
        ),
        ("sessions", {"Authorization": 'Bearer "KEY"'}, "invalid_api_key", "no quotes, no second word"),
        ("me/sessions", {"Authorization": "Bearer Bearer USER"}, "invalid_token", "no quotes, no second word"),
        (
            "sessions",
            {"Authorization": "Bearer USER"},
            "insufficient_scope",
            "what was sent looks like an access token",
        ),
        ("sessions", {"Authorization": "Bearer FORGED"}, "invalid_token", "what was sent looks like an access token"),
        ("sessions", {"Authorization": "Bearer REFRESH"}, "invalid_token", "belongs in the body of POST /v1/sessions/"),
        ("sessions", {"Authorization": "Bearer SESSION"}, "invalid_token", "a session's id, which is no credential"),
        ("sessions", {"Authorization": "Bearer SECRET"}, "invalid_token", "looks like no credential of this service"),
        (
            "me/sessions",
            {"Authorization": "Bearer KEY"},
            "insufficient_scope",
            f"takes {TOKEN}; what was sent looks like",
        ),
        ("me/sessions", {"Authorization": "Bearer sk_live_SECRET"}, "invalid_api_key", f"takes {TOKEN}; what was sent"),
        (
            "admin/tenants",
            {"Authorization": "Bearer KEY"},
            "insufficient_scope",
            "takes the operator's key (mk_live_…)",
        ),
        ("sessions", {"Authorization": "Bearer sk_live_SECRET"}, "invalid_api_key", "The API key is not valid"),
        ("me/sessions", {"Authorization": "Bearer FORGED"}, "invalid_token", "The access token is not valid"),
    ],
)
def test_a_credential_in_the_wrong_place_is_told_what_was_expected(
    api: Api, backend: Backend, path: str, sent: dict[str, str], code: str, said: str
) -> None:
    issued = backend.create()
    texts = {
        "KEY": backend.key,
        "USER": issued["access_token"],
        "FORGED": issued["access_token"][:-8] + "AAAAAAAA",
        "REFRESH": issued["refresh_token"],
        "SESSION": issued["session"]["id"],
        "SECRET": SECRET,
    }
    headers = dict(sent)
    for name, text in texts.items():
        headers = {header: value.replace(name, text) for header, value in headers.items()}
    answer = api.http.get(f"/v1/{path}", headers=headers)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (403 if code == "insufficient_scope" else 401, code)
    assert said in problem["detail"], problem["detail"]
    assert not [name for name, text in texts.items() if text in answer.text + str(answer.headers)]


def test_a_hint_is_the_same_for_a_good_credential_and_an_invented_one(api: Api, backend: Backend) -> None:
    """Where no credential of the kind will do, and where only a wrong one was sent."""

    def refusal(path: str, text: str) -> dict[str, Any]:
        answer = api.http.get(path, headers=bearer(text))
        return {name: value for name, value in answer.json().items() if name != "request_id"}

    invented = backend.key[:8] + "0" * 16 + backend.key[24:-7]
    wrong = backend.key[:-8] + ("0" if backend.key[-8] != "0" else "1")
    invented, wrong = invented + checksum(invented), wrong + checksum(wrong)
    for path in ("/v1/sessions", "/v1/me/sessions", "/v1/admin/tenants"):
        assert refusal(path, invented) == refusal(path, wrong) == refusal(path, "sk_live_x"), path
    assert refusal("/v1/me/sessions", backend.key)["detail"] == refusal("/v1/me/sessions", invented)["detail"]


def test_hints_do_not_change_what_is_counted_as_a_guess(valkey_url: str) -> None:
    """What carries no credential is none; whatever follows Bearer is."""
    api = Api(valkey_url, HELLOJOHN_FAILURES_PER_MINUTE="5")
    try:

        def codes(**headers: str) -> list[str]:
            return [api.http.get("/v1/sessions", headers=headers).json()["code"] for _ in range(8)]

        text = secrets.token_hex(8)
        for sent in ({"X-API-Key": text}, {"Authorization": text}, {"Authorization": f"Basic {text}"}, {}):
            assert codes(**sent) == ["missing_token"] * 8
        assert codes(Authorization="Bearer a b") == ["invalid_api_key"] * 5 + ["too_many_failures"] * 3
        assert codes(Authorization="Bearer x") == ["too_many_failures"] * 8
    finally:
        api.stop()


def test_every_refusal_leads_to_what_to_do_about_it(api: Api, backend: Backend) -> None:
    refusals = [
        api.http.get("/nowhere"),
        api.http.put("/v1/sessions"),
        api.http.get("/v1/sessions"),
        backend.call("POST", "/v1/sessions", content=b"{", headers={"Content-Type": "application/json"}),
        api.http.get("/livez", headers={"X": "y" * 17_000}),
    ]
    for answer in refusals:
        link = answer.links["help"]["url"]
        page, _, anchor = link.partition("#")
        assert anchor == answer.json()["code"]
        found = api.http.get(httpx.URL(answer.url).join(page))
        assert found.status_code == 200 and f'id="{anchor}"' in found.text
        assert answer.json()["type"] == f"urn:hellojohn:problem:{anchor}" and answer.json()["type"] in found.text
