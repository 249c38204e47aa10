"""What people read when something is refused: rules in words, and lines of a log that say enough."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest

from app.api import strict_json
from app.api.call import Site
from app.api.http import Door
from app.api.logs import Log
from app.api.metrics import Metrics
from app.api.operations import OPERATIONS
from app.api.schema import CreateSession, NewApiKey, UpdateSession
from app.errors import ValidationError
from app.log import JsonLines

NOW = 1_705_312_200_123
SHAPES = [shape for row in OPERATIONS for shape in (row.body, row.query) if shape is not None]


def test_every_pattern_has_its_rule_in_words() -> None:
    found = {pattern: words for shape in SHAPES for pattern, words in strict_json.described(shape).items()}
    assert len(found) >= 4
    assert [pattern for pattern, words in found.items() if not words] == []


@pytest.mark.parametrize(
    ("shape", "sent", "said"),
    [
        (CreateSession, {"user_id": "a b"}, "user_id: must be 1-128 visible ASCII characters"),
        (CreateSession, {"user_id": "u", "country": "us"}, "country: must be two capital letters, ISO 3166-1 alpha-2"),
        (UpdateSession, {"role": "\u00e9"}, "role: must be 1-128 visible ASCII characters"),
        (NewApiKey, {"name": "a\nb"}, "name: must be 1-128 characters, no control characters"),
        (NewApiKey, {"name": 1}, "name: Expected `str`, got `int`"),
    ],
)
def test_a_text_of_another_form_is_refused_in_words(shape: Any, sent: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        strict_json.shaped(sent, shape)
    assert refused.value.detail == said


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/sessions/ses_secret/more", (404, "GET", "/v1/sessions/*/*")),
        ("PUT", "/v1/sessions/ses_secret", (405, "PUT", "/v1/sessions/*")),
        ("BREW", "/.env", (404, "other", "/*")),
        ("POST", "/" + "a/" * 50, (404, "POST", "/*" * 6)),
        ("GET", "/livez?token=secret", (400, "GET", "/livez")),
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
