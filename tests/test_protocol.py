"""What a process does when its files run out."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from resource import RLIMIT_NOFILE, prlimit

import httpx

from app.embedded import Embedded
from tests.servers import wait_until
from tests.service import Api


def test_idle_connections_are_closed_before_the_files_run_out(own_server: Embedded, tmp_path: Path) -> None:
    log = tmp_path / "log"
    api = Api(own_server.url, LOG_FILE=str(log))
    backend = api.tenant()
    prlimit(api.child.pid, RLIMIT_NOFILE, (128, 128))
    try:
        with ExitStack() as stack:
            headers = {"Authorization": f"Bearer {backend.key}", "Accept": "text/event-stream"}
            stream = stack.enter_context(api.http.stream("GET", "/v1/events", headers=headers))
            lines = stream.iter_lines()
            assert next(lines)
            for _ in range(300):
                stack.enter_context(socket.create_connection(("127.0.0.1", api.port)))
            for _ in range(3):
                assert httpx.get(f"{api.url}/readyz", trust_env=False).status_code == 200
            wait_until(lambda: len(list(Path(f"/proc/{api.child.pid}/fd").iterdir())) < 128, "room")
            backend.create("usr_2")
            assert stream.status_code == 200 and next(lines) is not None, "what is in use stays"
    finally:
        api.stop()
    assert log.read_text().count("idle ones are closed") == 1 and "Too many open files" not in log.read_text()
