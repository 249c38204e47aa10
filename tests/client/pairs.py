"""The same protected server in Python and in Node, for tests that ask both the same."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx

from app.embedded import dies_with_parent
from tests.client.probe import ISSUER, NODE
from tests.service import ROOT, Backend

LANGUAGES = ("python", "node")
HEADERS = ("content-type", "cache-control", "www-authenticate", "retry-after", "content-length")


class App:
    """A protected server in one of the languages, and an HTTP client for it."""

    def __init__(self, language: str, folder: Path, options: dict[str, Any], clock: float, **access: Any) -> None:
        self.log = folder / f"{language}.log"
        named = {camel(name): value for name, value in options.items()} if language == "node" else options
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

    def outages(self) -> list[str]:
        """What its log says of the service."""
        return [line for line in self.log.read_text().splitlines() if "session service" in line]

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


def camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda form: form[1].upper(), name)


def options(backend: Backend, **more: Any) -> dict[str, Any]:
    given = {"url": backend.api.url, "tenant_id": backend.tenant_id, "api_key": backend.key, "issuer": ISSUER}
    return {**given, **more}


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


Start = Callable[..., Pair]
