"""Every path in every form of HTTP that clients and proxies use: HEAD, OPTIONS, HTTP/1.0, pipelines, closing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.api.operations import OPERATIONS
from tests.api.test_gates import Line
from tests.service import ADMIN_KEY, Api, Backend

OTHERS = {"/v1/nothing", "/dashboard", "/dashboard/assets/main.js"}
PATHS = sorted({operation.path for operation in OPERATIONS} | OTHERS)
CLOSING = [("1.0", {}), ("1.0", {"Connection": "keep-alive"}), ("1.1", {"Connection": "close"})]
READABLE = {operation.path: operation for operation in OPERATIONS if operation.method == "GET"}
PUBLIC = sorted(path for path, operation in READABLE.items() if operation.credential == "none")
STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def api(valkey_url: str) -> Iterator[Api]:
    process = Api(valkey_url)
    yield process
    process.stop()


@pytest.fixture(scope="module")
def backend(api: Api) -> Backend:
    return api.tenant()


def request(method: str, path: str, backend: Backend, version: str = "1.1", **headers: str) -> bytes:
    operation = READABLE.get(path)
    credential = ADMIN_KEY if operation is not None and operation.credential == "admin" else backend.key
    path = path.replace("{tenant_id}", backend.tenant_id)
    for name in ("session_id", "user_id", "key_id", "kid"):
        path = path.replace(f"{{{name}}}", "unknown")
    fields = {"Host": "sessions.example", "Authorization": f"Bearer {credential}", **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/{version}\r\n{lines}\r\n".encode()


def head(line: Line) -> tuple[int, dict[str, str]]:
    """Status and headers of one response, and nothing behind them."""
    found = b""
    while not found.endswith(b"\r\n\r\n"):
        byte = line.socket.recv(1)
        assert byte, found
        found += byte
    status, *fields = found.decode().strip().split("\r\n")
    return int(status.split(" ")[1]), dict(field.lower().split(": ", 1) for field in fields)


def response(line: Line) -> tuple[int, dict[str, str], bytes]:
    """One response with its body, and nothing of the next one."""
    status, headers = head(line)
    body = b""
    while len(body) < int(headers.get("content-length", 0)):
        body += line.socket.recv(int(headers["content-length"]) - len(body))
    return status, headers, body


@pytest.mark.parametrize("path", PATHS)
def test_a_pipeline_is_answered_in_order(api: Api, backend: Backend, path: str) -> None:
    """HEAD has the headers of GET and no body, on an event stream too, and the connection goes on."""
    stream = STREAM if path == "/v1/events" else {}
    with Line(api) as line:
        line.send(request("HEAD", path, backend, **stream) + request("OPTIONS", path, backend))
        line.send(request("GET", "/livez", backend))
        status, headers = head(line)
        assert "transfer-encoding" not in headers
        if path not in READABLE:
            assert status in (200, 303, 307, 404, 405)
        elif stream:
            assert (status, headers["content-type"]) == (200, "text/event-stream")
        refused, fields, _ = response(line)
        assert refused in (204, 404, 405)
        assert (refused == 405) == ("allow" in fields)
        alive, _, body = response(line)
        assert (alive, body) == (200, b'{"status":"ok"}')


@pytest.mark.parametrize("path", sorted(READABLE))
def test_head_says_what_get_would(api: Api, backend: Backend, path: str) -> None:
    with Line(api) as line:
        line.send(request("HEAD", path, backend) + request("GET", path, backend))
        status, headers = head(line)
        again, fields, body = response(line)
        assert status == again
        assert headers.get("content-type") == fields.get("content-type")
        if path not in ("/metrics", "/v1/admin/overview") and status == 200:
            assert headers["content-length"] == str(len(body))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("version", "more"), CLOSING)
def test_who_wants_the_connection_closed_gets_a_whole_response(
    api: Api, backend: Backend, path: str, version: str, more: dict[str, str]
) -> None:
    for method in ("GET", "POST"):
        with Line(api) as line:
            line.send(request(method, path, backend, version, **more, **{"Content-Length": "0"}))
            whole = line.rest()
        front, _, body = whole.partition(b"\r\n\r\n")
        lowered = front.lower()
        assert lowered.startswith(b"http/1.1 ") and b"transfer-encoding" not in lowered
        length = lowered.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        assert len(body) == int(length or 0)


def test_an_event_stream_by_http_1_0_has_no_chunks(api: Api, backend: Backend) -> None:
    """As NGINX asks unless `proxy_http_version` says otherwise."""
    with Line(api) as line:
        line.send(request("GET", "/v1/events", backend, "1.0", **STREAM))
        status, headers = head(line)
        assert status == 200
        assert "transfer-encoding" not in headers and "content-length" not in headers
        assert headers["connection"] == "close"
        found = b""
        while b"event: heartbeat" not in found:
            found += line.socket.recv(1_000)
        assert found.startswith(b"retry: 1000\n\n")


@pytest.mark.parametrize("path", PUBLIC)
@pytest.mark.parametrize("query", ["verbose", "ts=1", "a=1&a=2", "%zz", "limit=x"])
def test_probes_and_public_documents_ignore_a_query(api: Api, path: str, query: str) -> None:
    assert api.http.get(f"{path.replace('{file}', 'devices.js')}?{query}").status_code == READABLE[path].status


def test_other_calls_refuse_a_query_that_they_do_not_know(api: Api, backend: Backend) -> None:
    refused = backend.call("GET", "/v1/sessions?verbose")
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed_request")
