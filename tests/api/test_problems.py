"""Whatever goes wrong is a problem document (RFC 9457) with a stable code, before any store is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from app.api import openapi
from app.api.body import MAX_BODY
from app.api.call import Call, Site
from app.api.http import Door
from app.api.logs import Log
from app.api.metrics import Metrics
from app.api.operation import Operation
from app.api.operations import OPERATIONS
from app.api.request import MAX_HEADER_BYTES, MAX_HEADERS, MAX_TARGET

NOW = 1_705_312_200_000
REFRESH = "/v1/sessions/refresh"
JSON = {"content-type": "application/json"}


async def broken(call: Call) -> None:
    raise RuntimeError("secret: sk_live_hidden")


BROKEN = Operation(method="GET", path="/broken", name="broken", summary="Fails", handler=broken, credential="none")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """An API whose store is not open."""
    site = Site(Metrics(), openapi.encoded(OPERATIONS), b"")
    door = Door((*OPERATIONS, BROKEN), site, lambda: NOW, Log("error"))
    transport = httpx.ASGITransport(door)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as found:
        yield found


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert {"type", "title", "detail", "request_id"} <= body.keys()
    assert body["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_an_unknown_path_is_404(client: httpx.AsyncClient) -> None:
    for path in ("/v1/nothing", "/v1/sessions/", "/v1/sessions/a/b"):
        assert_problem(await client.get(path), 404, "not_found")


async def test_a_wrong_method_is_405_and_says_which_are_right(client: httpx.AsyncClient) -> None:
    answer = await client.request("TRACE", "/v1/sessions")
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert (await client.put("/v1/sessions/x")).headers["allow"] == "DELETE, GET, HEAD, PATCH"


async def test_a_call_without_credential_is_challenged_without_an_error(client: httpx.AsyncClient) -> None:
    for row in OPERATIONS:
        if row.credential in ("none", "optional_key"):
            continue
        answer = await client.request(row.method, row.path)
        assert_problem(answer, 401, "missing_token")
        assert answer.headers["www-authenticate"] == 'Bearer realm="hellojohn"'


async def test_a_broken_credential_is_challenged_with_an_error(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/sessions", headers={"authorization": "Bearer a b"})
    assert_problem(answer, 401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == 'Bearer realm="hellojohn", error="invalid_token"'


async def test_two_credentials_are_400(client: httpx.AsyncClient) -> None:
    twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")]
    assert_problem(await client.get("/v1/sessions", headers=twice), 400, "malformed_request")
    twice = [("x-tenant-id", "a"), ("x-tenant-id", "a")]
    assert_problem(await client.get("/v1/sessions", headers=twice), 400, "malformed_request")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xef\xbb\xbf{}",
        '{"refresh_token":"x"}'.encode("utf-16"),
        b'{"refresh_token":"\xff"}',
        b'{"refresh_token":"a","refresh_token":"b"}',
        b'{"refresh_token":NaN}',
        b'{"refresh_token":-Infinity}',
        b'{"refresh_token":9007199254740992}',
        b'{"refresh_token":' + b"9" * 5_000 + b"}",
        b'{"refresh_token":1e999}',
        b'{"refresh_token":"\\u0000"}',
        b'{"refresh_token":"\\ud800"}',
        b'{"\\ud800":1}',
        b'{"refresh_token":' + b"[" * 16 + b"]" * 16 + b"}",
        b"[" * 60_000,
        b'{"refresh_token":"x"} {}',
    ],
)
async def test_what_is_not_strict_json_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    assert_problem(await client.post(REFRESH, content=body, headers=JSON), 400, "malformed_request")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "refresh_token"),
        (b'{"refresh_token":1}', "refresh_token"),
        (b'{"refresh_token":"x","status":"active"}', "status"),
        (b"[]", None),
        (b'{"refresh_token":' + b"[" * 15 + b"]" * 15 + b"}", "refresh_token"),
    ],
)
async def test_a_wrong_field_is_422_and_named(client: httpx.AsyncClient, body: bytes, field: str | None) -> None:
    answer = await client.post(REFRESH, content=body, headers=JSON)
    assert_problem(answer, 422, "validation_error")
    assert answer.json().get("field") == field


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "application/json; charset=utf-16", "application/x-www-form-urlencoded"]
)
async def test_a_body_that_does_not_say_json_is_415(client: httpx.AsyncClient, media_type: str) -> None:
    answer = await client.post(REFRESH, content=b"{}", headers={"content-type": media_type})
    assert_problem(answer, 415, "unsupported_media_type")


async def test_a_body_is_cut_off_at_its_limit_even_without_a_length(client: httpx.AsyncClient) -> None:
    taken = 0

    async def drip() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1_000):
            taken += 1
            yield b" " * 8_192

    assert_problem(await client.post(REFRESH, content=drip(), headers=JSON), 413, "body_too_large")
    assert taken < 12
    assert_problem(await client.post(REFRESH, content=b" " * 65_537, headers=JSON), 413, "body_too_large")
    assert_problem(await client.post(REFRESH, content=b" " * 65_536, headers=JSON), 400, "malformed_request")


async def test_a_target_or_headers_beyond_the_limit_are_refused(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/livez?" + "x" * 4_096), 414, "uri_too_long")
    assert_problem(await client.get("/livez", headers={"x": "y" * 16_384}), 431, "headers_too_large")
    many = [(f"x-{number}", "y") for number in range(100)]
    assert_problem(await client.get("/livez", headers=many), 431, "headers_too_large")


async def test_what_is_too_large_is_told_how_large_it_may_be(client: httpx.AsyncClient) -> None:
    body = await client.post(REFRESH, content=b" " * (MAX_BODY + 1), headers=JSON)
    target = await client.get("/livez?" + "x" * MAX_TARGET)
    headers = await client.get("/livez", headers={"x": "y" * MAX_HEADER_BYTES})
    assert [answer.json()["detail"] for answer in (body, target, headers)] == [
        f"A body may have {MAX_BODY} bytes",
        f"Path and query together may have {MAX_TARGET} bytes",
        f"A request may have {MAX_HEADERS} headers and {MAX_HEADER_BYTES} bytes of them",
    ]


async def test_an_unknown_or_repeated_query_parameter_is_400(client: httpx.AsyncClient) -> None:
    for query in ("a=1", "a=1&a=2", "a=%ff"):
        assert_problem(await client.post(f"/v1/sessions/end?{query}"), 400, "malformed_request")
        assert (await client.get(f"/livez?{query}")).status_code == 200


async def test_without_a_store_it_lives_but_is_not_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).json() == {"status": "ok"}
    answer = await client.get("/readyz")
    assert_problem(answer, 503, "store_unavailable")
    assert answer.headers["retry-after"] == "1"
    sent = {"authorization": "Bearer sk_live_x"}
    assert_problem(await client.get("/v1/sessions", headers=sent), 503, "store_unavailable")


async def test_a_fault_of_ours_is_500_and_tells_nothing(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await client.get("/broken")
    assert_problem(answer, 500, "internal_error")
    logged = capsys.readouterr().err
    assert "RuntimeError" in logged and "broken" in logged
    assert "sk_live" not in logged + answer.text


async def test_a_harmless_request_id_is_kept_and_another_replaced(client: httpx.AsyncClient) -> None:
    kept = await client.get("/livez", headers={"x-request-id": "trace.1_a-B"})
    assert kept.headers["x-request-id"] == "trace.1_a-B"
    for bad in ("", "a b", "x" * 65, 'a"b'):
        answer = await client.get("/livez", headers={"x-request-id": bad})
        assert answer.headers["x-request-id"] not in ("", bad)


async def test_metrics_count_by_name_and_not_by_what_callers_choose(client: httpx.AsyncClient) -> None:
    await client.get("/livez")
    await client.get("/chosen-by-caller")
    text = (await client.get("/metrics")).text
    assert 'hellojohn_http_requests_total{operation="getLiveness",status="200"} 1.0' in text
    assert 'operation="none",status="404"' in text and "chosen" not in text


async def test_public_documents_are_cacheable_and_others_are_not(client: httpx.AsyncClient) -> None:
    first = await client.get("/openapi.json")
    assert first.headers["cache-control"] == "public, max-age=300"
    assert first.headers["access-control-allow-origin"] == "*"
    again = await client.get("/openapi.json", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "access-control-allow-origin" not in (await client.get("/livez")).headers
    page = await client.get("/docs")
    assert "script" not in page.headers["content-security-policy"]
