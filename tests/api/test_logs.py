"""What an operator finds in the log: every refusal and failure, in lines of one form that name no secret."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from app.api.call import Site
from app.api.http import Door
from app.api.logs import Log
from app.api.metrics import Metrics
from app.api.operations import OPERATIONS
from app.log import JsonLines
from tests.api.test_matrix import ROWS
from tests.api.world import World, a_world, bearer
from tests.servers import Durable, wait_until
from tests.service import Api

NOW = 1_705_312_200_123
NAMES = {operation.name for operation in OPERATIONS} | {"none"}


class Line(msgspec.Struct, forbid_unknown_fields=True, rename={"source": "from"}):
    """What a line about a request says, all of it and nothing else."""

    at: str
    level: str
    source: str
    message: str
    status: int
    request_id: str
    method: str
    path: str
    operation: str
    tenant_id: str | None
    key_id: str | None
    code: str | None
    ms: float


@pytest.fixture
async def world(own_server: Any) -> AsyncIterator[World]:
    async with a_world(own_server.url, HELLOJOHN_READS_PER_MINUTE="3") as found:
        found.door.log = Log("debug")
        yield found


async def test_every_line_of_a_run_has_the_same_form(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    asked = 0
    for operation in OPERATIONS:
        for credential in world.credentials:
            path, more = await ROWS[operation.name][0].build(world, "own")
            await world.call(operation.method, path, credential, **more)
            asked += 1
    lines = [msgspec.json.decode(text, type=Line) for text in capsys.readouterr().err.splitlines()]
    assert len(lines) == asked
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.at)
        assert (line.source, line.message, line.operation in NAMES) == ("app.api", "request", True)
        assert (line.code is None) == (line.status < 400)
        assert line.key_id is None or re.fullmatch("[0-9A-Z]{16}", line.key_id)
    assert {line.key_id is None for line in lines} == {line.tenant_id is None for line in lines} == {True, False}


async def test_each_refusal_and_failure_is_on_a_line_with_its_code(
    world: World, own_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Failed logins of machines, missing rights, theft, wrong requests, quotas, a store that is away (LOG-04)."""
    key_id, key = await world.key(world.own)
    _, narrow = await world.key(world.own, scopes=frozenset({"stats:read"}))
    issued = await world.session("own")
    sessions, refresh = "/v1/sessions", "/v1/sessions/refresh"

    async def code_of(method: str, path: str, sent: dict[str, str], **json: Any) -> str:
        capsys.readouterr()
        answer = await world.http.request(method, path, headers=sent, json=json or None)
        line = json_of(capsys.readouterr().err)
        assert (line["status"], line["code"]) == (answer.status_code, answer.json()["code"])
        assert line["request_id"] == answer.headers["x-request-id"]
        return f"{line['code']} {line['key_id'] or ''}".strip()

    mine = bearer(key)
    assert await code_of("GET", sessions, bearer("sk_live_" + "0" * 63)) == "invalid_api_key"
    assert await code_of("GET", sessions, {}) == "missing_token"
    assert await code_of("GET", sessions, bearer(narrow)) == "insufficient_scope"
    assert await code_of("GET", sessions, {**mine, "X-Tenant-ID": world.foreign.id}) == "tenant_mismatch"
    assert await code_of("POST", sessions, mine, user_id="a\tb") == f"validation_error {key_id}"
    tokens = [issued.refresh_token]
    for _ in range(2):
        again = await world.http.post(refresh, json={"refresh_token": tokens[-1]})
        tokens.append(again.json()["refresh_token"])
    assert await code_of("POST", refresh, {}, refresh_token=tokens[0]) == "refresh_token_reused"
    for _ in range(3):
        await world.http.get(sessions, headers=mine)
    assert await code_of("GET", sessions, mine) == f"rate_limited {key_id}"
    own_server.stop()
    assert await code_of("POST", sessions, mine, user_id="u") == f"store_unavailable {key_id}"


@pytest.mark.parametrize(("level", "expected"), [("info", [503, 200, 503, 200]), ("error", [503, 503])])
def test_a_probe_is_logged_when_its_answer_changes(
    own_server: Durable, tmp_path: Path, level: str, expected: list[int]
) -> None:
    log = tmp_path / "log"
    api = Api(own_server.url, HELLOJOHN_LOG=level, LOG_FILE=str(log))
    try:
        for _ in range(2):
            own_server.stop()
            assert {api.http.get("/readyz").status_code for _ in range(6)} == {503}
            assert api.http.post("/readyz").status_code == 405
            own_server.start()
            wait_until(lambda: api.http.get("/readyz").status_code == 200, "the process to be ready")
            assert {api.http.get("/readyz").status_code for _ in range(6)} == {200}
        asked = api.http.get("/metrics").text
    finally:
        api.stop()
    lines = [json.loads(text) for text in log.read_text().splitlines() if '"getReadiness"' in text]
    said = [(line["status"], line["code"]) for line in lines if line["status"] != 405]
    assert said == [(status, "store_unavailable" if status == 503 else None) for status in expected]
    counted = re.search(r'operation="getReadiness",status="503"} (\d+)', asked)
    assert counted is not None and int(counted[1]) >= 12, "each is counted"


def json_of(text: str) -> dict[str, Any]:
    """The last line."""
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/sessions/ses_secret/more", (404, "GET", "/v1/sessions/*/*")),
        ("PUT", "/v1/sessions/ses_secret", (405, "PUT", "/v1/sessions/*")),
        ("BREW", "/.env", (404, "other", "/*")),
        ("POST", "/" + "a/" * 50, (404, "POST", "/*" * 6)),
        ("POST", "/v1/sessions/end?token=secret", (400, "POST", "/v1/sessions/end")),
    ],
)
async def test_a_refusal_is_logged_with_its_method_and_the_class_of_its_path(
    method: str, path: str, expected: tuple[int, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    door = Door(OPERATIONS, Site(Metrics(), b"{}", b""), lambda: NOW, Log("info"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://api") as client:
        answer = await client.request(method, path)
    written = capsys.readouterr().err
    line = json.loads(written)
    assert (line["status"], line["method"], line["path"]) == expected
    assert (line["at"], line["level"], line["from"]) == ("2024-01-15T09:50:00.123+00:00", "info", "app.api")
    assert line["code"] == answer.json()["code"]
    assert "secret" not in written


def test_every_process_begins_its_lines_alike() -> None:
    record = logging.LogRecord("worker.sweep", logging.WARNING, "", 0, "swept %d", (3,), None)
    line = json.loads(JsonLines().format(record))
    assert list(line) == ["at", "level", "from", "message"]
    assert (line["level"], line["from"], line["message"]) == ("warning", "worker.sweep", "swept 3")
