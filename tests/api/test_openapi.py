"""The document is made from the rows, says everything about each of them, and is the one that is committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.api import docs, openapi
from app.api.operation import Operation
from app.api.operations import OPERATIONS

COMMITTED = Path(__file__).parent / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(openapi.encoded(OPERATIONS))


def test_the_committed_document_is_the_generated_one() -> None:
    assert COMMITTED.read_bytes() == openapi.encoded(OPERATIONS), "run `make openapi`"


def test_no_two_rows_share_a_name_or_a_place() -> None:
    assert len({row.name for row in OPERATIONS}) == len(OPERATIONS)
    assert len({(row.method, row.path) for row in OPERATIONS}) == len(OPERATIONS)


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
def test_every_row_says_who_may_call_and_what_can_go_wrong(row: Operation) -> None:
    entry = DOCUMENT["paths"][row.path][row.method.lower()]
    assert entry["operationId"] == row.name
    assert str(row.status) in entry["responses"]
    assert {"400", "414", "431", "500"} <= entry["responses"].keys()
    assert ("401" in entry["responses"]) == (row.credential != "none")
    assert bool(entry["security"]) == (row.credential != "none")
    known = DOCUMENT["components"]["securitySchemes"]
    assert all(name in known for choice in entry["security"] for name in choice)
    if row.body is not None:
        assert {"413", "415", "422"} <= entry["responses"].keys()


def test_every_reference_leads_somewhere() -> None:
    prefix = "#/components/schemas/"
    shapes = DOCUMENT["components"]["schemas"]
    assert [ref for ref in references(DOCUMENT) if ref.removeprefix(prefix) not in shapes] == []


def test_a_path_that_has_a_variable_declares_it() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for entry in methods.values():
            given = [f"{{{p['name']}}}" for p in entry.get("parameters", []) if p["in"] == "path"]
            assert given == [part for part in path.split("/") if part.startswith("{")]


def test_a_session_has_its_eleven_fields_always() -> None:
    assert DOCUMENT["components"]["schemas"]["SessionView"]["required"] == [
        "id",
        "user_id",
        "tenant_id",
        "status",
        "user_agent",
        "ip_address",
        "country",
        "device_type",
        "created_at",
        "last_active_at",
        "expires_at",
    ]


def test_the_page_names_every_call_and_runs_nothing() -> None:
    page = docs.render(DOCUMENT).decode()
    assert all(f'id="{row.name}"' in page for row in OPERATIONS)
    assert "<script" not in page and "://" not in page


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        found = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return found + [ref for inner in part.values() for ref in references(inner)]
    return [ref for inner in part for ref in references(inner)] if isinstance(part, list) else []
