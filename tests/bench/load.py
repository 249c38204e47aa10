"""Load from `wrk`, a compiled generator: one thread of its own core, real requests from a file, never one hot key."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from app.embedded import Embedded

SERVER_CORE, LOAD_CORE = 0, max(os.sched_getaffinity(0))
CONNECTIONS = 32
_SCRIPT = Path(__file__).parent / "requests.lua"


class Answered(msgspec.Struct, frozen=True):
    """What one run of wrk has seen. `refused`: status 400 and above; `broken`: no answer at all."""

    answers: int
    seconds: float
    sent: int
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        return self.answers / self.seconds


def need_wrk() -> None:
    """End with a message where the generator or a second core is missing."""
    if shutil.which("wrk") is None:
        sys.exit("make bench needs wrk: apt install wrk (Debian, Ubuntu), brew install wrk (macOS)")
    if SERVER_CORE == LOAD_CORE:
        print("only one core here: server and load share it, so only the ratios of CPU time mean something")


def pin(pid: int, core: int) -> None:
    os.sched_setaffinity(pid, {core})


def pin_all(pid: int, core: int) -> None:
    """Every thread that the process has."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        pin(int(task.name), core)


def request(method: str, path: str, key: str = "", body: object = None, agent: str = "") -> bytes:
    """One HTTP/1.1 request, whole; `agent`: with that as its user agent."""
    lines = [f"{method} {path} HTTP/1.1", "Host: sessions.example"]
    if agent:
        lines.append(f"User-Agent: {agent}")
    if key:
        lines.append(f"Authorization: Bearer {key}")
    content = b"" if body is None else msgspec.json.encode(body)
    if content:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


def stored(requests: Iterable[bytes], file: Path) -> Path:
    """The file that `requests.lua` reads."""
    file.write_bytes(b"\0".join(requests) + b"\0")
    return file


def fire(port: int, file: Path, seconds: int, once: bool = False) -> Answered:
    """Send what is in `file` for `seconds`, beginning anywhere; `once`: from its first request, and none twice."""
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(_SCRIPT), f"http://127.0.0.1:{port}/"]
    ran = subprocess.run(
        [*words, "--", str(file), "0" if once else f"{random.random():.3f}"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: pin(0, LOAD_CORE),
    )
    line = next(line for line in ran.stdout.splitlines() if line.startswith("RESULT "))
    answered = msgspec.json.decode(line.removeprefix("RESULT "), type=Answered)
    if answered.refused or answered.broken:
        raise RuntimeError(f"{file.name}: {answered.refused} refused, {answered.broken} broken\n{ran.stdout}")
    if once and answered.sent > file.read_bytes().count(b"\0"):
        raise RuntimeError(f"{file.name}: more was sent than there was; prepare more")
    return answered


def cpu_seconds(pid: int) -> float:
    """What the main thread of a process has used of a core so far; where the kernel does not count it exactly, what
    all its threads have, in hundredths of a second."""
    exact = Path(f"/proc/{pid}/schedstat")
    if exact.exists():
        return int(exact.read_text().split()[0]) / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def process_seconds(pid: int) -> float:
    """The same of all threads that the process has now: V8 compiles and collects garbage in threads of its own."""
    tasks = Path(f"/proc/{pid}/task")
    if not (tasks / str(pid) / "schedstat").exists():
        return cpu_seconds(pid)
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def redis_pid(server: Embedded) -> int:
    return int((server.folder / "server.pid").read_text().split()[0])
