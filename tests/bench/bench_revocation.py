"""`python -m tests.bench.bench_revocation [seconds]`: how long after a revocation's answer do local verifiers refuse?

1,000 revocations a second through one process of the API, 20 verifiers in a process of their own; first over HTTP
(server-sent events), then through Redis. A delay counts from the moment the caller has the answer of its revocation to
the moment a verifier knows, both by the machine's monotonic clock. At the end tokens are shown to every verifier.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from app.client.errors import SessionRevoked
from app.client.events import Event
from app.client.verifier import Verifier
from app.embedded import Embedded, dies_with_parent
from tests.bench.environment import describe, percentile, quick
from tests.bench.figures import keep
from tests.service import ROOT, Api, Backend

RATE = 1_000
VERIFIERS = 20
CONNECTIONS = 16


class Timed(Verifier):
    """Stamps each revocation once the verifier knows it."""

    def __init__(self, **settings: str | None) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.known: dict[str, float] = {}

    def take(self, event: Event) -> None:
        super().take(event)
        if event.session_id is not None:
            self.known.setdefault(event.session_id, time.monotonic())


async def watch(url: str, tenant_id: str, key: str, redis_url: str) -> None:
    """The verifiers' process: says `ready`, waits for the name of a file of tokens, answers with its times."""
    settings = {"url": url, "tenant_id": tenant_id, "api_key": key, "redis_url": redis_url or None}
    async with AsyncExitStack() as stack:
        verifiers = [
            await stack.enter_async_context(Timed(**settings, issuer="https://sessions.example"))
            for _ in range(VERIFIERS)
        ]
        print("ready", flush=True)
        tokens = await asyncio.to_thread(_told)
        refused = sum([await _refuses(verifier, token) for verifier in verifiers for token in tokens])
        print(json.dumps({"refused": refused, "known": [verifier.known for verifier in verifiers]}), flush=True)


def _told() -> list[str]:
    tokens: list[str] = json.loads(Path(sys.stdin.readline().strip()).read_text())
    return tokens


async def _refuses(verifier: Verifier, token: str) -> bool:
    try:
        await verifier.verify(token)
    except SessionRevoked:
        return True
    return False


class Caller:
    """One kept connection that asks and reads answers; a few lines of HTTP/1.1, so that the load costs little."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._head = port, f"Host: x\r\nAuthorization: Bearer {key}\r\n".encode()

    async def open(self) -> Caller:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of the answer."""
        sent = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body) if body else b""
        self._writer.write(f"{method} {path} HTTP/1.1\r\n".encode() + self._head + sent + b"\r\n" + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        assert head[9:10] == b"2", head
        return await self._reader.readexactly(int(length or 0))

    def close(self) -> None:
        self._writer.close()


async def _create(callers: Sequence[Caller], count: int) -> list[tuple[str, str]]:
    """Session id and access token of each."""
    made: list[tuple[str, str]] = []

    async def one(caller: Caller, place: int) -> None:
        for number in range(place, count, len(callers)):
            answer = json.loads(await caller.ask("POST", "/v1/sessions", b'{"user_id":"u%d"}' % number))
            made.append((answer["session"]["id"], answer["access_token"]))

    await asyncio.gather(*(one(caller, place) for place, caller in enumerate(callers)))
    return made


async def _revoke(callers: Sequence[Caller], sids: list[str]) -> dict[str, float]:
    """At a fixed rate, whatever the answers take; when each answer was there."""
    answered: dict[str, float] = {}
    begun = time.monotonic()

    async def one(caller: Caller, place: int) -> None:
        for number in range(place, len(sids), len(callers)):
            await asyncio.sleep(begun + number / RATE - time.monotonic())
            await caller.ask("DELETE", f"/v1/sessions/{sids[number]}")
            answered[sids[number]] = time.monotonic()

    await asyncio.gather(*(one(caller, place) for place, caller in enumerate(callers)))
    return answered


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(api: Api, backend: Backend, redis_url: str, seconds: int, folder: Path) -> None:
    words = [sys.executable, "-m", __spec__.name, "--watch", api.url, backend.tenant_id, backend.key, redis_url]
    watcher = subprocess.Popen(  # noqa: ASYNC220 - once, before anything is measured
        words,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=dies_with_parent(signal.SIGKILL),
    )
    assert watcher.stdin is not None and watcher.stdout is not None
    try:
        assert (await asyncio.to_thread(watcher.stdout.readline)).strip() == "ready"
        callers = [await Caller(api.port, backend.key).open() for _ in range(CONNECTIONS)]
        made = await _create(callers, RATE * seconds)
        await asyncio.sleep(1)
        begun, busy = time.monotonic(), [_cpu_seconds(pid) for pid in (api.child.pid, watcher.pid, os.getpid())]
        answered = await _revoke(callers, [sid for sid, _ in made])
        took = time.monotonic() - begun
        shares = [_cpu_seconds(p) - b for p, b in zip((api.child.pid, watcher.pid, os.getpid()), busy, strict=True)]
        for caller in callers:
            caller.close()
        tokens = folder / "tokens"
        tokens.write_text(json.dumps([token for _, token in made[:: max(1, len(made) // 500)]]))
        await asyncio.sleep(1)
        watcher.stdin.write(f"{tokens}\n")
        watcher.stdin.flush()
        told = json.loads(await asyncio.to_thread(watcher.stdout.readline))
    finally:
        watcher.kill()
        watcher.wait()
        watcher.stdin.close()
        watcher.stdout.close()
    delays = [max(0.0, known[sid] - at) for known in told["known"] for sid, at in answered.items()]
    assert len(delays) == VERIFIERS * len(made)
    assert told["refused"] == VERIFIERS * len(json.loads(tokens.read_text()))
    keep(**{f"{'redis' if redis_url else 'sse'}_p99_ms": percentile(delays, 0.99) * 1e3})
    before = sum(delay == 0.0 for delay in delays) / len(delays)
    print(
        f"{'Redis' if redis_url else 'SSE'}: {len(made) / took:.0f} revocations/s, {VERIFIERS} verifiers, "
        f"{len(delays)} deliveries, {before:.0%} before the answer; delay p50 {percentile(delays, 0.5) * 1e3:.1f} ms, "
        f"p99 {percentile(delays, 0.99) * 1e3:.1f} ms, most {max(delays) * 1e3:.1f} ms; every token refused by all. "
        f"Busy: API {shares[0] / took:.0%}, verifiers {shares[1] / took:.0%}, caller {shares[2] / took:.0%} of a core"
    )


async def run(seconds: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder) / "valkey") as server:
        api = await asyncio.to_thread(Api, server.url)
        try:
            for redis_url in ("", server.url):
                backend = await asyncio.to_thread(api.tenant)
                await measure(api, backend, redis_url, seconds, Path(folder))
        finally:
            api.stop(signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        asyncio.run(watch(*sys.argv[2:6]))
    else:
        print(describe())
        asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else 2 if quick() else 10))
