"""What comes over a socket before there is a request: framing, sizes, slow clients, guesses. No proxy in between."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app.api.failures import Failures
from app.errors import InvalidApiKey, TokenExpired, TooManyFailures
from app.protocol import HEAD_SECONDS, GuardedProtocol
from tests.service import Api, Backend

HOST = b"Host: sessions.example\r\n"
JSON = b"Content-Type: application/json\r\n"
GET = b"GET /livez HTTP/1.1\r\n"
POST = b"POST /v1/sessions/refresh HTTP/1.1\r\n"
TE, CL = b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n"
END = b"\r\n"
CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def api(valkey_url: str) -> Iterator[Api]:
    process = Api(valkey_url, HELLOJOHN_FAILURES_PER_MINUTE="50")
    yield process
    process.stop()


@pytest.fixture(scope="module")
def backend(api: Api) -> Backend:
    return api.tenant()


class Line:
    """One raw connection."""

    def __init__(self, api: Api) -> None:
        self.socket = socket.create_connection(("127.0.0.1", api.port), timeout=15)
        self.opened = time.monotonic()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def drip(self, data: bytes, pause: float) -> None:
        """Until all is sent or the other side has had enough."""
        try:
            for byte in data:
                self.socket.sendall(bytes([byte]))
                time.sleep(pause)
        except OSError:
            pass

    def rest(self) -> bytes:
        """Everything until the other side closes."""
        found = b""
        try:
            while data := self.socket.recv(65_536):
                found += data
        except ConnectionResetError:
            pass
        return found

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Exactly one answer."""
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.socket.recv(1)
            assert data, "closed without an answer"
            head += data
        status, *lines = head.decode().split("\r\n")[:-2]
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = b""
        while len(body) < int(fields.get("content-length", 0)):
            body += self.socket.recv(65_536)
        return int(status.split(" ")[1]), fields, body


def ask(api: Api, data: bytes) -> tuple[int, dict[str, str], bytes]:
    with Line(api) as line:
        line.send(data)
        return line.answer()


def assert_refused(answer: tuple[int, dict[str, str], bytes], status: int, code: str) -> None:
    found, fields, body = answer
    assert (found, fields["content-type"]) == (status, "application/problem+json")
    assert (json.loads(body)["code"], json.loads(body)["request_id"]) == (code, fields["x-request-id"])
    assert fields["cache-control"] == "no-store" and fields["x-content-type-options"] == "nosniff"
    assert "server" not in fields


MALFORMED = {
    "no host": GET + END,
    "two hosts": GET + HOST + HOST + END,
    "two different hosts": GET + HOST + b"Host: other.example\r\n" + END,
    "a host with a space": GET + b"Host: a b\r\n" + END,
    "a host with a path": GET + b"Host: a/b\r\n" + END,
    "a length and chunks": POST + HOST + JSON + CL + TE + END + CHUNKS,
    "chunks and a length": POST + HOST + JSON + TE + CL + END + CHUNKS,
    "two lengths": POST + HOST + JSON + CL + b"Content-Length: 6\r\n" + END + b"{}   ",
    "the same length twice": POST + HOST + JSON + CL + CL + END + b"{}   ",
    "a list of lengths": POST + HOST + JSON + b"Content-Length: 2, 2\r\n" + END + b"{}",
    "a signed length": POST + HOST + JSON + b"Content-Length: +2\r\n" + END + b"{}",
    "a negative length": POST + HOST + JSON + b"Content-Length: -2\r\n" + END + b"{}",
    "no length": POST + HOST + JSON + b"Content-Length:\r\n" + END + b"{}",
    "another coding before chunked": POST + HOST + JSON + b"Transfer-Encoding: gzip, chunked\r\n" + END + CHUNKS,
    "another coding after chunked": POST + HOST + JSON + b"Transfer-Encoding: chunked, gzip\r\n" + END + CHUNKS,
    "an unknown coding": POST + HOST + JSON + b"Transfer-Encoding: xchunked\r\n" + END + CHUNKS,
    "two codings": POST + HOST + JSON + TE + b"Transfer-Encoding: identity\r\n" + END + CHUNKS,
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + HOST + JSON + TE + END + CHUNKS,
    "a chunk size that is no number": POST + HOST + JSON + TE + END + b"0x2\r\n{}\r\n0\r\n\r\n",
    "bare line feeds": b"GET /livez HTTP/1.1\nHost: a\n\n",
    "a folded header": GET + HOST + b"X: a\r\n b\r\n" + END,
    "a space before the colon": GET + HOST + b"X : a\r\n" + END,
    "a NUL in a header": GET + HOST + b"X: a\0b\r\n" + END,
    "a NUL in the target": b"GET /live\0z HTTP/1.1\r\n" + HOST + END,
    "an escaped NUL in the path": b"GET /v1/sessions/%00 HTTP/1.1\r\n" + HOST + END,
    "an escaped line break in the path": b"GET /v1/users/a%0d%0ab/claims HTTP/1.1\r\n" + HOST + END,
    "bytes that are no ASCII in the target": b"GET /v1/\xff HTTP/1.1\r\n" + HOST + END,
    "a fragment": b"GET /livez#x HTTP/1.1\r\n" + HOST + END,
    "an unknown method": b"FETCH /livez HTTP/1.1\r\n" + HOST + END,
    "a tunnel": b"CONNECT a:443 HTTP/1.1\r\n" + HOST + END,
    "another version": b"GET /livez HTTP/9.9\r\n" + HOST + END,
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "two keys": GET.replace(b"livez", b"v1/sessions") + HOST + b"Authorization: Bearer a\r\n" * 2 + END,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_two_readers_could_take_differently_is_400(api: Api, data: bytes) -> None:
    assert_refused(ask(api, data), 400, "malformed_request")


def test_what_is_unusual_but_right_is_served(api: Api) -> None:
    for data in (
        GET + HOST + END,
        b"GET /livez HTTP/1.0\r\n\r\n",
        b"\r\n\r\n" + GET + HOST + END,
        GET + b"hOsT: [::1]:8000\r\n" + END,
        b"GET http://elsewhere.example/livez HTTP/1.1\r\n" + HOST + END,
        GET + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + END,
    ):
        assert ask(api, data)[0] == 200


def test_a_body_with_a_content_coding_is_415(api: Api) -> None:
    coded = POST + HOST + JSON + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n" + END + b"{}"
    assert_refused(ask(api, coded), 415, "unsupported_media_type")
    plain = POST + HOST + JSON + b"Content-Encoding: identity\r\nContent-Length: 2\r\n" + END + b"{}"
    assert_refused(ask(api, plain), 422, "validation_error")


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE", b"PUT", b"PROPFIND"])
def test_other_methods_are_405_with_those_that_are_right(api: Api, method: bytes) -> None:
    answer = ask(api, method + b" /v1/sessions HTTP/1.1\r\n" + HOST + b"Origin: https://evil.example\r\n" + END)
    assert_refused(answer, 405, "method_not_allowed")
    assert answer[1]["allow"] == "GET, HEAD, POST"
    assert not [name for name in answer[1] if name.startswith("access-control")]


def test_head_has_the_headers_of_get_and_no_body(api: Api) -> None:
    with Line(api) as line:
        line.send(b"HEAD /livez HTTP/1.1\r\n" + HOST + b"Connection: close\r\n" + END)
        head, _, body = line.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and b"content-length: 15" in head
    assert body == b""


def test_headers_and_targets_beyond_the_limits_are_refused_while_they_arrive(api: Api) -> None:
    assert_refused(ask(api, GET + HOST + b"X: y\r\n" * 100 + END), 431, "headers_too_large")
    assert_refused(ask(api, GET + HOST + b"X: " + b"y" * 16_384 + END + END), 431, "headers_too_large")
    assert_refused(ask(api, b"GET /livez?" + b"x" * 5_000 + b" HTTP/1.1\r\n" + HOST + END), 414, "uri_too_long")
    assert_refused(ask(api, b"GET /livez?" + b"x" * 5_000), 414, "uri_too_long")
    assert_refused(
        ask(api, GET + HOST + b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 101),
        431,
        "headers_too_large",
    )


@pytest.mark.parametrize(
    "endless",
    [
        GET + b"X: ",
        GET + b"X",
        b"GET /",
        POST + HOST + JSON + TE + END + b"2;",
        POST + HOST + JSON + TE + END + b"2\r\n{}\r\n0\r\nX: ",
        POST.replace(b"refresh", b"verify") + HOST + JSON + b"Content-Length: 999999999\r\n" + END,
    ],
)
def test_nothing_endless_is_kept(api: Api, endless: bytes) -> None:
    sent = 0
    with Line(api) as line:
        line.send(endless)
        try:
            while sent < 128 << 20:
                line.send(b"a" * 65_536)
                sent += 65_536
        except OSError:
            pass
    assert sent < 32 << 20, "the socket's buffers and a megabyte, no more"


def test_a_trailer_is_no_header(api: Api, backend: Backend) -> None:
    """A proxy that looks at headers must not be passed by what comes after the body."""
    trailer = b"0\r\nAuthorization: Bearer " + backend.key.encode() + b"\r\n\r\n"
    answer = ask(api, b"GET /v1/sessions HTTP/1.1\r\n" + HOST + TE + END + trailer)
    assert_refused(answer, 401, "missing_token")


def test_an_answer_never_comes_before_that_of_an_earlier_request(api: Api) -> None:
    with Line(api) as line:
        line.send(GET + HOST + END + b"rubbish\r\n\r\n")
        answers = line.rest()
    assert answers.count(b"HTTP/1.1") <= 1
    assert answers[:12] in (b"", b"HTTP/1.1 200")


@pytest.mark.slow
def test_slow_clients_are_let_go_and_others_notice_nothing(api: Api) -> None:
    """A head byte by byte, a body byte by byte, line breaks: each ends by its deadline. Who has sent nothing yet is
    served when a request comes after all."""
    body = POST + HOST + JSON + b"Content-Length: 60000\r\n" + END
    early = b"GET /v1/sessions HTTP/1.1\r\n" + HOST + b"Content-Length: 60000\r\n" + END
    stories = {"head": (b"", GET, 408), "field": (GET + HOST, b"X: " + b"a" * 99, 408), "breaks": (b"", END * 99, None)}
    stories |= {"body": (body, b" " * 99, 408), "ignored body": (early, b" " * 99, 401)}

    def tell(name: str) -> tuple[str, float, bytes]:
        first, rest, _ = stories[name]
        with Line(api) as line:
            line.send(first)
            line.drip(rest, 0.2)
            return name, time.monotonic() - line.opened, line.rest()

    with ThreadPoolExecutor(len(stories)) as pool, Line(api) as silent:
        telling = [pool.submit(tell, name) for name in stories]
        quick = []
        while not all(story.done() for story in telling):
            began = time.monotonic()
            assert api.http.get("/livez").status_code == 200
            quick.append(time.monotonic() - began)
            time.sleep(0.05)
        assert time.monotonic() - silent.opened > HEAD_SECONDS + 1
        silent.send(GET + HOST + END)
        assert silent.answer()[0] == 200
    assert max(quick) < 1.0
    for name, seconds, answer in (story.result() for story in telling):
        status = stories[name][2]
        assert answer.startswith(b"HTTP/1.1 %d" % status if status else b""), name
        assert bool(answer) == bool(status), name
        assert seconds < (20 if name == "body" else HEAD_SECONDS + 12), name


async def test_a_connection_that_stays_silent_is_closed_after_the_keep_alive_time() -> None:
    config = uvicorn.Config(application, http=GuardedProtocol, timeout_keep_alive=1, lifespan="off")
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: GuardedProtocol(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    began = loop.time()
    assert await reader.read() == b""
    assert 0.9 < loop.time() - began < 5
    writer.close()
    server.close()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Never called: nothing is asked of it."""
    raise AssertionError(scope)


def test_guesses_are_limited_and_never_lock_the_holder_out(api: Api, backend: Backend) -> None:
    wrong = backend.key[:26] + "0" * 40 + backend.key[66:]
    with ThreadPoolExecutor(8) as pool:
        guess = {"Authorization": f"Bearer {wrong}"}
        answers = list(pool.map(lambda _: api.http.get("/v1/sessions", headers=guess), range(1_000)))
    assert {answer.status_code for answer in answers} == {401, 429}
    refused = answers[-1]
    assert refused.json()["code"] == "too_many_failures"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert backend.call("GET", "/v1/sessions").status_code == 200
    assert api.http.get("/v1/sessions").status_code == 401, "who sends nothing guesses nothing"


def test_a_limit_is_per_source_and_per_key_and_heals() -> None:
    failures, now = Failures(60), 1_000_000
    key = {b"authorization": b"Bearer sk_live_ABCDEFGHJKMNPQRS_x"}

    def guess(client: str, headers: dict[bytes, bytes], at: int = now) -> bool:
        return isinstance(
            failures.judge(InvalidApiKey(), {"type": "http", "client": (client, 1)}, headers, at), TooManyFailures
        )

    assert [guess("192.0.2.1", {}) for _ in range(61)] == [False] * 60 + [True]
    assert not guess("192.0.2.2", {})
    assert [guess(f"198.51.100.{i}", key) for i in range(13)] == [False] * 12 + [True]
    assert not guess("192.0.2.1", {}, now + 1_000) and guess("192.0.2.1", {}, now + 1_000)
    assert not guess("192.0.2.1", {}, now + 60_000)
    assert isinstance(failures.judge(TokenExpired(), {"type": "http"}, {}, now), TokenExpired)


def test_memory_for_guesses_is_bounded() -> None:
    failures = Failures(60)
    for number in range(20_000):
        client = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1)
        failures.judge(InvalidApiKey(), {"type": "http", "client": client}, {}, 1_000_000)
    assert len(failures._free_at) <= 10_000
