"""One suite over both clients: the same requests to a Python and a Node server that protect themselves get the same
status, headers and problem document."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from app.client.blocking import BlockingVerifier
from app.client.options import Options, Settings
from app.client.verifier import Verifier
from app.embedded import dies_with_parent
from tests.client.probe import ISSUER, NODE, install, node
from tests.service import ROOT, Api, Backend

LANGUAGES = ("python", "node")
HEADERS = ("content-type", "cache-control", "www-authenticate", "retry-after", "content-length")
JS_NAMES = {"jwks_max_age": "keys.cacheMaxAge", "jwks_cooldown": "keys.cooldownDuration"}
JS_NAMES |= {"jwks_timeout": "keys.timeoutDuration"}
PYTHON_ONLY, JS_ONLY = {"redis_url"}, {"fetch"}


class App:
    """A protected server in one of the languages, and an HTTP client for it."""

    def __init__(self, language: str, folder: Path, options: dict[str, Any], clock: float, **access: Any) -> None:
        self.log = folder / f"{language}.log"
        named = {_camel(name): value for name, value in options.items()} if language == "node" else options
        given = json.dumps({"verifier": named, "access": access, "clock": clock})
        words: list[str | Path] = [NODE, folder / "tests/client/js/server.mjs", given]
        if language == "python":
            words = [sys.executable, "-m", "tests.client.server", given]
        with self.log.open("w") as log:
            self.child = subprocess.Popen(
                words,
                cwd=ROOT if language == "python" else folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=dies_with_parent(signal.SIGKILL),
            )

    def wait(self) -> None:
        """Until it serves."""
        assert self.child.stdout is not None
        port = self.child.stdout.readline().strip()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)

    def ask(self, token: str | None = None, path: str = "/", method: str = "GET", headers: Any = ()) -> tuple[Any, ...]:
        sent = [*headers, *([] if token is None else [("Authorization", f"Bearer {token}")])]
        answer = self.http.request(method, path, headers=sent)
        said = json.loads(answer.text) if answer.text else None
        if answer.is_success:
            return answer.status_code, said
        return answer.status_code, {name: answer.headers.get(name) for name in HEADERS}, said

    def code(self, token: str) -> str:
        status, *_, said = self.ask(token)
        return "good" if status == 200 else str(said["code"])

    def stop(self) -> None:
        self.http.close()
        self.child.kill()
        self.child.communicate()


class Pair:
    """The same server in both languages."""

    def __init__(self, folder: Path, options: dict[str, Any], clock: float = 0, **access: Any) -> None:
        self.apps = [App(language, folder, options, clock, **access) for language in LANGUAGES]
        for app in self.apps:
            app.wait()

    def ask(self, *words: Any, **more: Any) -> tuple[Any, ...]:
        """What both answer, which is the same."""
        python, of_node = (app.ask(*words, **more) for app in self.apps)
        assert python == of_node
        return python

    def code(self, *words: Any, **more: Any) -> tuple[int, str | None]:
        status, *_, said = self.ask(*words, **more)
        return status, said["user"] if status == 200 else said["code"]

    def until(self, token: str, wanted: str, seconds: float = 15) -> None:
        for app in self.apps:
            end = time.monotonic() + seconds
            while (last := app.code(token)) != wanted:
                assert time.monotonic() < end, f"waited for {wanted}, it is {last}"
                time.sleep(0.05)

    def stop(self) -> None:
        for app in self.apps:
            app.stop()


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda form: form[1].upper(), name)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("both"))


@pytest.fixture(scope="module")
def api(valkey_url: str) -> Iterator[Api]:
    process = Api(valkey_url)
    yield process
    process.stop()


@pytest.fixture(scope="module")
def backend(api: Api) -> Backend:
    return api.tenant()


def options(backend: Backend, **more: Any) -> dict[str, Any]:
    given = {"url": backend.api.url, "tenant_id": backend.tenant_id, "api_key": backend.key, "issuer": ISSUER}
    return {**given, **more}


Start = Callable[..., Pair]


@pytest.fixture(scope="module")
def start_shared(folder: Path) -> Iterator[Start]:
    pairs: dict[str, Pair] = {}

    def begin(given: dict[str, Any], **access: Any) -> Pair:
        name = json.dumps([given, access])
        if name not in pairs:
            pairs[name] = Pair(folder, given, **access)
        return pairs[name]

    yield begin
    for pair in pairs.values():
        pair.stop()


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    pairs: list[Pair] = []

    def begin(given: dict[str, Any], **access: Any) -> Pair:
        pairs.append(Pair(folder, given, **access))
        return pairs[-1]

    yield begin
    for pair in pairs:
        pair.stop()


# roles and other rules of access


def test_a_role_is_required_in_both(backend: Backend, start_shared: Start) -> None:
    pair = start_shared(options(backend), role="admin")
    member, admin, nobody = (backend.create(role=role)["access_token"] for role in ("member", "admin", None))
    assert pair.code(admin) == (200, "usr_1")
    for token in (member, nobody):
        status, headers, said = pair.ask(token)
        assert (status, said["code"]) == (403, "insufficient_role")
        assert headers["www-authenticate"] == 'Bearer realm="sessions", error="insufficient_scope"'
    assert pair.code() == (401, "missing_token")


def test_a_session_is_optional_in_both_and_a_bad_token_is_still_refused(backend: Backend, start_shared: Start) -> None:
    pair = start_shared(options(backend), required=False, public=["/health"])
    assert pair.code() == (200, None)
    assert pair.code(backend.create()["access_token"]) == (200, "usr_1")
    assert pair.code("x") == (401, "invalid_token")
    assert pair.code(headers=[("Authorization", "Basic eDp5")]) == (401, "missing_token")


def test_public_paths_are_the_same_in_both(backend: Backend, start_shared: Start) -> None:
    pair = start_shared(options(backend), public=["/health"])
    for path in ("/health", "/health?verbose", "/%68ealth"):
        assert pair.code(path=path) == (200, None)
    for path in ("/", "/health/", "/health2", "//health", "/HEALTH"):
        assert pair.code(path=path) == (401, "missing_token")


def test_every_refusal_is_the_same_in_both(backend: Backend, start_shared: Start) -> None:
    pair = start_shared(options(backend), public=["/health"])
    good, gone = backend.create()["access_token"], backend.create()
    foreign = backend.api.tenant().create()["access_token"]
    assert backend.call("DELETE", f"/v1/sessions/{gone['session']['id']}").status_code == 204
    pair.until(gone["access_token"], "session_revoked")
    assert pair.code(good) == (200, "usr_1")
    assert pair.ask(gone["access_token"])[2]["code"] == "session_revoked"
    for token in ("x", foreign, "a.b.c", good[:-1], good + "="):
        assert pair.code(token) == (401, "invalid_token")
    for sent in ("Bearer", "Bearer a b", f"Bearer {good}, Bearer {good}", f"Bearer\t{good}"):
        assert pair.code(headers=[("Authorization", sent)]) == (401, "invalid_token")
    for sent in ("Basic eDp5", "Beare", ""):
        assert pair.code(headers=[("Authorization", sent)]) == (401, "missing_token")
    assert pair.code(headers=[("Authorization", f"bEARER  {good}")]) == (200, "usr_1")
    assert pair.ask(good, method="HEAD")[0] == 200


def test_two_authorization_headers_are_refused_in_both(backend: Backend, start_shared: Start) -> None:
    pair = start_shared(options(backend), public=["/health"])
    mine, other = backend.create()["access_token"], backend.create("usr_2")["access_token"]
    for second in (other, mine, "x"):
        sent = [("Authorization", f"Bearer {mine}"), ("authorization", f"Bearer {second}")]
        assert pair.code(headers=sent) == (401, "invalid_token")


def test_a_preflight_passes_in_both_and_nothing_that_only_resembles_one(backend: Backend, start_shared: Start) -> None:
    pair = start_shared(options(backend), public=["/health"])
    origin, wanted = ("Origin", "https://app.example"), ("Access-Control-Request-Method", "GET")
    assert pair.code(method="OPTIONS", headers=[origin, wanted]) == (200, None)
    for method, headers in (("OPTIONS", [origin]), ("OPTIONS", [wanted]), ("GET", [origin, wanted])):
        assert pair.code(method=method, headers=headers) == (401, "missing_token")


# options


def test_each_option_of_one_client_is_one_of_the_other(folder: Path) -> None:
    text = (ROOT / "app/client/js/index.d.ts").read_text()
    interfaces = dict(re.findall(r"interface (\w+Options) \{(.*?)\n\}", text, re.DOTALL))
    found = {name: set(re.findall(r"readonly (\w+)\??:", body)) for name, body in interfaces.items()}
    keys = {f"keys.{name}" for name in found["KeyOptions"]}
    python = {JS_NAMES.get(name, _camel(name)) for name in Options.__annotations__.keys() - PYTHON_ONLY}
    assert python == (found["VerifierOptions"] - JS_ONLY - {"keys"}) | keys
    assert Settings.__annotations__.keys() == Options.__annotations__.keys()
    from app.client.asgi import SessionMiddleware

    assert found["AccessOptions"] == signature(SessionMiddleware).parameters.keys() - {"app", "verifier"}


GOOD: dict[str, Any] = {"url": "http://127.0.0.1:9", "tenant_id": "tnt_1", "api_key": "sk_test_x"}
WRONG: list[tuple[str, Any]] = [
    ("unknown", 1), ("max_stale", 5), ("on_stale", "deny"), ("on_stale", 1), ("on_stale", ""),
    ("url", ""), ("url", " "), ("url", 5), ("url", "sessions.example"), ("url", "ftp://x"), ("url", "http://a b"),
    ("url", "http://user:secret@x"), ("url", "http://x/?a=1"), ("url", "http://x:secret"), ("url", "http://x\ny"),
    ("tenant_id", ""), ("tenant_id", "\n"), ("tenant_id", 7), ("tenant_id", "tnt 1"), ("tenant_id", None),
    ("api_key", ""), ("api_key", " \n"), ("api_key", 7), ("api_key", "sk\nx"), ("api_key", "sk_é"),
    ("issuer", 5), ("issuer", "a b"), ("max_staleness", 0), ("max_staleness", "10"), ("max_staleness", -1),
    ("max_staleness", True), ("max_staleness", None), ("report_every", -1), ("report_every", "5"),
    ("max_tokens", 1.5), ("max_tokens", -1), ("max_revocations", "1"), ("max_updates", None), ("max_updates", 0.5),
    ("start_timeout", -1), ("start_timeout", "x"),
]  # fmt: skip


@pytest.mark.parametrize("verifier", [Verifier, BlockingVerifier])
@pytest.mark.parametrize(("name", "value"), [*WRONG, ("jwks_max_age", 0), ("jwks_cooldown", "x"), ("redis_url", "x")])
def test_a_wrong_option_is_refused_by_its_name_in_python(verifier: Any, name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=name) as refused:
        verifier(**{**GOOD, name: value})
    assert "secret" not in str(refused.value)


def test_a_wrong_option_is_refused_by_its_name_in_node(folder: Path) -> None:
    good = {_camel(name): value for name, value in GOOD.items()}
    tried = [[_camel(name), {**good, _camel(name): value}] for name, value in WRONG]
    tried += [
        ["cacheMaxage", {**good, "keys": {"cacheMaxage": 1}}],
        ["cacheMaxAge", {**good, "keys": {"cacheMaxAge": "1"}}],
    ]
    tried += [["fetch", {**good, "fetch": 5}], ["keys", {**good, "keys": 5}]]
    script = """
    import { createVerifier } from "session-client";
    for (const [name, options] of JSON.parse(process.argv[1])) {
      try { createVerifier(options); console.log("taken:", name, JSON.stringify(options[name])); }
      catch (problem) {
        const told = String(problem) + JSON.stringify(problem);
        if (!(problem instanceof TypeError) || !told.includes(name) || told.includes("secret")) console.log(name, told);
      }
    }
    for (const nothing of [undefined, null, "x", 5, [], new Map()]) {
      try { createVerifier(nothing); console.log("taken", nothing); }
      catch (problem) { if (!(problem instanceof TypeError)) console.log(problem); }
    }"""
    assert node("--input-type=module", "-e", script, json.dumps(tried), cwd=folder) == ""


def test_a_wrong_rule_of_access_never_lets_anyone_in_node(folder: Path) -> None:
    script = """
    import { createVerifier, requireSession, withSession } from "session-client";
    const verifier = createVerifier({ url: "http://127.0.0.1:9", tenantId: "t", apiKey: "k" });
    class Rules { role = "admin"; }
    const wrong = {
      role: [{ role: undefined }, { role: null }, { role: "" }, { role: " " }, { role: ["admin"] }, { role: 1 }],
      roles: [{ roles: ["admin"] }], Role: [{ Role: "admin" }],
      required: [{ required: undefined }, { required: 0 }, { required: "false" }, { required: null }],
      public: [{ public: "/health" }, { public: [1] }, { public: ["health"] }, { public: undefined }],
      options: [undefined, null, "admin", 5, ["admin"], new Map([["role", "admin"]]), new Rules(),
        Object.create({ role: "admin" }), () => {}],
    };
    for (const [name, all] of Object.entries(wrong)) for (const one of all) {
      const makes = [() => requireSession(verifier, one), () => withSession(verifier, () => new Response(), one)];
      for (const make of makes) {
        try { make(); console.log("taken:", name, one); }
        catch (problem) {
          if (!(problem instanceof TypeError && problem.message.includes(name))) console.log(name, problem);
        }
      }
    }
    const others = [
      () => requireSession(), () => requireSession({}), () => withSession(verifier), () => withSession(verifier, 5),
      () => requireSession(verifier, {}, { role: "admin" })];
    for (const make of others) {
      try { make(); console.log("taken:", String(make)); }
      catch (problem) { if (!(problem instanceof TypeError)) console.log(problem); }
    }"""
    assert node("--input-type=module", "-e", script, cwd=folder) == ""


RULES: list[tuple[str, Any]] = [
    ("role", ""), ("role", " "), ("role", 1), ("role", ["admin"]), ("roles", ["admin"]), ("required", 0),
    ("required", "false"), ("required", None), ("public", "/health"), ("public", [1]), ("public", ["health"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), RULES)
def test_a_wrong_rule_of_access_never_lets_anyone_in_python(name: str, value: Any) -> None:
    from app.client.asgi import SessionMiddleware
    from app.client.depends import require_session

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    made: list[Any] = [lambda verifier: SessionMiddleware(app, verifier, **{name: value})]
    if name != "public":
        made.append(lambda verifier: require_session(verifier, **{name: value}))
    for make in made:
        with pytest.raises((TypeError, ValueError), match=name):
            make(Verifier(**GOOD))
    for verifier in (None, object(), BlockingVerifier(**GOOD)):
        with pytest.raises(TypeError, match="verifier"):
            SessionMiddleware(app, verifier)  # type: ignore[arg-type]


def test_blanks_at_the_ends_of_options_are_no_part_of_them(backend: Backend, start: Start) -> None:
    given = {name: f" {value}\n" for name, value in options(backend).items()}
    assert start(given).code(backend.create()["access_token"]) == (200, "usr_1")


# clocks


@pytest.mark.parametrize(("ahead", "verdict"), [(-59, "good"), (59, "good"), (-63, "invalid_token")])
def test_a_clock_may_be_a_minute_behind_the_service(backend: Backend, start: Start, ahead: int, verdict: str) -> None:
    pair = start(options(backend), clock=ahead)
    pair.until(backend.create()["access_token"], verdict, 0.5)


def test_a_clock_that_is_ahead_ends_tokens_so_much_earlier(backend: Backend, start: Start) -> None:
    created = backend.create()
    lifetime = created["expires_in"]
    assert start(options(backend), clock=lifetime - 30).code(created["access_token"]) == (200, "usr_1")
    assert start(options(backend), clock=lifetime + 1).code(created["access_token"]) == (401, "token_expired")


# a service that hangs, and what is not the service


def test_a_service_that_hangs_costs_one_wait_and_one_line_of_log(
    valkey_url: str, start: Start, pytestconfig: pytest.Config
) -> None:
    api = Api(valkey_url)
    try:
        backend = api.tenant()
        token = backend.create()["access_token"]
        pair = start(options(backend, max_staleness=2.5))
        pair.until(token, "good")
        api.child.send_signal(signal.SIGSTOP)
        pair.until(token, "service_unavailable", 30)
        began, waits = time.monotonic(), []
        while time.monotonic() < began + 8:
            for app in pair.apps:
                asked = time.monotonic()
                assert app.code(token) == "service_unavailable"
                waits.append(time.monotonic() - asked)
        assert max(waits) < 1 and len(waits) > 100
        for app in pair.apps:
            lines = [line for line in app.log.read_text().splitlines() if "session service" in line]
            assert len(lines) == 1 and "is not available" in lines[0], lines
        api.child.send_signal(signal.SIGCONT)
        pair.until(token, "good", 30)
        for app in pair.apps:
            lines = [line for line in app.log.read_text().splitlines() if "session service" in line]
            assert len(lines) == 2 and "available again" in lines[1], lines
    finally:
        api.child.send_signal(signal.SIGCONT)
        api.stop()


class Impostor:
    """Answers every call with the next of some bodies, or passes it on to the service."""

    def __init__(self, service: str) -> None:
        self.bodies: dict[str, tuple[str, bytes]] = {}
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._serve()

            def do_POST(self) -> None:
                self._serve()

            def _serve(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                kind, body = outer.bodies.get(self.path.partition("?")[0], ("", b""))
                status = outer.status
                if not kind:
                    headers = {
                        name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers
                    }
                    with httpx.Client(base_url=service, trust_env=False) as http:
                        answer = http.request(self.command, self.path, content=sent, headers=headers)
                    status, kind, body = answer.status_code, answer.headers["content-type"], answer.content
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


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
