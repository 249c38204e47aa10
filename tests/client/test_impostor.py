"""Responses that are not of the service, as a proxy may send them: both clients answer 503 and go on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.client.pairs import Impostor, Start, options
from tests.service import Api, Backend


@pytest.fixture(scope="module")
def api(valkey_url: str) -> Iterator[Api]:
    process = Api(valkey_url)
    yield process
    process.stop()


@pytest.fixture(scope="module")
def backend(api: Api) -> Backend:
    return api.tenant()


@pytest.fixture
def impostor(api: Api) -> Iterator[Impostor]:
    one = Impostor(api.url)
    one.bodies["/v1/events"] = ("text/html", b"<html>")
    yield one
    one.stop()


STRANGE = [
    b"null", b"{}", b"[]", b"5", b'"x"', b"", b"<html>", b"\xff", b'{"valid":true}', b'{"valid":false}', b'{"valid":1}',
    b'{"valid":"true"}', b'{"valid":true,"payload":{},"session":{}}', b'{"valid":true,"payload":null,"session":null}',
    b'{"valid":false,"error":null}', b'{"valid":false,"error":{}}', b'{"valid":false,"error":{"code":5}}',
    b'{"valid":true,"payload":{"sub":"usr_9"},"session":{"id":"ses_0"}}', b"[" * 100_000,
]  # fmt: skip


def test_a_verdict_that_is_not_ours_means_unavailable(backend: Backend, start: Start, impostor: Impostor) -> None:
    pair = start(options(backend, url=impostor.url, max_staleness=1, start_timeout=0.5))
    token, other = backend.create()["access_token"], backend.create("usr_2")["access_token"]
    assert pair.code(token) == (200, "usr_1")
    theirs = json.dumps(backend.verify(other)).encode()
    for body in [*STRANGE, theirs]:
        impostor.bodies["/v1/sessions/verify"] = ("application/json", body)
        assert pair.code(token) == (503, "service_unavailable"), body[:60]
    for impostor.status in (201, 302, 401, 403, 404, 500, 502):
        assert pair.code(token) == (503, "service_unavailable"), impostor.status
    del impostor.bodies["/v1/sessions/verify"]
    assert pair.code(token) == (200, "usr_1")


@pytest.mark.parametrize(
    "body", [b"null", b"{}", b"[]", b'{"keys":null}', b'{"keys":{}}', b'{"keys":[1]}', b"<html>", b"\xff"]
)
def test_a_key_set_that_is_not_ours_means_unavailable(
    backend: Backend, start: Start, impostor: Impostor, body: bytes
) -> None:
    impostor.bodies["/.well-known/jwks.json"] = ("application/json", body)
    pair = start(options(backend, url=impostor.url, start_timeout=0.5))
    assert pair.code(backend.create()["access_token"]) == (503, "service_unavailable")


@pytest.mark.parametrize(
    "data",
    [
        b"null",
        b"{}",
        b"[]",
        b'{"cursor":5}',
        b'{"cursor":""}',
        b'{"cursor":"c","lag_ms":-1000000}',
        b'{"cursor":"c","kids":5}',
    ],
)
def test_a_heartbeat_that_is_not_ours_makes_nothing_fresh(
    backend: Backend, start: Start, impostor: Impostor, data: bytes
) -> None:
    impostor.bodies["/v1/events"] = ("text/event-stream", b"event: heartbeat\nid: c\ndata: " + data + b"\n\n")
    pair = start(options(backend, url=impostor.url, on_stale="refuse", start_timeout=1))
    assert pair.code(backend.create()["access_token"]) == (503, "verifier_stale")
