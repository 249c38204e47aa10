"""`make run`: everything on one machine, in one terminal, with nothing set up beforehand.

Starts an embedded server (unless REDIS_URL names one), the API and the worker, makes a first tenant and
prints what to try. Data and secrets stay in `.data/`, so that a second run finds them again.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from app.client.redis_address import RedisAddress, parse_address
from app.embedded import Embedded, EmbeddedError, dies_with_parent
from app.settings import SettingError, Settings

_READY_S = 60.0
_TERM_S = 6.0
_LIVED_LONG_S = 30.0

_TRY = """
HelloJohn Sessions is up: {url}

  dashboard      {url}/dashboard   (sign in with the API key below or the admin key)
  documentation  {url}/docs
  tenant         {tenant_id}
  API key        {api_key}
  both, and the admin key, are in {file}

Paste this to create a session and to verify its access token:

  URL={url}; API_KEY={api_key}
  TOKEN=$(curl -sS $URL/v1/sessions -H "Authorization: Bearer $API_KEY" \\
    -H 'Content-Type: application/json' -d '{{"user_id":"usr_01HABCDEF123456"}}' \\
    | tee /dev/stderr | sed -n 's/.*"access_token": *"\\([^"]*\\)".*/\\1/p'); echo
  curl -sS $URL/v1/sessions/verify -H "Authorization: Bearer $API_KEY" \\
    -H 'Content-Type: application/json' -d '{{"token":"'$TOKEN'"}}'; echo

Ctrl-C stops everything; the data stays.
"""


class DevError(RuntimeError):
    """Why `make run` cannot go on, in words for the person at the terminal."""


class Child:
    """One of our programs, started as `python -m <module>`; its output goes through."""

    def __init__(self, name: str, module: str, env: Mapping[str, str]) -> None:
        self.name = name
        self._command, self._env = [sys.executable, "-m", module], dict(env)
        self.start()

    def start(self) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self._command,
            env=self._env,
            process_group=0,  # Ctrl-C is for us: we end the children in order
            preexec_fn=dies_with_parent(signal.SIGKILL),
        )


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    folder = Path(os.environ.get("HELLOJOHN_DATA", "").strip() or ".data")
    try:
        with ExitStack() as stack:
            try:
                _run(stack, folder)
            finally:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not cut the stopping short
    except KeyboardInterrupt:
        _say("stopped")
    except (DevError, SettingError, EmbeddedError) as error:
        _say(str(error))
        return 1
    return 0


def _run(stack: ExitStack, folder: Path) -> None:
    settings = Settings.from_env()
    _lock(stack, folder / "run.lock")
    _check_port(settings)
    servers = _servers(folder, settings)
    env = dict(os.environ, HELLOJOHN_DATA=str(folder))
    if not env.get("HELLOJOHN_ISSUER", "").strip() and "REDIS_URL" in servers:  # then it follows the port
        env["HELLOJOHN_ACCEPT"] = f"{env.get('HELLOJOHN_ACCEPT', '')} issuer"
    for name, server in servers.items():
        stack.callback(server.stop)
        env[name] = server.start().url
        _keep_port(server)
    if "REDIS_URL" not in servers:
        _say(f"using the server that REDIS_URL names, {settings.redis_url.place}")
    children: list[Child] = []
    stack.callback(_stop, children)
    children.append(Child("API", "app.main", env))
    children.append(Child("worker", "worker.main", env))
    supervision = _supervise(children, list(servers.values()))
    url = _address(settings, settings.port)
    _wait_until_ready(url, supervision)
    inside = _address(settings, settings.admin_port or settings.port)
    kept = _first_tenant(url, inside, settings.admin_key, _read(folder / "dev.env"))
    kept |= {"ADMIN_KEY": settings.admin_key, "REDIS_URL": env["REDIS_URL"].strip()}
    kept["HELLOJOHN_ISSUER"] = settings.issuer
    _write(folder / "dev.env", {"HELLOJOHN_URL": url} | kept)
    shown = _TRY.format(url=url, tenant_id=kept["TENANT_ID"], api_key=kept["API_KEY"], file=folder / "dev.env")
    print(shown, flush=True)
    for _ in supervision:
        time.sleep(0.2)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(f"make run: {text}", file=sys.stderr, flush=True)


def _lock(stack: ExitStack, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = stack.enter_context(path.open("a"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DevError(f"already running with the data in {path.parent}; stop it first (Ctrl-C there)") from None


def _check_port(settings: Settings) -> None:
    error = _why_not(settings.host, settings.port)
    if error is not None:
        reason = f"port {settings.port} on {settings.host} cannot be used ({error})"
        raise DevError(f"{reason}; choose another one: PORT={settings.port + 1} make run")


def _why_not(host: str, port: int) -> str | None:
    """Why a port cannot be listened on; `None` if it can."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def _servers(folder: Path, settings: Settings) -> dict[str, Embedded]:
    """The embedded servers that are needed, by the setting that names them. arq cannot use a cluster.

    They keep their port where they can, so that a terminal that has read dev.env goes on to work, and a REDIS_URL that
    is only a copy of ours is no other server."""
    port = _kept_port(folder / "valkey")
    if not os.environ.get("REDIS_URL", "").strip() or _is_kept(settings.redis_url, port):
        return {"REDIS_URL": _embedded(folder / "valkey")}
    if settings.redis_url.cluster and settings.arq_redis_url is None:
        return {"ARQ_REDIS_URL": _embedded(folder / "queue")}
    return {}


def _is_kept(address: RedisAddress, port: int | None) -> bool:
    return port is not None and address == parse_address(f"redis://127.0.0.1:{port}/0")


def _embedded(folder: Path) -> Embedded:
    port = _kept_port(folder)
    return Embedded(folder, port if port and _why_not("127.0.0.1", port) is None else None)


def _kept_port(folder: Path) -> int | None:
    try:
        return int((folder / "port").read_text())
    except (OSError, ValueError):
        return None


def _keep_port(server: Embedded) -> None:
    (server.folder / "port").write_text(str(server.port))


def _stop(children: list[Child]) -> None:
    for child in children:
        child.process.terminate()
    until = time.monotonic() + _TERM_S
    for child in children:
        try:
            child.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()


def _supervise(children: list[Child], servers: list[Embedded]) -> Iterator[None]:
    """Each step looks once. A dead worker is started again, later each time; any other death ends the run."""
    pause, start_at = 0.5, 0.0
    while True:
        if not all(server.alive for server in servers):
            raise DevError("the embedded server ended; its log is server.log beside its data")
        for child in children:
            code = child.process.poll()
            if code is None:
                continue
            if child.name != "worker":
                raise DevError(f"the {child.name} ended with code {code}; stopping the rest")
            if not start_at:
                pause = 0.5 if time.monotonic() - child.started > _LIVED_LONG_S else min(2 * pause, 30.0)
                start_at = time.monotonic() + pause
                _say(f"the worker ended with code {code}; starting it again in {pause:g} s")
            elif time.monotonic() >= start_at:
                start_at = 0.0
                child.start()
        yield


def _address(settings: Settings, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - not bound here
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _wait_until_ready(url: str, supervision: Iterator[None]) -> None:
    until = time.monotonic() + _READY_S
    status, answer = _call("GET", f"{url}/readyz")
    while status != 200:
        if time.monotonic() > until:
            detail = answer.get("detail", answer) if isinstance(answer, dict) else answer
            raise DevError(f"the API was not ready within {_READY_S:g} s ({detail}); does REDIS_URL name a server?")
        next(supervision)
        time.sleep(0.1 if status == 0 else 0.5)
        status, answer = _call("GET", f"{url}/readyz")


def _first_tenant(url: str, inside: str, admin_key: str, kept: Mapping[str, str]) -> dict[str, str]:
    """The tenant and key of an earlier run while they still work, or new ones. `inside`: where the operator calls."""
    tenant_id, api_key = kept.get("TENANT_ID", ""), kept.get("API_KEY", "")
    if tenant_id and api_key:
        status, _ = _call("GET", f"{url}/v1/admin/config", api_key, headers={"X-Tenant-ID": tenant_id})
        if status == 200:
            return {"TENANT_ID": tenant_id, "API_KEY": api_key}
    tenants = f"{inside}/v1/admin/tenants"
    tenant_id = _created(_call("POST", tenants, admin_key, {"name": "Development"}))["id"]
    made = _created(_call("POST", f"{tenants}/{tenant_id}/api-keys", admin_key, {"name": "make run"}))
    return {"TENANT_ID": tenant_id, "API_KEY": made["key"]}


def _created(reply: tuple[int, Any]) -> Any:
    status, answer = reply
    if status not in (200, 201):
        raise DevError(f"the first tenant could not be made: {status} {answer}")
    return answer


def _call(
    method: str, url: str, bearer: str = "", body: object = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    """Status and decoded answer; status 0 when nobody answers. Never through a proxy: it is this machine."""
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}))  # noqa: S310 - built here
    if bearer:
        request.add_header("Authorization", f"Bearer {bearer}")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as reply:
            return reply.status, _decoded(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _decoded(error.read())
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)


def _decoded(body: bytes) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(body)
    return body.decode(errors="replace")


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


def _write(path: Path, values: Mapping[str, str]) -> None:
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
    fresh.replace(path)


if __name__ == "__main__":
    sys.exit(main())
